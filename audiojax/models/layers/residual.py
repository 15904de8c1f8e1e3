"""Residual stages (He et al. 2016, arXiv 1512.03385) whose results do not depend on padding.

Activations are [B, N, channels] or, for spectrograms, [B, N, bands, channels]; only the first `num_valid` i32[B] of a
clip's N frames are valid. Those after them are set to zero before every convolution, like the convolution's own
padding, and are masked in BatchNorm. The functions create layers in the module that calls them.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


def valid_mask(x: jax.Array, num_valid: jax.Array) -> jax.Array:
    """Returns which frames of `x` [B, N, ...] are among the first `num_valid` i32[B], as bool[B, N, 1, ...]."""
    valid = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] < num_valid[:, None]
    return valid.reshape(*valid.shape, *(1,) * (x.ndim - 2))


def normed(x: jax.Array, num_valid: jax.Array, name: str, train: bool) -> jax.Array:
    """Returns ReLU of BatchNorm of the valid frames, and zero for the others."""
    valid = valid_mask(x, num_valid)
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=x.dtype, name=f"norm_{name}")
    return jnp.where(valid, nn.relu(norm(x, mask=valid)), 0.0)


def convolved(x: jax.Array, num_valid: jax.Array, features: int, name: str, train: bool) -> jax.Array:
    """Returns `normed` of a convolution of size 3 on each axis, [B, N, ..., features]."""
    kernel, init = (3,) * (x.ndim - 2), nn.initializers.he_normal()
    x = nn.Conv(features, kernel, use_bias=False, kernel_init=init, dtype=x.dtype, name=f"conv_{name}")(x)
    return normed(x, num_valid, name, train)


def stages(x: jax.Array, num_valid: jax.Array, channels: tuple[int, ...], train: bool) -> tuple[jax.Array, jax.Array]:
    """Returns `x` after a stage for each of `channels`, and the number of valid frames then, i32[B].

    A stage halves every axis by `max_pool`, has a convolution to its channels, and another one with a skip connection.
    `x` must not be negative, see `max_pool`.
    """
    for stage, features in enumerate(channels, start=1):
        x, num_valid = max_pool(x), -(-num_valid // 2)
        x = convolved(x, num_valid, features, f"{stage}a", train)
        x = x + convolved(x, num_valid, features, f"{stage}b", train)
    return x, num_valid


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the larger of two neighbours on every axis of `x` but the first and the last.

    An axis of odd size is padded with a zero, so `x` must not be negative. See `audionet.max_pool` for why it is not
    `nn.max_pool`.
    """
    for axis in range(1, x.ndim - 1):
        x = jnp.pad(x, [(0, x.shape[i] % 2 if i == axis else 0) for i in range(x.ndim)])
        halves = (jax.lax.slice_in_dim(x, start, x.shape[axis], 2, axis) for start in (0, 1))
        x = jnp.maximum(*halves)
    return x


def mean(x: jax.Array, num_valid: jax.Array) -> jax.Array:
    """Returns the mean of `x`, which is zero where it is not valid, over its valid frames, f32[B, channels]."""
    axes = tuple(range(1, x.ndim - 1))
    count = num_valid * (x.size // (x.shape[0] * x.shape[1] * x.shape[-1]))
    return jnp.sum(x.astype(jnp.float32), axis=axes) / count.astype(jnp.float32)[:, None]
