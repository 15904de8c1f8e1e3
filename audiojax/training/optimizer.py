"""The optimizer and its learning-rate schedule."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from audiojax.errors import InputError


def make_optimizer(
    *,
    algorithm: str,
    schedule: str,
    learning_rate: float,
    warmup_steps: int,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    clip_norm: float,
    total_steps: int,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimizer, and its learning rate as a function of the step.

    Args:
        algorithm: "sgd" with momentum, "adam" (Kingma & Ba 2015), whose first moment decays by `momentum`, or "adamw"
            (Loshchilov & Hutter 2019), with decoupled weight decay.
        schedule: After a linear warm-up to `learning_rate`: "constant", "cosine" decay to 0, or "halving" after each
            quarter of the steps.
        learning_rate: The peak learning rate.
        warmup_steps: Steps of the warm-up, at most half of `total_steps`.
        momentum: Decay of the momentum, or of Adam's first moment.
        nesterov: Whether to use Nesterov momentum.
        weight_decay: Factor of the parameters, except biases and scales, that is added to their gradients (an L2
            penalty, which Adam rescales); with "adamw", decoupled weight decay.
        clip_norm: Maximum global norm of the gradient; 0 is no limit.
        total_steps: Steps of the run.
    """
    warmup_steps = min(warmup_steps, total_steps // 2)
    if schedule == "cosine":
        after = optax.cosine_decay_schedule(learning_rate, total_steps - warmup_steps)
    elif schedule == "constant":
        after = optax.constant_schedule(learning_rate)
    elif schedule == "halving":
        quarter = -(-(total_steps - warmup_steps) // 4)
        after = optax.exponential_decay(learning_rate, quarter, 0.5, staircase=True)
    else:
        raise InputError(f"config.optimizer.schedule is {schedule!r}; choose cosine, constant or halving.")
    warmup = optax.linear_schedule(learning_rate / (warmup_steps + 1), learning_rate, warmup_steps)
    joined = optax.join_schedules([warmup, after], [warmup_steps])

    def rate(step: jax.Array | int) -> jax.Array:
        return joined(jnp.asarray(step, jnp.float32))  # optax mixes integer steps with floats

    if algorithm == "sgd":
        descent = optax.sgd(rate, momentum=momentum, nesterov=nesterov)
    elif algorithm == "adam":
        descent = _promoting(optax.adam(rate, b1=momentum, nesterov=nesterov))
    elif algorithm == "adamw":
        decay = dict(weight_decay=weight_decay, mask=_decays)
        descent = _promoting(optax.adamw(rate, b1=momentum, nesterov=nesterov, **decay))
        weight_decay = 0.0
    else:
        raise InputError(f"config.optimizer.algorithm is {algorithm!r}; choose sgd, adam or adamw.")
    optimizer = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.add_decayed_weights(weight_decay, mask=_decays),
        descent,
    )
    return optimizer, rate


def _promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns an optimizer that mixes integers with floats, as optax's Adam does, also where jax promotes strictly."""
    return optimizer._replace(update=jax.numpy_dtype_promotion("standard")(optimizer.update))


def _decays(params: dict[str, Any]) -> dict[str, Any]:
    """Returns which parameters decay: all except those named bias or scale."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)
