"""What comes before a network: the scale of its samples."""

import jax
import jax.numpy as jnp


def to_unit_range(audio: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[B, T] in [-1, 1] of `audio` [B, T] in 16-bit units, [-32768, 32767]: every network's first operation."""
    return (audio.astype(jnp.float32) / 32768.0).astype(dtype)


def unit_rms(audio: jax.Array, length: jax.Array) -> jax.Array:
    """[B, T] of `audio` [B, T]: each clip at a mean power of 1 over its `length` i32[B]; silence stays silence.

    Needs the whole clip, so it is not for streams.
    """
    power = jnp.sum(jnp.square(audio.astype(jnp.float32)), axis=1) / length.astype(jnp.float32)
    return audio * jax.lax.rsqrt(power + 1e-9).astype(audio.dtype)[:, None]  # 1e-9: one step of 16 bit
