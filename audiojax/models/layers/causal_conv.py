"""Causal convolutions over steps and bands, for sound that comes step by step."""

import jax
import jax.numpy as jnp
from flax import linen as nn

WIDTH = 3  # of a kernel, in steps and in bands


class CausalConv(nn.Module):
    """Each step with the two before it, every other band with its two neighbours, and ReLU: half as many bands.

    A product of patches and not a convolution: what XLA makes of one with strides, and of its gradient, is slow on the
    CPU.
    """

    features: int

    @nn.compact
    def __call__(self, before: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f32[N, B, ceil(bands / 2), features] of the steps `x` [N, B, bands, channels], and before it the last two of
        them, f32[B, 2, bands, channels], as the two that came `before`."""
        x = jnp.concatenate([before.swapaxes(0, 1), x])
        kernel = self.param("kernel", nn.initializers.he_normal(), (WIDTH * WIDTH * x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return x[1 - WIDTH :].swapaxes(0, 1), nn.relu(patches(x) @ kernel + bias[None, None, None])


def patches(x: jax.Array) -> jax.Array:
    """[N, B, ceil(bands / 2), 9 * channels]: what a kernel sees of `x` [N + 2, B, bands, channels]."""
    num_steps, num_bands = x.shape[0] + 1 - WIDTH, x.shape[2]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    places = [(step, band) for step in range(WIDTH) for band in range(WIDTH)]
    return jnp.concatenate(
        [padded[step : step + num_steps, :, band : band + num_bands : 2] for step, band in places], axis=-1
    )
