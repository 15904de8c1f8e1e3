"""The jit-compiled steps: augmentation, training, evaluation."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from audiojax.data.clips import Batch
from audiojax.training.augment import Augment
from audiojax.training.metrics import Metrics
from audiojax.training.state import TrainState


class StepReport(flax.struct.PyTreeNode):
    """What a training step reports besides the new state: metrics of its batch, norm of the gradient, learning rate."""

    metrics: Metrics
    gradient_norm: jax.Array  # f32[], global, before clipping
    learning_rate: jax.Array  # f32[]


AugmentStep = Callable[[Batch, jax.Array, int], Batch]


TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, StepReport]]


EvalStep = Callable[[dict[str, Any], Batch], Metrics]
# (model, variables, carry, batch, dropout key) -> loss f32[], (logits, updated statistics, the next carry)
Loss = Callable[
    [nn.Module, dict[str, Any], Any, Batch, jax.Array], tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]
]


def cross_entropy(logits: jax.Array, batch: Batch, label_smoothing: float) -> jax.Array:
    """Returns the mean cross-entropy f32[] of `logits` [..., labels] over the clips, or the steps of streams.

    `batch["label"]` [...] are the true labels, of which those with 0 in `batch["mask"]` are left out. The share
    `label_smoothing` of each target is spread evenly over all labels.
    """
    target = optax.smooth_labels(jax.nn.one_hot(batch["label"], logits.shape[-1]), label_smoothing)
    return jnp.sum(optax.softmax_cross_entropy(logits, target) * batch["mask"]) / jnp.sum(batch["mask"])


def clip_loss(label_smoothing: float) -> Loss:
    """Returns the loss function of a clip classifier, the cross-entropy.

    Its arguments are (model, variables, carry, batch, dropout key). It returns the loss f32[] and a tuple: the logits
    f32[B, labels], the updated batch statistics, and `carry`, which clips do not use. The share `label_smoothing` of
    each target is spread evenly over all labels.
    """

    def loss(
        model: nn.Module, variables: dict[str, Any], carry: Any, batch: Batch, dropout_key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, Mapping[str, Any], Any]]:
        how: dict[str, Any] = dict(train=True, mutable=["batch_stats"], rngs={"dropout": dropout_key})
        logits, updates = model.apply(variables, batch["audio"], batch["length"], **how)
        return cross_entropy(logits, batch, label_smoothing), (logits, updates, carry)

    return loss


def make_augment_step(augment: Augment) -> AugmentStep:
    """Returns the jit-compiled function (batch, key, step) -> batch that applies `augment` to the sounds of a batch.

    The random numbers of a step depend on `key`, that of the whole run, and the number `step`. It is a program of its
    own, so that the next batch is augmented while the device trains on this one.
    """

    def augment_step(batch: Batch, key: jax.Array, step: int) -> Batch:
        audio, length = augment(_keys(key, step)[0], batch["audio"], batch["length"])
        return Batch(**(batch | {"audio": audio, "length": length}))

    return jax.jit(augment_step)


def _keys(key: jax.Array, step: jax.Array | int) -> jax.Array:
    """Returns key[2], the keys of augmentation and dropout of a step."""
    return jax.random.split(jax.random.fold_in(key, step))


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    ema_decay: float,
    loss: Loss,
) -> TrainStep:
    """Returns the jit-compiled training step (state, batch, key) -> (next state, report of the step).

    The input state is donated: its arrays must not be used again. The random numbers of a step depend on `key`, that of
    the whole run, and `state.step`.

    Args:
        model: The network.
        optimizer: The optimizer.
        schedule: Its learning rate as a function of the step, for the report.
        ema_decay: If not 0, the step keeps a moving average of the parameters (Polyak and Juditsky 1992): at first of
            all steps, later of about the last 1 / (1 - ema_decay).
        loss: Function (model, variables, carry, batch, dropout key) -> loss f32[], (logits, updated batch statistics,
            the next carry).
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, StepReport]:
        label, mask = batch["label"], batch["mask"]

        def loss_fn(params: Any) -> Any:
            variables = {"params": params, "batch_stats": state.batch_stats}
            return loss(model, variables, state.carry, batch, _keys(key, state.step)[1])

        gradient, (logits, updates, carry) = jax.grad(loss_fn, has_aux=True)(state.params)
        deltas, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        metrics = Metrics.of(logits, label, mask)
        report = StepReport(metrics, optax.tree.norm(gradient), schedule(state.step))
        params = optax.apply_updates(state.params, deltas)
        average = state.average
        if ema_decay:
            share = jnp.maximum(1 - ema_decay, 9 / (10 + state.step.astype(jnp.float32)))
            average = optax.incremental_update(params, average, share)
        statistics, total = updates.get("batch_stats", {}), state.metrics + metrics
        return TrainState(state.step + 1, params, average, statistics, opt_state, total, carry), report

    return jax.jit(train_step, donate_argnums=0)


def make_eval_step(model: nn.Module) -> EvalStep:
    """Returns the jit-compiled function (variables {"params", "batch_stats"}, batch of clips) -> metrics of these."""
    return functools.partial(_evaluate, model)


@functools.partial(jax.jit, static_argnums=0)  # compiled once per network
def _evaluate(model: nn.Module, variables: dict[str, Any], batch: Batch) -> Metrics:
    logits = model.apply(variables, batch["audio"], batch["length"])
    return Metrics.of(logits, batch["label"], batch["mask"])
