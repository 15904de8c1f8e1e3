"""A trained run, opened for use: all that evaluate, predict and their like need, from its workdir alone."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax import checkpoint, models
from audiojax import config as configs


@dataclass(frozen=True)
class Trained:
    """A network with its parameters, and the names of what it tells apart."""

    config: ConfigDict
    data: dict  # what config.json records of the data: source, key, label_names
    model: nn.Module
    variables: dict
    step: int

    @classmethod
    def load(cls, workdir: Path, which: str = "best") -> "Trained":
        """The run in `workdir` at its "best" or "last" checkpoint. Raises InputError where there is none."""
        config, data = configs.load(workdir)
        model = models.build(**config.model, num_labels=len(data["label_names"]))
        variables, step = checkpoint.restore_variables(workdir, which)
        return cls(config, data, model, jax.device_put(variables), step)

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(self.data["label_names"])

    def logits(self, audio: np.ndarray, length: np.ndarray) -> np.ndarray:
        """f32[B, labels] of `audio` i16[B, T], zero right-padded, and `length` i32[B]."""
        return np.asarray(_apply(self.model, self.variables, audio, length))


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: dict, audio: jax.Array, length: jax.Array) -> Any:
    return model.apply(variables, audio, length)
