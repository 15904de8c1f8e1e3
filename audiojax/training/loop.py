"""Training, read top to bottom: data, state, the loop, the end."""

import contextlib
import functools
import itertools
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax import evaluate
from audiojax.data import batches, loading, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.evaluation import plots
from audiojax.evaluation.summary import finish, finished, sentence
from audiojax.inference import Trained
from audiojax.io.files import only_process
from audiojax.streaming import material, sampler
from audiojax.training import environment, run_dir, runlog
from audiojax.training import sharding as meshes
from audiojax.training.build import assemble
from audiojax.training.checkpoint import BEST_BY, Checkpoints, diverged
from audiojax.training.metrics import Metrics
from audiojax.training.preemption import Interrupt, Stopped
from audiojax.training.sharding import absent, is_first, local_rows, preempted, replicate, shard_batch, together
from audiojax.training.start import check_unseen, start_from
from audiojax.training.state import listens
from audiojax.training.steps import StepReport

_OUTPUTS = ("checkpoints", "metrics.jsonl", "summary.json", "report.html")  # what a run replaces in its workdir


RARE = 0.01  # the share of clips that may be cut without a warning


def run(
    config: ConfigDict, workdir: Path | str, *, num_devices: int | None = None, deadline: float = math.inf
) -> dict[str, float]:
    """Trains by `config` in `workdir`, from its last checkpoint if it has one, and returns what summary.json holds.

    Every number is a function of the config and the clips: a run that was stopped and resumed ends with the
    parameters of an unbroken one, bit for bit on the CPU.

    Args:
        num_devices: how many of the visible devices share each batch; all by default.
        deadline: when to stop as if asked to, in seconds of `time.monotonic`; for one process alone.

    Raises:
        InputError: a workdir of another run, data or a config that cannot be used, a loss that is not finite.
        Stopped: Ctrl-C, SIGTERM or the deadline came, and what was done is saved.
    """
    workdir, first = Path(workdir), is_first()  # the first of a run's processes speaks, logs and saves
    say = print if first else absent().say
    meshes.check_same_values(_shared_values(config))
    configs.check(config)
    mesh = meshes.make_mesh(num_devices)
    meshes.check_divisible(config.train.batch_size, mesh)
    with contextlib.ExitStack() as held:
        with together():
            clips, split = loading.load_split(config)
            also = loading.load_also(config, clips, splits.held_out(split))
            data = {"source": clips.source, "key": clips.key, "label_names": list(clips.label_names)}
            data |= {"also_key": also.key} if also else {}
            shape = configs.batch_shape(config) | {"rows": local_rows(config.train.batch_size)}
            epochs, clips_per_step = _epochs(config, *_learnt(clips, split.train, also), shape)
            num_steps = epochs.num_steps * config.train.num_epochs
            model, state, augment_step, train_step, schedule = assemble(
                config, num_labels=len(clips.label_names), rate_hz=clips.rate_hz, num_steps=num_steps
            )
            accuracy_name = "frame_accuracy" if listens(model) else "accuracy"  # of training; strings have words
            score, key = evaluate.make_score(config, model, clips, split, mesh, shape), jax.random.key(config.seed)

            new = not (workdir / "config.json").exists()
            begin = functools.partial(start_from, config.init_from, state, config, clips.label_names, say)
            if new:  # what cannot be started from is refused before there is a workdir
                check_unseen(config, clips, split, say)
                state = begin()
            checkpoints: Checkpoints = absent()
            if first:
                held.enter_context(_claim(workdir, config, data, mesh.size))
                checkpoints = held.enter_context(Checkpoints(workdir))
            restored = checkpoints.restore("last", state)
            state = restored or (state if new else begin())
        meshes.check_same(json.dumps(data), "config.data holds other clips")
        interrupt = held.enter_context(Interrupt(alone=jax.process_count() == 1, deadline=deadline))
        state = replicate(state, mesh)
        done = int(state.step)
        summary = finished(workdir, config.train.num_epochs, checkpoints, state) if done == num_steps else {}
        if summary:
            say(f"{workdir} is finished. {sentence(summary)}\nRaise --config.train.num_epochs to train on.")
            return summary

        say(_opening(clips, split, config, state.params, mesh.size, also))
        if warning := _truncation(config, clips, also):
            say(warning, file=sys.stderr)
        if done:
            say(f"Resuming at step {done} of {num_steps}.")
        # An epoch that was stopped in its middle, or before it was scored, has sums.
        scored = not state.metrics.count
        kept = {"step": done, "num_steps": num_steps, "scored": scored}
        with runlog.RunLog(workdir, config.to_dict(), **kept) if first else absent() as log:
            stream = interrupt.guard(epochs(done, num_steps))
            sharded = enumerate(batches.prefetch(shard_batch(batch, mesh) for batch in stream), start=done)
            on_device = batches.one_ahead(augment_step(batch, key, step) for step, batch in sharded)
            first_epoch = (done - (not scored)) // epochs.num_steps
            previous = None
            try:
                for epoch in range(first_epoch, config.train.num_epochs):
                    start, steps = time.perf_counter(), (epoch + 1) * epochs.num_steps - done
                    for batch in itertools.islice(on_device, steps):
                        if preempted(done):
                            raise Stopped("asked to stop", signal.SIGTERM)
                        state, report = train_step(state, batch, key)
                        if previous is not None:  # read one step late, so that the device never waits for the host
                            _log_step(log, done, previous, config.train.log_every_steps, accuracy_name)
                        done, previous = done + 1, report
                    if previous is not None:
                        _log_step(log, done, previous, config.train.log_every_steps, accuracy_name)
                    seconds, previous = time.perf_counter() - start, None

                    sums = {"train": state.metrics}
                    sums |= {part: score(state.variables, part, interrupt.guard) for part in ("validation", "test")}
                    row = _epoch_row(epoch + 1, sums, accuracy_name) | {
                        "learning_rate": float(schedule(done - 1)),
                        "gradient_norm": float(state.gradient_norm),
                        "seconds": seconds,
                        "clips_per_second": steps * clips_per_step / seconds,
                    }
                    _check_finite(row, done)
                    log.row(done, row)  # before the checkpoint: a resumed run drops rows that are ahead of it
                    state = state.replace(metrics=replicate(Metrics.zero(len(state.metrics.confusion)), mesh))
                    checkpoints.save(state, row[BEST_BY])
                    log.say(_epoch_line(row, config.train.num_epochs))

                if not first:
                    return {}
                best = jax.device_get(checkpoints.restore("best", state) or state)
                opened = Trained(config, data, model, jax.device_put(best.variables), int(best.step))
                return finish(workdir, log, clips, split, opened)
            except Stopped as stopped:
                if previous is not None:
                    _log_step(log, done, previous, config.train.log_every_steps, accuracy_name)
                if checkpoints.last_step != done:
                    checkpoints.save(state, None)
                where = f"stopped at step {done} of {num_steps}, which is saved; the same command goes on from there."
                raise Stopped(where, stopped.signal_number) from None


