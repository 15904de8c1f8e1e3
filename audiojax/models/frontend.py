"""What comes before a network: the scale of its samples."""

import jax
import jax.numpy as jnp

from audiojax.types import InputError


def to_unit_range(audio: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[B, T] in [-1, 1] of `audio` [B, T] in 16-bit units, [-32768, 32767]: every network's first operation."""
    return (audio.astype(jnp.float32) / 32768.0).astype(dtype)


def rescale(audio: jax.Array, length: jax.Array, scale: str) -> jax.Array:
    """[B, T] of `audio` [B, T] in [-1, 1], zero right-padded, and `length` i32[B]; silence stays silence.

    Both scales need the whole clip, so they are not for streams.

    Args:
        scale: "rms", a mean power of 1 over the clip; "percentile", by the 95th percentile of the signed, padded
            samples, as AudioMNIST's preprocess_data.py has it; "none".
    """
    if scale == "none":
        return audio
    sound = audio.astype(jnp.float32)
    if scale == "rms":
        power = jnp.sum(jnp.square(sound), axis=1) / length.astype(jnp.float32)
        factor = jax.lax.rsqrt(power + 1e-9)  # 1e-9: one step of 16 bit
    elif scale == "percentile":
        factor = 1 / (jnp.percentile(sound, 95, axis=1) + 0.001 / 32768)  # theirs are in 16-bit units
    else:
        raise InputError(f"config.model.scale is {scale!r}; choose rms, percentile or none.")
    return audio * factor.astype(audio.dtype)[:, None]
