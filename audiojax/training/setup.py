"""Prepares a training run: data, mesh, state, checkpoints and log."""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax.data.batches import one_ahead, prefetch
from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.io.files import only_process, read_json
from audiojax.training import environment, run_dir, sharding
from audiojax.training.build import assemble
from audiojax.training.checkpoint import BEST_BY, Checkpoints
from audiojax.training.metrics import Metrics
from audiojax.training.preemption import Interrupt
from audiojax.training.runlog import RunLog
from audiojax.training.sharding import Mesh
from audiojax.training.start import check_unseen, start_from
from audiojax.training.state import TrainState
from audiojax.training.steps import AugmentStep, TrainStep
from audiojax.training.task import Batches, Task

_OUTPUTS = ("checkpoints", "metrics.jsonl", "summary.json", "report.html")  # files that a run replaces


@dataclass(frozen=True)
class Job:
    """A run that is ready for training, new or resumed: its data, network, state, steps, checkpoints and log."""

    task: Task
    workdir: Path
    mesh: Mesh
    epochs: Batches
    model: nn.Module
    state: TrainState  # on the devices, before the first step
    augment_step: AugmentStep
    train_step: TrainStep
    schedule: optax.Schedule
    checkpoints: Checkpoints
    interrupt: Interrupt

    @property
    def num_steps(self) -> int:
        """Returns the number of training steps of the whole run."""
        return self.epochs.num_steps * self.task.config.train.num_epochs

    @functools.cached_property
    def first_step(self) -> int:
        """Returns the number of steps that were taken before this start, 0 in a new run."""
        return int(self.state.step)

    @functools.cached_property
    def _scored(self) -> bool:
        """Returns whether the last epoch was scored; an unfinished or unscored one has non-zero metrics."""
        return not self.state.metrics.count

    @property
    def first_epoch(self) -> int:
        """Returns the epoch to begin with, from 0: that of the next step, or one before it that is not scored yet."""
        return (self.first_step - (not self._scored)) // self.epochs.num_steps

    def last_step(self, epoch: int) -> int:
        """Returns how many steps of the whole run are done at the end of `epoch`, counted from 0."""
        return (epoch + 1) * self.epochs.num_steps

    @functools.cached_property
    def key(self) -> jax.Array:
        """Returns the random key from which the keys of all steps are derived; it is made of the config's seed."""
        return jax.random.key(self.task.config.seed)

    def finished(self) -> dict[str, Any]:
        """Returns the content of summary.json if the run is finished and its best checkpoint is valid, otherwise {}.

        For a finished run it also prints the results.
        """
        summary = read_summary(self.workdir, self.task.sentence)
        if self.first_step != self.num_steps or summary.get("epochs") != self.task.config.train.num_epochs:
            return {}
        scored = summary.get("step", self.checkpoints.best_step)  # a summary from before it named its checkpoint
        best = self.checkpoints.restore("best", self.state)
        if best is None or int(best.step) != scored:
            return {}
        _say(f"{self.workdir} is finished. {self.task.sentence(summary)}")
        _say("Raise --config.train.num_epochs to train on.")
        return summary

    def open_log(self) -> RunLog:
        """Prints a description of the data and the model, and returns the log of the run, a context manager."""
        task, num_parameters = self.task, sum(x.size for x in jax.tree.leaves(self.state.params))
        _say(f"Data: {task.data.clips.source}, split {task.config.split.name}: {task.data.describe()}")
        device = f"{self.mesh.size} x {jax.devices()[0].device_kind}"
        _say(f"Model: {task.config.model.name}, {num_parameters:,} parameters, on {device}")
        if warning := task.warning():
            _say(f"audiojax: warning: {warning}", file=sys.stderr)
        if self.first_step:
            _say(f"Resuming at step {self.first_step} of {self.num_steps}.")
        if not sharding.is_first():
            return sharding.absent()
        at = {"step": self.first_step, "num_steps": self.num_steps}
        return RunLog(self.workdir, task.config.to_dict(), **at, scored=self._scored)

    def batches(self) -> Iterator[Batch]:
        """Yields the batches of all steps to come, on the devices; each is augmented while the step before it runs."""
        stream = self.interrupt.guard(self.epochs(self.first_step, self.num_steps))
        shards = prefetch(sharding.shard_batch(batch, self.mesh) for batch in stream)
        numbered = enumerate(shards, start=self.first_step)
        return one_ahead(self.augment_step(batch, self.key, step) for step, batch in numbered)

    def epoch_row(self, epoch: int, state: TrainState, num_steps: int, start: float) -> dict[str, float]:
        """Returns the log row {name: number} of an epoch: training metrics, validation and test scores, and speed.

        `epoch` counts from 0, and `state` is that at its end. `num_steps` is how many steps of it have been taken since
        the time `start`, in seconds of `time.perf_counter`.
        """
        row: dict[str, float] = {"epoch": epoch + 1}
        sums = {"train": state.metrics.summary(self.task.train_metric)}  # waits for the steps that were dispatched
        seconds = time.perf_counter() - start
        for part in ("validation", "test"):
            sums[part] = self.task.score(self.model, state.variables, part, self.mesh, self.interrupt.guard).summary()
        for part, values in sums.items():
            row |= {f"{part}/{name}": value for name, value in values.items()}
        return row | {
            "learning_rate": float(self.schedule(int(state.step) - 1)),
            "seconds": seconds,
            "clips_per_second": num_steps * self.epochs.clips_per_step / seconds,
        }

    def without_metrics(self, state: TrainState) -> TrainState:
        """Returns `state` with its sums of training metrics set to zero, as at the beginning of an epoch."""
        return state.replace(metrics=sharding.replicate(Metrics.zero(self.task.num_outputs), self.mesh))

    def save(self, state: TrainState, row: dict[str, float]) -> None:
        """Saves a checkpoint at the end of an epoch, with the validation accuracy in `row`, the epoch's log row."""
        self.checkpoints.save(state, row[BEST_BY])

    def save_unscored(self, state: TrainState, done: int) -> None:
        """Saves a checkpoint within an epoch, after `done` steps of the run, unless there is one of that step."""
        if self.checkpoints.last_step != done:
            self.checkpoints.save(state, None)

    def report(self, state: TrainState, log: RunLog) -> dict[str, Any]:
        """Evaluates the best checkpoint at the end of the run and returns the content of summary.json.

        `state` is the last one. In processes other than the first it does nothing and returns {}.
        """
        if not sharding.is_first():
            return {}
        best = jax.device_get(self.checkpoints.restore("best", state) or state)
        return self.task.report(self.model, best.variables, int(best.step), self.workdir, log)


