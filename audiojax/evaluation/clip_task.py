"""The task of a clip classifier: predict one label for each clip."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax.data import batches
from audiojax.data.clips import Batch
from audiojax.data.loading import Data
from audiojax.evaluation import classify, summary
from audiojax.inference import Trained
from audiojax.training.metrics import Metrics
from audiojax.training.runlog import RunLog
from audiojax.training.sharding import Mesh, local_rows
from audiojax.training.steps import clip_loss, make_eval_step
from audiojax.training.task import Guard

RARE = 0.01  # share of clips that may be truncated without a warning


@dataclass(frozen=True, eq=False)
class ClipTask:
    """The task of predicting one label for each clip; provides the training loop with data, loss and scores."""

    config: ConfigDict
    data: Data
    train_metric: ClassVar[str] = "accuracy"

    @property
    def num_outputs(self) -> int:
        """Returns the number of labels."""
        return len(self.data.clips.label_names)

    def batches(self, rows: slice) -> batches.Epochs:
        """Returns the training clips in batches, reshuffled in each epoch; of each batch only `rows` are read."""
        shape, stretch = configs.batch_shape(self.config), 1 + self.config.augment.speed
        return batches.Epochs(*self.data.training(), **shape, rows=rows, stretch=stretch, seed=self.config.seed)

    def initial_carry(self, model: nn.Module, variables: dict[str, Any]) -> Any:
        """Returns an empty dict: no state is carried from batch to batch, because clips are independent."""
        return {}

    def loss(
        self, model: nn.Module, variables: dict[str, Any], carry: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]:
        """Computes the cross-entropy of a batch of clips.

        `variables` are {"params", "batch_stats"} of `model`, and `dropout_key` is the random key of dropout.

        Returns:
            The loss f32[], and a tuple: the logits f32[B, labels], the updated statistics of BatchNorm, under
            "batch_stats" if there are any, and `carry`, unchanged.
        """
        return clip_loss(self.config.train.label_smoothing)(model, variables, carry, batch, dropout_key)

    def score(self, model: nn.Module, variables: dict[str, Any], part: str, mesh: Mesh, guard: Guard) -> Metrics:
        """Returns the loss and the confusion matrix on the clips of a part of the split, "validation" or "test".

        `variables` are {"params", "batch_stats"} of `model`, `mesh` has the devices that share the work, and `guard`
        wraps an iterator so that it stops after Ctrl-C. Each clip counts once.
        """
        clips, indices = self.data.clips, getattr(self.data.split, part)
        shape, rows = configs.batch_shape(self.config), local_rows(self.config.train.batch_size)
        parts = batches.evaluation(clips, indices[batches.by_length(clips, indices)], **shape, rows=rows)
        return classify.score(make_eval_step(model), variables, guard(parts), self.num_outputs, mesh)

    def report(
        self, model: nn.Module, variables: dict[str, Any], step: int, workdir: Path, log: RunLog
    ) -> dict[str, Any]:
        """Evaluates a finished run on its test clips, writes plots, report.html and summary.json into `workdir`.

        Returns the content of summary.json. `variables` are those of the best checkpoint, and `step` is its training
        step. `log` also gets the plots.
        """
        run = Trained(self.config, self.data.record(), model, jax.device_put(variables), step)
        return summary.report(run, self.data, workdir, log)

    def sentence(self, content: dict[str, Any]) -> str:
        """Returns the content of summary.json as a sentence on the test accuracy."""
        return summary.sentence(content)

    def warning(self) -> str | None:
        """Returns a warning if at least 1 % of the clips are truncated to the length of a batch, otherwise None."""
        limit, all_clips = self.config.train.length_samples, (self.data.clips, self.data.extra)
        length = np.concatenate([clips.length for clips in all_clips if clips])
        cut, rate_hz = length > limit, self.data.clips.rate_hz
        if cut.mean() < RARE:
            return None
        needed = -(-int(np.percentile(length, 100 * (1 - RARE))) // 100) * 100
        return (
            f"{cut.mean():.0%} of the clips are longer than config.train.length_samples, {limit:,} "
            f"({limit / rate_hz:.2f} s at {rate_hz:,} Hz), and are truncated, in the median by "
            f"{np.median(1 - limit / length[cut]):.0%}. Set --config.train.length_samples={needed} to keep them whole."
        )
