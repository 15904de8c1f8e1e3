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
    """An endless sequence of batches; batch k is a function of the seed and k."""

    num_steps: int  # per epoch
    clips_per_step: float  # mean number of clips, or streams, per batch

    def __call__(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields batches `start` to `stop` (exclusive)."""


class Task(Protocol):
    """Data, loss and evaluation of a training run; the loop and the steps use this interface only."""

    train_metric: ClassVar[str]  # name of the training accuracy

    @property
    def config(self) -> ConfigDict:
        """Returns the config of the run."""

    @property
    def data(self) -> Data:
        """Returns the data of the run."""

    @property
    def num_outputs(self) -> int:
        """Returns the number of classes of the metrics."""

    def warning(self) -> str | None:
        """Returns a warning about the data; None if there is none."""

    def batches(self, rows: slice) -> Batches:
        """Returns the training batches; of each batch only `rows` are computed."""

    def initial_carry(self, model: nn.Module, variables: dict[str, Any]) -> Any:
        """Returns the initial value of the state that is carried from batch to batch; an empty tree for none."""

    def loss(
        self, model: nn.Module, variables: dict[str, Any], carry: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]:
        """Returns the loss f32[], and (logits f32[..., classes], updated batch statistics, the next carry)."""

    def score(self, model: nn.Module, variables: dict[str, Any], part: str, mesh: Mesh, guard: Guard) -> Metrics:
        """Returns the metrics of a part of the split."""

    def report(
        self, model: nn.Module, variables: dict[str, Any], step: int, workdir: Path, log: RunLog
    ) -> dict[str, Any]:
        """Evaluates the best `variables` of a finished run, writes plots and summary.json, and returns its content."""

    def sentence(self, summary: dict[str, Any]) -> str:
        """Returns a summary as a sentence. Raises LookupError, TypeError or ValueError if it is invalid."""
