"""The interface between the training loop and a task."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax.data.clips import Batch
from audiojax.data.loading import Data
from audiojax.training.metrics import Metrics
from audiojax.training.runlog import RunLog
from audiojax.training.sharding import Mesh

Guard = Callable[[Any], Iterator[Any]]  # yields the items, and raises Stopped between two of them after Ctrl-C


class Batches(Protocol):
    """An infinite sequence of training batches, numbered from 0; batch k is a function of the seed and k only."""

    num_steps: int  # per epoch
    clips_per_step: float  # mean number of clips, or streams, per batch

    def __call__(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields the batches with the numbers `start` to `stop` (exclusive)."""


class Task(Protocol):
    """What is trained: the data, the loss and the evaluation of a run, for example of a clip classifier.

    The training loop and its steps use this interface only.
    """

    train_metric: ClassVar[str]  # name of the training accuracy

    @property
    def config(self) -> ConfigDict:
        """Returns the config of the run."""

    @property
    def data(self) -> Data:
        """Returns the data of the run."""

    @property
    def num_outputs(self) -> int:
        """Returns the number of classes that the logits and the confusion matrix have."""

    def warning(self) -> str | None:
        """Returns a warning about the data in one or more sentences; None if there is none."""

    def batches(self, rows: slice) -> Batches:
        """Returns the training batches; of each batch, only the given `rows`, those of this process, are computed."""

    def initial_carry(self, model: nn.Module, variables: dict[str, Any]) -> Any:
        """Returns the network's initial state, which is carried from batch to batch; an empty tree if there is none."""

    def loss(
        self, model: nn.Module, variables: dict[str, Any], carry: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]:
        """Computes the loss of a training batch.

        Args:
            model: The network.
            variables: Its variables {"params", "batch_stats"}.
            carry: The state that the batch before left, at first that of `initial_carry`.
            batch: The batch.
            dropout_key: The random key of dropout.

        Returns:
            The loss f32[], and a tuple: the logits f32[..., classes], the updated statistics of BatchNorm, under
            "batch_stats" if there are any, and the carry for the next batch.
        """

    def score(self, model: nn.Module, variables: dict[str, Any], part: str, mesh: Mesh, guard: Guard) -> Metrics:
        """Returns the loss and the confusion matrix on a part of the split, "validation" or "test".

        `variables` are {"params", "batch_stats"} of `model`, `mesh` has the devices that share the work, and `guard`
        wraps an iterator so that it stops after Ctrl-C.
        """

    def report(
        self, model: nn.Module, variables: dict[str, Any], step: int, workdir: Path, log: RunLog
    ) -> dict[str, Any]:
        """Evaluates a finished run, writes plots and summary.json into `workdir`, and returns its content.

        `variables` are those of the best checkpoint, and `step` is the training step of that checkpoint. `log` also
        gets the plots.
        """

    def sentence(self, summary: dict[str, Any]) -> str:
        """Returns a summary of a run as a sentence. Raises LookupError, TypeError or ValueError if it is invalid."""
