"""The jit-compiled steps: augmentation, training, evaluation."""

from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from audiojax.data.clips import Batch
from audiojax.training.augment import Augment
from audiojax.training.metrics import Metrics
from audiojax.training.state import TrainState, listens


class StepReport(flax.struct.PyTreeNode):
    """What one training step tells: its batch's metrics, its gradient's norm and its learning rate."""

    metrics: Metrics
    gradient_norm: jax.Array  # f32[], global, before clipping
    learning_rate: jax.Array  # f32[]


TIMES_WEIGHT = 2.0  # of a listener's error in seconds, against its cross-entropy in nats


AugmentStep = Callable[[Batch, jax.Array, int], Batch]


TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, StepReport]]


EvalStep = Callable[[dict, Batch], Metrics]


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