def _shared_values(config: ConfigDict) -> dict[str, Any]:
    """Returns what the processes of one run must have in common: all keys but the mesh and paths."""
    flat = configs.flatten(config.to_dict())
    same = {f"config.{k}": v for k, v in flat.items() if k not in configs.PATHS and not k.startswith("mesh.")}
    for name in ("init_from", "streams.real"):
        same[f"config.{name}"] = "a path" if flat[name] else ""
    return same | {"devices": jax.local_device_count()}


def _learnt(clips: Clips, indices: np.ndarray, also: Clips | None) -> tuple[Clips, np.ndarray]:
    """Clips, and the indices of those that are learnt: the `clips` at `indices`, and all of `also`."""
    if also is None:
        return clips, indices
    return clips.joined(also), np.concatenate([indices, len(clips) + np.arange(len(also))])


def _epochs(config: ConfigDict, clips: Clips, indices: np.ndarray, shape: dict) -> tuple[Any, float]:
    """What a run learns from, the `clips` at `indices`, batch by batch, and how many clips a batch has on average."""
    if not config.streams.steps_per_epoch:
        stretch = 1 + config.augment.speed
        epochs = batches.Epochs(clips, indices, **shape, stretch=stretch, seed=config.seed)
        return epochs, len(indices) / epochs.num_steps
    pools, others = material.load_pools(config, clips, indices)
    endless = sampler.Endless(
        pools,
        others,
        batch_size=config.train.batch_size,
        segment_samples=config.train.length_samples,
        step_samples=config.model.hop_samples * config.model.stack_frames,
        num_steps=config.streams.steps_per_epoch,
        rows=shape["rows"],
        seed=config.seed,
        mixture=sampler.Mixture(**{name: config.streams[name] for name in sampler.Mixture._fields}),
        real=material.load_real(config),
    )
    return endless, config.train.batch_size


