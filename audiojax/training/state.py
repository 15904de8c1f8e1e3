"""The training state."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from audiojax.errors import InputError
from audiojax.training.metrics import Metrics


class TrainState(flax.struct.PyTreeNode):
    """Everything that a training step changes; the content of a checkpoint."""

    step: jax.Array  # i32[], number of steps
    params: dict[str, Any]
    average: dict[str, Any]  # moving average of the parameters; empty if disabled
    batch_stats: dict[str, Any]
    opt_state: optax.OptState
    metrics: Metrics  # sums over the epoch so far, so that it can be resumed
    carry: Any = flax.struct.field(default_factory=dict)  # recurrent state of streams; empty for clips

    @property
    def variables(self) -> dict[str, Any]:
        """Returns {"params", "batch_stats"} for evaluation; the parameters are their moving average if there is one."""
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
    """Returns the training state before the first step, a function of the seed.

    Args:
        model: The network.
        optimizer: The optimizer.
        seed: Seed of the parameters.
        length_samples: Length in samples of the clip with which the shapes of the parameters are inferred.
        num_outputs: Number of classes of the metrics.
        averaged: Whether to keep a moving average of the parameters.
        initial_carry: Function (model, variables) -> the network's initial state, which is carried from batch to batch;
            None if there is none.
    """

    @jax.jit  # one program, without the forward pass of `init`
    def fresh(key: jax.Array) -> TrainState:
        audio, length = jnp.zeros((1, length_samples), jnp.int16), jnp.full(1, length_samples, jnp.int32)
        variables = model.init(key, audio, length)
        params, statistics = variables["params"], variables.get("batch_stats", {})
        average = params if averaged else {}
        carry = initial_carry(model, dict(variables)) if initial_carry else {}
        step, metrics = jnp.zeros((), jnp.int32), Metrics.zero(num_outputs)
        return TrainState(step, params, average, statistics, optimizer.init(params), metrics, carry)

    return fresh(jax.random.key(seed))


def check_finite(state: TrainState) -> None:
    """Raises InputError unless all parameters, their average, batch statistics and the optimizer's state are finite."""
    parts = (state.params, state.average, state.batch_stats, state.opt_state)
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(parts)):
        raise diverged(f"the parameters are not finite after step {int(state.step)}")


def diverged(what: str) -> InputError:
    """Returns the error for training that has diverged; `what` names the values that are not finite."""
    return InputError(
        f"{what}; this state was not saved: lower --config.optimizer.learning_rate or set "
        "--config.optimizer.clip_norm=1, in another --workdir."
    )
