"""Sound in chunks of any size through a recurrent network: its logits after every step."""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn


class Stream:
    """What a network says while it listens. The same sound gives the same logits, however it is cut into chunks."""

    def __init__(self, model: nn.Module, variables: dict[str, Any]):
        """`model` has `initial_carry` and `step`, as `models.gru.GRU` has."""
        self._model, self._variables = model, variables
        self._num_labels, self._step_samples = model.num_labels, model.step_samples
        self.reset()

    def reset(self) -> None:
        """Forgets all that was heard."""
        self._carry = self._model.apply(self._variables, 1, method="initial_carry")
        self._rest = np.empty(0, np.int16)

    def feed(self, audio: np.ndarray) -> np.ndarray:
        """The logits f32[n, labels] after each of the n steps that `audio` i16[t] makes whole; the rest waits."""
        audio = np.concatenate([self._rest, audio])
        whole = len(audio) // self._step_samples * self._step_samples
        self._rest = audio[whole:]
        logits = []
        for heard in audio[:whole].reshape(-1, self._step_samples):
            self._carry, said = _step(self._model, self._variables, self._carry, heard[None])
            logits.append(np.asarray(said))
        return np.concatenate(logits) if logits else np.empty((0, self._num_labels), np.float32)

    def flush(self) -> np.ndarray:
        """The logits after the rest, made a step by zeros, as at the end of a clip; none where there is no rest."""
        return self.feed(np.zeros(-len(self._rest) % self._step_samples, np.int16))


@functools.partial(jax.jit, static_argnums=0)
def _step(model: nn.Module, variables: dict[str, Any], carry: Any, audio: jax.Array) -> Any:
    return model.apply(variables, carry, audio, method="step")
