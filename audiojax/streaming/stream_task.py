"""The training task of a streaming recogniser: report each word of a continuous stream when it ends."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax.data.clips import Batch
from audiojax.data.loading import Data
from audiojax.inference import Trained
from audiojax.models.gru import StreamOutputs, start_of_stream
from audiojax.streaming import report, sampler, scenes, scoring, training_streams
from audiojax.streaming.decoder import Decoder
from audiojax.training.metrics import Metrics
from audiojax.training.runlog import RunLog
from audiojax.training.sharding import Mesh
from audiojax.training.steps import cross_entropy
from audiojax.training.task import Guard

TIMES_WEIGHT = 2.0  # of the error in seconds, against the cross-entropy in nats
COPIES_WEIGHT = 2.0  # of the cross-entropy of the copies
step_loss = cross_entropy  # experiments/streaming/losses.py compares others


@dataclass(frozen=True, eq=False)
class StreamTask:
    """The task of predicting, at each step of a continuous stream, the word that has just ended, if any.

    It provides the training loop with the batches, the loss and the scores of the run with `config` and `data`.
    """

    config: ConfigDict
    data: Data
    train_metric: ClassVar[str] = "frame_accuracy"

    @property
    def num_outputs(self) -> int:
        """Returns the number of classes: one for each word, plus one for "no word has just ended"."""
        return len(self.data.clips.label_names) + 1

    def batches(self, rows: slice) -> sampler.StreamBatches:
        """Returns the training batches: segments of streams composed of the training clips and other sound.

        Only `rows` of each batch are computed.
        """
        return training_streams.stream_batches(self.config, *self.data.training(), rows)

    def initial_carry(self, model: nn.Module, variables: dict[str, Any]) -> Any:
        """Returns the network's state before the first step of a stream, for each row of a batch."""
        return start_of_stream(model, variables, self.config.train.batch_size)

    def loss(
        self, model: nn.Module, variables: dict[str, Any], carry: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]:
        """Computes the loss of a batch of stream segments: the cross-entropy of all steps, the times and the copies.

        `carry` is the network's state after the batch before; it is the initial one in rows with `batch["reset"]`.

        Returns:
            The loss f32[], and a tuple: the logits f32[B, N, labels + 1], updated batch statistics, and the next carry.
        """
        how: dict[str, Any] = dict(train=True, mutable=["batch_stats"], rngs={"dropout": dropout_key})
        fresh = start_of_stream(model, variables, batch["label"].shape[0])
        carry = jax.tree.map(lambda x, y: jax.vmap(jnp.where)(batch["reset"] > 0, x, y), fresh, carry)
        (carry, outputs), updates = model.apply(variables, carry, batch["audio"], method="listen", **how)
        logits, times, more = StreamOutputs.of(outputs, self.num_outputs - 1)
        loss = step_loss(logits, batch, self.config.train.label_smoothing) + times_loss(times, batch, self.num_outputs)
        if more.shape[-1]:
            loss += copies_loss(more, batch)
        return loss, (logits, updates, carry)

    @functools.cached_property
    def _strings(self) -> dict[str, list[scenes.Plan]]:
        split, number = self.data.split, self.config.streams.num_strings
        return {part: scoring.strings(self.data.clips, getattr(split, part), number) for part in split._fields[1:]}

    @functools.cached_property
    def _rendered(self) -> dict[str, list[scenes.Scene]]:
        return {}  # the same in every epoch

    def score(self, model: nn.Module, variables: dict[str, Any], part: str, mesh: Mesh, guard: Guard) -> Metrics:
        """Returns the loss and the confusion matrix on strings of words, alternately clean and at an SNR of 10 dB.

        The strings are composed of the clips of `part`, "validation" or "test"; they are the same in every epoch.
        `guard` ends the computation of their sound after Ctrl-C.
        """
        clips = self.data.clips
        if part not in self._rendered:
            self._rendered[part] = [scenes.render(plan, clips) for plan in guard(self._strings[part])]
        strings, decoder = list(guard(self._rendered[part])), Decoder(**self.config.decoder)
        return scoring.score(model, variables, decoder, strings, clips.label_names, clips.rate_hz)

    def report(
        self, model: nn.Module, variables: dict[str, Any], step: int, workdir: Path, log: RunLog
    ) -> dict[str, Any]:
        """Evaluates the best `variables` of a finished run, writes plots and summary.json, and returns its content.

        `step` is the training step of these variables.
        """
        run = Trained(self.config, self.data.record(), model, jax.device_put(variables), step)
        return report.finish(run, self.data, workdir, log)

    def sentence(self, content: dict[str, Any]) -> str:
        """Returns the content of summary.json as one sentence."""
        return report.sentence(content)

    def warning(self) -> None:
        """Returns None: streams have no clips that could be truncated."""


def times_loss(times: jax.Array, batch: Batch, num_outputs: int) -> jax.Array:
    """Returns the weighted absolute error f32[] of the predicted `times` f32[B, N, 2] at the steps after a word's end.

    The times are the seconds since the start and the end of the word. `num_outputs` is the number of labels plus one.
    """
    ended = jnp.where(batch["label"] < num_outputs - 1, batch["mask"], 0.0)
    late = jnp.sum(jnp.abs(times - batch["times"]), axis=-1)
    return TIMES_WEIGHT * jnp.sum(late * ended) / jnp.sum(batch["mask"])


def copies_loss(more: jax.Array, batch: Batch) -> jax.Array:
    """Returns the weighted cross-entropy f32[] of how many times a word counts, at the steps around its end.

    `more` f32[B, N, 2] has logits that the word counts more than once, and more than twice. Steps whose
    `batch["copies"]` is 0 do not count.
    """
    copies = batch["copies"][..., None]
    is_more = copies > jnp.arange(1, more.shape[-1] + 1, dtype=jnp.int32)[None, None]
    wrong = jnp.where(copies > 0, optax.sigmoid_binary_cross_entropy(more, is_more.astype(more.dtype)), 0.0)
    return COPIES_WEIGHT * jnp.sum(wrong) / jnp.sum(batch["mask"])
