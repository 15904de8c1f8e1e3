"""The state of training and the pure functions over it: to augment a batch, to learn from it, to evaluate one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from audiojax.augment import Augment
from audiojax.metrics import Metrics
from audiojax.types import Batch, InputError


class TrainState(flax.struct.PyTreeNode):
    """All that a step changes, and all that a checkpoint holds."""

    step: jax.Array  # i32[], steps done
    params: dict
    average: dict  # of the parameters over the last steps; empty where none is kept
    batch_stats: dict
    opt_state: optax.OptState
    metrics: Metrics  # sums over the epoch so far: an epoch may be stopped in its middle
    gradient_norm: jax.Array  # f32[], the last step's
    carry: Any = flax.struct.field(default_factory=dict)  # what a listener remembers of its streams; else empty

    @property
    def variables(self) -> dict:
        """What is scored and used."""
        return {"params": self.average or self.params, "batch_stats": self.batch_stats}


class StepReport(flax.struct.PyTreeNode):
    """What one training step tells: its batch's metrics, its gradient's norm and its learning rate."""

    metrics: Metrics
    gradient_norm: jax.Array  # f32[], global, before clipping
    learning_rate: jax.Array  # f32[]


TIMES_WEIGHT = 2.0  # of a listener's error in seconds, against its cross-entropy in nats
AugmentStep = Callable[[Batch, jax.Array, int], Batch]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, StepReport]]
EvalStep = Callable[[dict, Batch], Metrics]


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
    """The optimizer, and its learning rate as a function of the steps done.

    Args:
        algorithm: "sgd" with momentum, "adam" (Kingma & Ba 2015), whose first moment decays by `momentum`, or "adamw"
            (Loshchilov & Hutter 2019), which differs in its weight decay.
        schedule: what follows the linear warm-up to `learning_rate`: "constant", "cosine" down to 0, or "halving" after
            each quarter of the steps.
        warmup_steps: at most half of `total_steps` are taken.
        weight_decay: times each parameter but biases and BatchNorm's scales, added to its gradient (an L2 penalty,
            which Adam then rescales); with "adamw" times the learning rate, subtracted from the parameter.
        clip_norm: bounds the gradient's global norm; 0 does not.
        total_steps: where the cosine ends.
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
        descent = optax.adam(rate, b1=momentum, nesterov=nesterov)
    elif algorithm == "adamw":
        descent = optax.adamw(rate, b1=momentum, nesterov=nesterov, weight_decay=weight_decay, mask=_decays)
        weight_decay = 0.0
    else:
        raise InputError(f"config.optimizer.algorithm is {algorithm!r}; choose sgd, adam or adamw.")
    optimizer = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.add_decayed_weights(weight_decay, mask=_decays),
        descent,
    )
    return optimizer, rate


def _decays(params: dict) -> dict:
    """Returns which parameters decay: all but those named bias or scale, whatever their shapes."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    batch_size: int,
    length_samples: int,
    num_labels: int,
    averaged: bool,
) -> TrainState:
    """A fresh state, the same for the same seed; `averaged` keeps room for the average of the parameters.

    A network that listens has a stream for each of a batch's `batch_size` rows, and one label more: no word.
    """

    @jax.jit  # one program, without the forward pass
    def fresh(key: jax.Array) -> TrainState:
        audio, length = jnp.zeros((1, length_samples), jnp.int16), jnp.full(1, length_samples, jnp.int32)
        variables = model.init(key, audio, length)
        params, statistics = variables["params"], variables.get("batch_stats", {})
        average = params if averaged else {}
        carry: Any = {}
        num_outputs = num_labels
        if listens(model):
            carry = model.apply(variables, batch_size, method="initial_carry")
            num_outputs = num_labels + 1
        step, gradient_norm = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        return TrainState(
            step, params, average, statistics, optimizer.init(params), Metrics.zero(num_outputs), gradient_norm, carry
        )

    return fresh(jax.random.key(seed))


def cross_entropy(logits: jax.Array, batch: Batch, label_smoothing: float) -> jax.Array:
    """f32[], the mean over the clips of a batch, or over the steps of its streams: `logits` [..., labels]."""
    target = optax.smooth_labels(jax.nn.one_hot(batch["label"], logits.shape[-1]), label_smoothing)
    return jnp.sum(optax.softmax_cross_entropy(logits, target) * batch["mask"]) / jnp.sum(batch["mask"])


listening_loss = cross_entropy  # experiments/listening_losses.py compares others


def times_loss(times: jax.Array, batch: Batch, num_outputs: int) -> jax.Array:
    """f32[], how far the `times` [B, N, 2] are off, in seconds, at the steps that say a word."""
    says = jnp.where(batch["label"] < num_outputs - 1, batch["mask"], 0.0)
    late = jnp.sum(jnp.abs(times - batch["times"]), axis=-1)
    return TIMES_WEIGHT * jnp.sum(late * says) / jnp.sum(batch["mask"])


def listens(model: nn.Module) -> bool:
    """Whether a network says of every step of an endless stream what has just been said, or of a clip what it is."""
    return getattr(model, "listens", False)


def _where_row(which: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the rows of `x` where `which` bool[B] is true, of `y` elsewhere."""
    return jnp.where(which.reshape(-1, *(1,) * (x.ndim - 1)), x, y)


