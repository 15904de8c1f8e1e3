"""The state of training and the pure functions over it: to augment a batch, to learn from it, to evaluate one."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from audiojax.training.metrics import Metrics


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes, and all that a checkpoint holds."""

    step: jax.Array  # i32[], steps done
    params: dict[str, Any]
    average: dict[str, Any]  # of the parameters over the last steps; empty where none is kept
    batch_stats: dict[str, Any]
    opt_state: optax.OptState
    metrics: Metrics  # sums over the epoch so far: an epoch may be stopped in its middle
    gradient_norm: jax.Array  # f32[], the last step's
    carry: Any = flax.struct.field(default_factory=dict)  # what a listener remembers of its streams; else empty

    @property
    def variables(self) -> dict[str, Any]:
        """What is scored and used."""
        return {"params": self.average or self.params, "batch_stats": self.batch_stats}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    length_samples: int,
    num_outputs: int,
    averaged: bool,
    initial_carry: Callable[[nn.Module, dict[str, Any]], Any] | None = None,
) -> TrainState:
    """Returns a fresh state, the same for the same seed.

    Args:
        length_samples: of the sound by which the parameters get their shapes.
        num_outputs: classes of the metrics.
        averaged: keeps room for the average of the parameters.
        initial_carry: (model, variables) -> what a batch hands to the next one, before the first; None for nothing.
    """

    @jax.jit  # one program, without the forward pass
    def fresh(key: jax.Array) -> TrainState:
        audio, length = jnp.zeros((1, length_samples), jnp.int16), jnp.full(1, length_samples, jnp.int32)
        variables = model.init(key, audio, length)
        params, statistics = variables["params"], variables.get("batch_stats", {})
        average = params if averaged else {}
        carry = initial_carry(model, dict(variables)) if initial_carry else {}
        step, gradient_norm = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        return TrainState(
            step, params, average, statistics, optimizer.init(params), Metrics.zero(num_outputs), gradient_norm, carry
        )

    return fresh(jax.random.key(seed))


def listens(model: nn.Module) -> bool:
    """Whether a network says of every step of an endless stream what has just been said, or of a clip what it is."""
    return getattr(model, "listens", False)
