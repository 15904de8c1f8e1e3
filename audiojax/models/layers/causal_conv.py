"""Causal convolutions over steps and bands, for sound that is processed step by step."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

WIDTH = 3  # of a kernel, in steps and in bands


class CausalConv(nn.Module):
    """A convolution of 3 steps, the last being the current one, by 3 bands with a stride of 2, followed by ReLU.

    Tuned for the CPU it is a matrix product of patches: XLA's strided convolution, and its gradient, are slow there.
    It is computed in `dtype`.

    Attributes:
        features: channels of the output.
        tuned: whether to compute with the kernels that are tuned for the CPU.
    """

    features: int
    dtype: Any = jnp.float32
    tuned: bool = True

    @nn.compact
    def __call__(self, before: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the last two inputs, to be passed as `before` next time, and the outputs.

        Args:
            before: The two inputs before `x`, f32[B, 2, bands, channels].
            x: N steps, [N, B, bands, channels]; the outputs are [N, B, ceil(bands / 2), features].
        """
        x = jnp.concatenate([before.swapaxes(0, 1).astype(self.dtype), x.astype(self.dtype)])
        kernel = self.param("kernel", nn.initializers.he_normal(), (WIDTH * WIDTH * x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        convolve = _product if self.tuned else _convolution
        y = convolve(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)[None, None, None]
        return x[1 - WIDTH :].swapaxes(0, 1).astype(jnp.float32), nn.relu(y)


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return patches(x) @ kernel


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    kernel = kernel.reshape(WIDTH, WIDTH, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(x, kernel, (1, 2), ((0, 0), (1, 1)), dimension_numbers=("HNWC", "HWIO", "HNWC"))


def patches(x: jax.Array) -> jax.Array:
    """Returns the kernel's input patches of `x` [N + 2, B, bands, channels], [N, B, ceil(bands / 2), 9 * channels]."""
    num_steps, num_bands = x.shape[0] + 1 - WIDTH, x.shape[2]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    places = [(step, band) for step in range(WIDTH) for band in range(WIDTH)]
    return jnp.concatenate(
        [padded[step : step + num_steps, :, band : band + num_bands : 2] for step, band in places], axis=-1
    )
