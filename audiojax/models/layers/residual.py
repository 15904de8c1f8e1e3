"""Residual stages (He et al. 2016, arXiv 1512.03385) that padding cannot reach, for frames and for pictures.

Activations are [B, N, channels] or [B, N, bands, channels]. What lies behind a clip's end is zero before every
convolution, as what lies behind the array is, and BatchNorm does not count it. The functions make their layers in the
module that calls them.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


def hears(x: jax.Array, num_heard: jax.Array) -> jax.Array:
    """bool[B, N, 1, ...]: which frames of `x` [B, N, ...] come before `num_heard` i32[B], and so are no padding."""
    heard = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] < num_heard[:, None]
    return heard.reshape(*heard.shape, *(1,) * (x.ndim - 2))


def normed(x: jax.Array, num_heard: jax.Array, name: str, train: bool) -> jax.Array:
    """BatchNorm of what is heard and ReLU; zero for what is not."""
    heard = hears(x, num_heard)
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=x.dtype, name=f"norm_{name}")
    return jnp.where(heard, nn.relu(norm(x, mask=heard)), 0.0)


def convolved(x: jax.Array, num_heard: jax.Array, features: int, name: str, train: bool) -> jax.Array:
    """`normed` of a convolution, 3 wide: [B, N, ..., features]."""
    kernel, init = (3,) * (x.ndim - 2), nn.initializers.he_normal()
    x = nn.Conv(features, kernel, use_bias=False, kernel_init=init, dtype=x.dtype, name=f"conv_{name}")(x)
    return normed(x, num_heard, name, train)


def stages(x: jax.Array, num_heard: jax.Array, channels: tuple[int, ...], train: bool) -> tuple[jax.Array, jax.Array]:
    """`x`, nowhere negative, after a stage for each of `channels`, and how many of its frames are heard, i32[B].

    A stage halves every axis by `max_pool`, has a convolution to its channels, and another one beside which what the
    first one made passes.
    """
    for stage, features in enumerate(channels, start=1):
        x, num_heard = max_pool(x), -(-num_heard // 2)
        x = convolved(x, num_heard, features, f"{stage}a", train)
        x = x + convolved(x, num_heard, features, f"{stage}b", train)
    return x, num_heard


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of two neighbours on every axis of `x`, which is nowhere negative, but the first and the last: an odd
    one at the end has a zero beside it. See `audionet.max_pool` for why it is written so."""
    for axis in range(1, x.ndim - 1):
        x = jnp.pad(x, [(0, x.shape[i] % 2 if i == axis else 0) for i in range(x.ndim)])
        halves = (jax.lax.slice_in_dim(x, start, x.shape[axis], 2, axis) for start in (0, 1))
        x = jnp.maximum(*halves)
    return x


def mean(x: jax.Array, num_heard: jax.Array) -> jax.Array:
    """f32[B, channels]: the mean of `x`, zero where it is not heard, over all that is."""
    axes = tuple(range(1, x.ndim - 1))
    count = num_heard * (x.size // (x.shape[0] * x.shape[1] * x.shape[-1]))
    return jnp.sum(x.astype(jnp.float32), axis=axes) / count.astype(jnp.float32)[:, None]
