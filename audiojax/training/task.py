"""The interface between the training loop and what is learned."""

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

Guard = Callable[[Any], Iterator[Any]]  # passes items on, and lets Ctrl-C through between two of them


class Batches(Protocol):
    """An endless sequence of batches; batch k is a function of the seed and k."""

    num_steps: int  # in an epoch
    clips_per_step: float  # clips, or streams, that a batch has on average

    def __call__(self, start: int, stop: int) -> Iterator[Batch]:
        """Returns batches `start` to `stop` (exclusive)."""


class Task(Protocol):
    """What is learned from which data. Neither the loop nor a step knows more of it than this."""

    train_metric: ClassVar[str]  # what a training step's accuracy is called

    @property
    def config(self) -> ConfigDict:
        """Returns the config of the run."""

    @property
    def data(self) -> Data:
        """Returns what it is trained and scored on."""

    @property
    def num_outputs(self) -> int:
        """Returns the number of classes of the metrics."""

    def warning(self) -> str | None:
        """Returns a sentence about data that training cannot use as it is; None where there is nothing to say."""

    def batches(self, rows: slice) -> Batches:
        """Returns the training batches, of each only `rows`."""

    def initial_carry(self, model: nn.Module, variables: dict[str, Any]) -> Any:
        """Returns the state that a batch hands to the next one, before the first; an empty tree for none."""

    def loss(
        self, model: nn.Module, variables: dict[str, Any], carry: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]:
        """Returns the loss f32[], and (logits f32[..., classes], updated batch statistics, the next carry)."""

    def score(self, model: nn.Module, variables: dict[str, Any], part: str, mesh: Mesh, guard: Guard) -> Metrics:
        """Returns the sums over a part of the split."""

    def report(
        self, model: nn.Module, variables: dict[str, Any], step: int, workdir: Path, log: RunLog
    ) -> dict[str, Any]:
        """Scores the best `variables` of a run that has ended, draws, and writes summary.json; returns its content."""

    def sentence(self, summary: dict[str, Any]) -> str:
        """Returns a summary in words. Raises LookupError, TypeError or ValueError for what is none."""
