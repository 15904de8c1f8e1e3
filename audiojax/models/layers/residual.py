"""Residual stages (He et al. 2016, arXiv 1512.03385) whose results do not depend on padding.

Activations are [B, N, channels] or, for spectrograms, [B, N, bands, channels]; only the first `num_valid` i32[B] of a
clip's N frames are valid. Those after them are set to zero before every convolution, like the convolution's own
padding, and are masked in BatchNorm. The functions create layers in the module that calls them.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.models.layers.convolution import Convolution


def valid_mask(x: jax.Array, num_valid: jax.Array) -> jax.Array:
    """Returns which frames of `x` [B, N, ...] are among the first `num_valid` i32[B], as bool[B, N, 1, ...]."""
    valid = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] < num_valid[:, None]
    return valid.reshape(*valid.shape, *(1,) * (x.ndim - 2))


def normed(x: jax.Array, num_valid: jax.Array, name: str, train: bool) -> jax.Array:
    """Applies BatchNorm and ReLU to the first `num_valid` i32[B] frames of `x` [B, N, ...]; the others become zero.

    The layer is called "norm_" + `name`. If `train`, it uses the statistics of the batch, of these frames only.
    """
    valid = valid_mask(x, num_valid)
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=x.dtype, name=f"norm_{name}")
    return jnp.where(valid, nn.relu(norm(x, mask=valid)), 0.0)


def convolved(x: jax.Array, num_valid: jax.Array, features: int, name: str, train: bool, tuned: bool) -> jax.Array:
    """Applies a convolution of size 3 on each axis, BatchNorm and ReLU to `x` [B, N, ..., channels].

    Returns [B, N, ..., features], with zero for frames after the first `num_valid` i32[B]. `name` is the end of the
    layers' names, `train` whether BatchNorm uses the batch's statistics, and `tuned` whether the convolution's gradient
    is tuned for the CPU.
    """
    return normed(Convolution(features, tuned, name=f"conv_{name}")(x), num_valid, name, train)


def stages(
    x: jax.Array, num_valid: jax.Array, channels: tuple[int, ...], train: bool, tuned: bool
) -> tuple[jax.Array, jax.Array]:
    """Applies one residual stage for each of `channels`; returns the result and its number of valid frames, i32[B].

    A stage halves the axes of time and bands by `max_pool`, has a convolution to its channels, and another one with a
    skip connection. Of `x` [B, N, ..., channels], the first `num_valid` i32[B] frames are valid; it must not be
    negative, because the pooling pads with zeros. `train` and `tuned` are those of `convolved`.
    """
    for stage, features in enumerate(channels, start=1):
        x, num_valid = max_pool(x), -(-num_valid // 2)
        x = convolved(x, num_valid, features, f"{stage}a", train, tuned)
        x = x + convolved(x, num_valid, features, f"{stage}b", train, tuned)
    return x, num_valid


def max_pool(x: jax.Array) -> jax.Array:
    """Computes max-pooling of size and stride 2 on every axis of `x` but the first (clips) and the last (channels).

    An axis of odd size is padded with a zero, so `x` must not be negative. On the CPU the backward pass is several
    times faster than that of `nn.max_pool`.
    """
    for axis in range(1, x.ndim - 1):
        x = jnp.pad(x, [(0, x.shape[i] % 2 if i == axis else 0) for i in range(x.ndim)])
        halves = (jax.lax.slice_in_dim(x, start, x.shape[axis], 2, axis) for start in (0, 1))
        x = jnp.maximum(*halves)
    return x


def mean(x: jax.Array, num_valid: jax.Array) -> jax.Array:
    """Returns the mean of `x` [B, N, ..., channels] over its first `num_valid` i32[B] frames and all bands.

    The result is f32[B, channels]. All later frames of `x` must be zero.
    """
    axes = tuple(range(1, x.ndim - 1))
    count = num_valid * (x.size // (x.shape[0] * x.shape[1] * x.shape[-1]))
    return jnp.sum(x.astype(jnp.float32), axis=axes) / count.astype(jnp.float32)[:, None]
