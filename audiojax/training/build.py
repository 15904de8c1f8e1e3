"""Builds network, state and steps of a config."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax import models
from audiojax.errors import InputError
from audiojax.training.augment import make_augment
from audiojax.training.optimizer import make_optimizer
from audiojax.training.state import TrainState, create_state
from audiojax.training.steps import AugmentStep, TrainStep, clip_loss, make_augment_step, make_train_step
from audiojax.training.task import Task


class Assembled(NamedTuple):
    """The objects that training needs and that a config determines: network, initial state, steps, learning rate."""

    model: nn.Module
    state: TrainState
    augment_step: AugmentStep
    train_step: TrainStep
    schedule: optax.Schedule


def assemble(
    config: ConfigDict,
    *,
    num_labels: int,
    rate_hz: int,
    num_steps: int,
    noises: Sequence[np.ndarray] = (),
    task: Task | None = None,
) -> Assembled:
    """Builds the network of `config`, its initial state, the jit-compiled steps, and the learning-rate schedule.

    Args:
        config: The config of the run.
        num_labels: The number of labels.
        rate_hz: The sampling rate of the sound in Hz.
        num_steps: The number of training steps of the run, for the schedule.
        noises: Recordings of background noise at `rate_hz`, i16[t] each, for `config.augment.recorded_noise`.
        task: Provides the loss, the network's initial recurrent state and the number of classes; by default clips
            are classified.

    Raises:
        InputError: The network does not take sound of several lengths, or recorded noise is asked for without noises.
    """
    model = models.build(**config.model, task=config.task, num_labels=num_labels, rate_hz=rate_hz)
    if config.train.bucket_samples and not model.any_length:
        raise InputError(f"config.train.bucket_samples must be (): {config.model.name} takes sound of one length only.")
    optimizer, schedule = make_optimizer(**config.optimizer, total_steps=num_steps)
    train_step = make_train_step(
        model,
        optimizer,
        schedule,
        ema_decay=config.train.ema_decay,
        loss=task.loss if task else clip_loss(config.train.label_smoothing),
    )
    state = create_state(
        model,
        optimizer,
        seed=config.seed,
        length_samples=config.train.length_samples,
        num_outputs=task.num_outputs if task else num_labels,
        averaged=config.train.ema_decay > 0,
        initial_carry=task.initial_carry if task else None,
    )
    augment_step = make_augment_step(make_augment(**config.augment, noises=noises))
    return Assembled(model, state, augment_step, train_step, jax.jit(schedule))