@contextlib.contextmanager
def _claim(workdir: Path, config: ConfigDict, data: dict, num_devices: int) -> Iterator[None]:
    """Holds `workdir` for this run and no other, neither another process nor another config."""
    with only_process(workdir):
        if (workdir / "config.json").exists():
            run_dir.check_resumable(workdir, config, data)
        elif foreign := [name for name in _OUTPUTS if (workdir / name).exists()]:
            raise InputError(
                f"{workdir} holds {foreign[0]} but no config.json of a run, and training would overwrite it; "
                "give another --workdir."
            )
        run_dir.save(workdir, config, data, environment.describe(num_devices))
        yield


def _truncation(config: ConfigDict, clips: Clips, also: Clips | None) -> str | None:
    """Returns a warning where training cuts clips of a length that is not rare; None otherwise."""
    limit, length = config.train.length_samples, np.concatenate([of.length for of in (clips, also) if of])
    cut = length > limit
    if config.streams.steps_per_epoch or cut.mean() < RARE:
        return None
    needed = -(-int(np.percentile(length, 100 * (1 - RARE))) // 100) * 100
    return (
        f"audiojax: warning: {cut.mean():.0%} of the clips are longer than config.train.length_samples, {limit:,} "
        f"({limit / clips.rate_hz:.2f} s at {clips.rate_hz:,} Hz), and are cut; the median clip of those loses "
        f"{np.median(1 - limit / length[cut]):.0%}. Set --config.train.length_samples={needed} to keep them whole."
    )


def _log_step(
    log: runlog.RunLog, done: int, report: StepReport, log_every_steps: int, accuracy_name: str = "accuracy"
) -> None:
    """Logs the step that made `done` steps; stops training where its loss is not finite."""
    values = report.metrics.summary(accuracy_name)
    gradient_norm = float(report.gradient_norm)
    _check_finite(values | {"gradient_norm": gradient_norm}, done)
    log.advance(done, f"loss {values['loss']:.3f}  {accuracy_name.replace('_', ' ')} {values[accuracy_name]:.1%}")
    if done % log_every_steps == 0:
        row = {f"step/{name}": value for name, value in values.items()}
        log.row(done, row | {"learning_rate": float(report.learning_rate), "gradient_norm": gradient_norm})


def _epoch_row(epoch: int, sums: dict[str, Metrics], train_accuracy_name: str) -> dict[str, float]:
    row: dict[str, float] = {"epoch": epoch}
    for part, total in sums.items():
        values = total.summary(train_accuracy_name if part == "train" else "accuracy")
        row |= {f"{part}/{name}": value for name, value in values.items()}
    return row


def _check_finite(row: dict[str, float], done: int) -> None:
    """Stops training where a number of the row is not finite."""
    if wrong := [f"{name} is {value:g}" for name, value in row.items() if not math.isfinite(value)]:
        raise diverged(f"{' and '.join(wrong)} at step {done}")


def _opening(
    clips: Clips, split: splits.Split, config: ConfigDict, params: dict, num_devices: int, also: Clips | None
) -> str:
    parts = []
    for name, indices in split._asdict().items():
        num_speakers = len(np.unique(clips.speaker[indices]))
        parts.append(f"{name} {len(indices):,} clips of {num_speakers} speaker{'s' * (num_speakers > 1)}")
    if also:
        parts[0] += f" and {len(also):,} of {also.source}"
    num_parameters = sum(x.size for x in jax.tree.leaves(params))
    device = jax.devices()[0]
    return (
        f"Data: {clips.source}, split {config.split.name}: {', '.join(parts)}\n"
        f"Model: {config.model.name}, {num_parameters:,} parameters, on {num_devices} x {device.device_kind}"
    )


def _epoch_line(row: dict, num_epochs: int) -> str:
    parts = []
    for name in plots.PARTS:
        of_frames = f"{name}/frame_accuracy" in row
        accuracy = row[f"{name}/frame_accuracy" if of_frames else f"{name}/accuracy"]
        parts.append(f"{name} {row[name + '/loss']:.3f} {accuracy:6.1%}{' of frames' if of_frames else ''}")
    return f"epoch {row['epoch']:>3}/{num_epochs}   {'   '.join(parts)}   {row['clips_per_second']:,.0f} clips/s"