def make_augment_step(augment: Augment) -> AugmentStep:
    """The jit-compiled augmentation of the batch of one step: (batch, key, step) -> batch.

    Its randomness is an address: `fold_in(key, step)`. It is a program of its own, so that the next batch is made ready
    while the step before it runs: a recurrence leaves most of the device idle.
    """

    def augment_step(batch: Batch, key: jax.Array, step: int) -> Batch:
        audio, length = augment(_keys(key, step)[0], batch["audio"], batch["length"])
        return Batch(**(batch | {"audio": audio, "length": length}))

    return jax.jit(augment_step)


def _keys(key: jax.Array, step: jax.Array | int) -> jax.Array:
    """key[2] of a step: of its augmentation and of its dropout."""
    return jax.random.split(jax.random.fold_in(key, step))


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    label_smoothing: float,
    average_decay: float,
) -> TrainStep:
    """The jit-compiled step. It takes over the memory of the state it is given, which is then gone.

    Its randomness is an address: `fold_in(key, state.step)`. Where `average_decay` is not 0 it keeps an average of the
    parameters (Polyak and Juditsky 1992), of all steps at first and of about the last 1 / (1 - average_decay) later.
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, StepReport]:
        label, mask = batch["label"], batch["mask"]

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            how = dict(train=True, mutable=["batch_stats"], rngs={"dropout": _keys(key, state.step)[1]})
            if listens(model):
                fresh = model.apply(variables, label.shape[0], method="initial_carry")
                start = jax.tree.map(partial(_where_row, batch["reset"] > 0), fresh, state.carry)
                (carry, said), updates = model.apply(variables, start, batch["audio"], method="listen", **how)
                logits, times = said[..., :-2], said[..., -2:]
                loss = listening_loss(logits, batch, label_smoothing) + times_loss(times, batch, logits.shape[-1])
            else:
                logits, updates = model.apply(variables, batch["audio"], batch["length"], **how)
                loss, carry = cross_entropy(logits, batch, label_smoothing), state.carry
            return loss, (logits, updates, carry)

        gradient, (logits, updates, carry) = jax.grad(loss_fn, has_aux=True)(state.params)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes integers with floats
            change, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        metrics = Metrics.of(logits, label, mask)
        report = StepReport(metrics, optax.global_norm(gradient), schedule(state.step))
        params = optax.apply_updates(state.params, change)
        average = state.average
        if average_decay:
            share = jnp.maximum(1 - average_decay, 9 / (10 + state.step.astype(jnp.float32)))
            average = optax.incremental_update(params, average, share)
        statistics, total = updates.get("batch_stats", {}), state.metrics + metrics
        norm = report.gradient_norm
        return TrainState(state.step + 1, params, average, statistics, opt_state, total, norm, carry), report

    return jax.jit(train_step, donate_argnums=0)


def make_eval_step(model: nn.Module) -> EvalStep:
    """The jit-compiled evaluation of one batch with the variables `{"params", "batch_stats"}`."""

    def eval_step(variables: dict, batch: Batch) -> Metrics:
        logits = model.apply(variables, batch["audio"], batch["length"])
        return Metrics.of(logits, batch["label"], batch["mask"])

    return jax.jit(eval_step)
