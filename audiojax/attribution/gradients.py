"""Gradient times input, and integrated gradients."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from audiojax.attribution.lrp import Layer, forward

INTEGRATED_STEPS = 32


def gradient(layers: Sequence[Layer], x: jax.Array, label: jax.Array) -> jax.Array:
    """Gradient of the logit of `label` i32[B] times input: as `x`."""
    return x * _slope(layers, x, label)


def integrated(layers: Sequence[Layer], x: jax.Array, label: jax.Array, num_steps: int = INTEGRATED_STEPS) -> jax.Array:
    """Integrated gradients from silence, 0 (Sundararajan et al. 2017, arXiv 1703.01365): as `x`.

    Its sum is the logit of `x` less that of silence, but for the error of the middle-point sum of `num_steps`. They lie
    as the fourth powers of even steps do, since a network that hears loudness in decibels decides near silence.
    """

    def add(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
        return total + 4 * step**3 * _slope(layers, step**4 * x, label), None

    steps = (jnp.arange(num_steps, dtype=jnp.float32) + 0.5) / num_steps
    return x * jax.lax.scan(add, jnp.zeros_like(x), steps)[0] / num_steps


def _slope(layers: Sequence[Layer], x: jax.Array, label: jax.Array) -> jax.Array:
    def logit(x: jax.Array) -> jax.Array:
        logits = forward(layers, x)
        return jnp.sum(logits * jax.nn.one_hot(label, logits.shape[1]))

    return jax.grad(logit)(x)
