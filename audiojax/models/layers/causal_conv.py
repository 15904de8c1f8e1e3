"""Causal convolutions over steps and bands, for sound that is processed step by step."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

WIDTH = 3  # of a kernel, in steps and in bands


class CausalConv(nn.Module):
    """A causal convolution of frames over steps and bands, followed by ReLU.

    The kernel covers 3 steps, the current one and the two before, and 3 bands, with a stride of 2 over the bands. It is
    computed in `dtype`.

    Attributes:
        features: the number of output channels.
        tuned: whether to compute a matrix product of patches: XLA's strided convolution is slow on the CPU.
    """

    features: int
    dtype: Any = jnp.float32
    tuned: bool = True

    @nn.compact
    def __call__(self, before: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Computes the convolution of N steps.

        Args:
            before: The inputs of the two steps before `x`, f32[B, 2, bands, channels]; zeros at the beginning.
            x: The inputs of N steps, [N, B, bands, channels].

        Returns:
            The inputs of the last two steps, to be passed as `before` next time, and the outputs of the N steps,
            [N, B, ceil(bands / 2), features].
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
    """Returns the patches of `x` [N + 2, B, bands, channels] that `CausalConv` multiplies by its kernel.

    They have 3 steps by 3 bands each, with a stride of 2 over the bands: [N, B, ceil(bands / 2), 9 * channels].
    """
    num_steps, num_bands, num_places = x.shape[0] + 1 - WIDTH, x.shape[2], -(-x.shape[2] // 2)
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1 + num_bands % 2), (0, 0)))
    # A patch has a whole pair of bands and the first band of the next pair: two slices a step, without strides.
    pairs = padded.reshape(*x.shape[:2], num_places + 1, -1)
    of_step = [pairs[step : step + num_steps] for step in range(WIDTH)]
    parts = [part for of in of_step for part in (of[:, :, :-1], of[:, :, 1:, : x.shape[3]])]
    return jnp.concatenate(parts, axis=-1)
