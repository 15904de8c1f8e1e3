"""Gradient times input, and integrated gradients."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from audiojax.attribution.lrp import Layer, forward

INTEGRATED_STEPS = 32


def gradient(layers: Sequence[Layer], x: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the input `x` times the gradient of the logit of `label` i32[B] with respect to it.

    `layers` lead from `x` f32[B, ...] to the network's logits; the result has the shape of `x`.
    """
    return x * _slope(layers, x, label)


def integrated(layers: Sequence[Layer], x: jax.Array, label: jax.Array, num_steps: int = INTEGRATED_STEPS) -> jax.Array:
    """Returns integrated gradients with silence as the baseline (Sundararajan et al. 2017, arXiv:1703.01365).

    `layers` lead from `x` f32[B, ...] to the network's logits, and `label` i32[B] chooses the logit. The result has the
    shape of `x`. The sum over a clip is the logit of `x` minus that of silence, up to the error of the midpoint rule
    with `num_steps`. The points are fourth powers of equally spaced ones, because a network on decibels changes most
    near silence.
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
