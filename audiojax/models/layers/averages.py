"""Averages over the steps of a recurrent network: of its outputs, for the readout, and of its frames."""

import jax
import jax.numpy as jnp

from audiojax.models.layers.cells import linear_scan

# The averages over the last layer's outputs that the logits depend on: the factor by which an output's weight decays
# with each step after it.
READOUTS = {"last": (0.0,), "mean": (1.0,), "running": (0.96,), "last_and_mean": (0.0, 1.0)}


def running_levels(level: jax.Array, x: jax.Array, decay: float) -> jax.Array:
    """Returns the running mean after each of the N frames `x` f32[N, B, bands], in the same shape.

    It begins with `level` f32[B, bands]; each frame multiplies it by `decay` and adds 1 - `decay` times the frame.
    """
    return linear_scan(level, jnp.full_like(x, decay), (1 - decay) * x)


def readout_weights(readout: str, ends: jax.Array, num_steps: int) -> jax.Array:
    """Returns the weight of each step's output in the averages that the logits depend on, f32[averages, N, B].

    `readout` is a key of `READOUTS`, which sets the number of averages and how weights decay with age. N is
    `num_steps`. Only the first `ends` i32[B] steps of a clip have a weight; for each average they sum to 1.
    """
    ahead = ends[None, :] - 1 - jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    decay = jnp.asarray(READOUTS[readout])[:, None, None] ** jnp.maximum(ahead, 0).astype(jnp.float32)[None]
    weight = jnp.where(ahead[None] >= 0, decay, 0.0)
    return weight / weight.sum(axis=1, keepdims=True)
