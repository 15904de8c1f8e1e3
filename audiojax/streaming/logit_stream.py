"""Feeds sound in chunks of any size to a recurrent network and returns its logits after every step."""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn


class Stream:
    """Computes the logits of a recurrent network for one continuous stream, which arrives in chunks.

    The logits depend on the sound alone, not on the sizes of its chunks.
    """

    def __init__(self, model: nn.Module, variables: dict[str, Any]):
        """Starts a stream; `model` has the methods `initial_carry` and `step`, as `models.gru.GRU` has.

        `variables` are its parameters and statistics.
        """
        self._model, self._variables = model, variables
        self._num_labels, self._step_samples = model.num_labels, model.step_samples
        self.reset()

    def reset(self) -> None:
        """Resets the network's state to the initial one and discards the samples of an incomplete step."""
        self._carry = self._model.apply(self._variables, 1, method="initial_carry")
        self._rest = np.empty(0, np.int16)

    def feed(self, audio: np.ndarray) -> np.ndarray:
        """Returns the logits f32[n, labels] after each of the n steps that the samples `audio` i16[t] complete.

        Samples of an incomplete step are kept for the next call.
        """
        audio = np.concatenate([self._rest, audio])
        whole = len(audio) // self._step_samples * self._step_samples
        self._rest = audio[whole:]
        logits = []
        for samples in audio[:whole].reshape(-1, self._step_samples):
            self._carry, of_step = _step(self._model, self._variables, self._carry, samples[None])
            logits.append(np.asarray(of_step))
        return np.concatenate(logits) if logits else np.empty((0, self._num_labels), np.float32)

    def flush(self) -> np.ndarray:
        """Returns logits f32[1, labels] of the last, incomplete step, zero-padded; f32[0, labels] if there is none."""
        return self.feed(np.zeros(-len(self._rest) % self._step_samples, np.int16))


@functools.partial(jax.jit, static_argnums=0)
def _step(model: nn.Module, variables: dict[str, Any], carry: Any, audio: jax.Array) -> Any:
    return model.apply(variables, carry, audio, method="step")