def check(config: ConfigDict, num_devices: int | None) -> None:
    """Raises InputError for a config that is invalid or differs between processes; it reads no data.

    `num_devices` is the number of devices that share each batch, None for all; the batch size must be a multiple of it.
    """
    sharding.check_same_values(_shared_values(config))
    configs.check(config)
    sharding.check_divisible(config.train.batch_size, sharding.make_mesh(num_devices))


def set_up(task: Task, workdir: Path, num_devices: int | None, deadline: float, stack: contextlib.ExitStack) -> Job:
    """Prepares the run of `task` in `workdir`, from its last checkpoint if there is one.

    Raises InputError if the workdir has another run, or the data or the config cannot be used; if possible, before the
    workdir is created.

    Args:
        task: What is trained: its data, loss and evaluation.
        workdir: The folder of the run.
        num_devices: Number of devices that share each batch; None for all.
        deadline: Time to stop, in seconds of `time.monotonic`.
        stack: Closes the resources of the run, such as checkpoints and the lock of the workdir, when it is closed.
    """
    config, mesh = task.config, sharding.make_mesh(num_devices)
    with sharding.together():
        clips, record = task.data.clips, task.data.record()
        epochs = task.batches(sharding.local_rows(config.train.batch_size))
        num_steps = epochs.num_steps * config.train.num_epochs
        parts = assemble(
            config,
            num_labels=len(clips.label_names),
            rate_hz=clips.rate_hz,
            num_steps=num_steps,
            noises=task.data.noises,
            task=task,
        )
        begin = functools.partial(_started, task, parts.model, parts.state)
        new, state = not (workdir / "config.json").exists(), parts.state
        if new:
            check_unseen(config, clips, task.data.split, _say)
            state = begin()
        checkpoints: Checkpoints = sharding.absent()
        if sharding.is_first():
            stack.enter_context(_claim(workdir, config, record, mesh.size))
            checkpoints = stack.enter_context(Checkpoints(workdir))
        state = checkpoints.restore("last", state) or (state if new else begin())
    sharding.check_same(json.dumps(record), "config.data has different clips")
    interrupt = stack.enter_context(Interrupt(alone=jax.process_count() == 1, deadline=deadline))
    state = sharding.replicate(state, mesh)
    of_steps = (parts.augment_step, parts.train_step, parts.schedule)
    return Job(task, workdir, mesh, epochs, parts.model, state, *of_steps, checkpoints, interrupt)


def _started(task: Task, model: nn.Module, state: TrainState) -> TrainState:
    """Returns the initial state of a run: that of new parameters, or of those of the run in `config.init_from`."""
    started = start_from(task.config.init_from, state, task.config, task.data.clips.label_names, _say)
    return started if started is state else started.replace(carry=task.initial_carry(model, started.variables))


def _say(text: str, **how: Any) -> None:
    """Prints in the first process only."""
    if sharding.is_first():
        print(text, **how)


def _shared_values(config: ConfigDict) -> dict[str, Any]:
    """Returns the values that all processes of a run must share: all keys except the mesh and paths."""
    flat = configs.flatten(config.to_dict())
    same = {f"config.{k}": v for k, v in flat.items() if k not in configs.PATHS and not k.startswith("mesh.")}
    for name in ("init_from", *configs.TRAINING_FOLDERS):
        same[f"config.{name}"] = "a path" if flat[name] else ""
    return same | {"devices": jax.local_device_count()}


@contextlib.contextmanager
def _claim(workdir: Path, config: ConfigDict, record: dict[str, Any], num_devices: int) -> Iterator[None]:
    """Locks `workdir` for this process and checks that its config is that of this run."""
    with only_process(workdir):
        if (workdir / "config.json").exists():
            run_dir.check_resumable(workdir, config, record)
        elif foreign := [name for name in _OUTPUTS if (workdir / name).exists()]:
            raise InputError(
                f"{workdir} holds {foreign[0]} but no config.json of a run, and training would overwrite it; "
                "give another --workdir."
            )
        run_dir.save(workdir, config, record, environment.describe(num_devices))
        yield


def read_summary(workdir: Path, sentence: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Returns the content of summary.json in `workdir`, or {} if there is none, or none that `sentence` can read."""
    try:
        summary = read_json(workdir / "summary.json")
        sentence(summary)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return summary
