"""What comes before a network: the scale of samples."""

import jax
import jax.numpy as jnp


def to_unit_range(audio: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[B, T] in [-1, 1] of `audio` [B, T] in 16-bit units, [-32768, 32767]: every network's first operation."""
    return (audio.astype(jnp.float32) / 32768.0).astype(dtype)
