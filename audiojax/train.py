"""Training, read top to bottom: data, state, the loop, the end."""

import json
import math
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax import evaluate, models, plots, prepare, runlog
from audiojax.augment import make_augment
from audiojax.checkpoint import BEST_BY, Checkpoints, check_finite, restore_variables
from audiojax.data import batches, splits
from audiojax.mesh import check_divisible, make_mesh, replicated, shard_batch
from audiojax.metrics import Metrics
from audiojax.state import StepReport, TrainState, create_state, make_eval_step, make_optimizer, make_train_step
from audiojax.types import Clips, InputError


def run(config: ConfigDict, workdir: Path | str, *, num_devices: int | None = None) -> dict[str, float]:
    """Trains by `config` in `workdir`, from its last checkpoint if it has one, and returns what summary.json holds.

    Every number is a function of the config and the clips: a run that was stopped and resumed ends with the
    parameters of an unbroken one, bit for bit on the CPU.

    Args:
        num_devices: how many of the visible devices share each batch; all by default.

    Raises:
        InputError: a workdir of another run, data or a config that cannot be used, a loss that is not finite.
    """
    workdir = Path(workdir)
    mesh = make_mesh(num_devices)
    check_divisible(config.train.batch_size, mesh)
    clips = prepare.load_clips(config)
    split = splits.make(clips, **config.split, seed=config.seed)
    data = {"source": clips.source, "key": clips.key, "label_names": list(clips.label_names)}
    if (workdir / "config.json").exists():
        configs.check_resumable(workdir, config, data)

    size = dict(batch_size=config.train.batch_size, length_samples=config.train.length_samples)
    steps_per_epoch = batches.steps_per_epoch(len(split.train), config.train.batch_size)
    num_steps = steps_per_epoch * config.train.num_epochs
    model = models.build(**config.model, num_labels=len(clips.label_names))
    optimizer, schedule = make_optimizer(**config.optimizer, total_steps=num_steps)
    augment = make_augment(**config.augment)
    train_step = make_train_step(model, optimizer, schedule, augment, label_smoothing=config.train.label_smoothing)
    eval_step = make_eval_step(model)
    state = create_state(model, optimizer, seed=config.seed, length_samples=config.train.length_samples)
    key = jax.random.key(config.seed)

    if config.init_from:
        state = _start_from(Path(config.init_from).expanduser(), state)
    configs.save(workdir, config, data)
    with Checkpoints(workdir) as checkpoints:
        if checkpoints.last_step is not None:
            state = checkpoints.restore("last", state, replicated(mesh))
        state = jax.device_put(state, replicated(mesh))
        done = int(state.step)
        summary = _read_summary(workdir)
        if done == num_steps and summary.get("epochs") == config.train.num_epochs:
            print(f"{workdir} is finished. {_sentence(summary)}\nRaise --config.train.num_epochs to train on.")
            return summary

        print(_opening(clips, split, config, state.params, mesh.size))
        if done:
            print(f"Resuming at step {done} of {num_steps}.")
        with runlog.RunLog(workdir, config.to_dict(), step=done, num_steps=num_steps) as log:

            def score(variables: dict, indices: np.ndarray) -> Metrics:
                rows = batches.evaluation(clips, indices, **size)
                return evaluate.score(eval_step, variables, rows, len(clips.label_names), mesh)

            stream = batches.fixed_length(clips, split.train, **size, seed=config.seed, start=done, stop=num_steps)
            on_device = batches.prefetch(shard_batch(batch, mesh) for batch in stream)
            for epoch in range(done // steps_per_epoch, config.train.num_epochs):
                metrics, previous, start = Metrics.zero(len(clips.label_names)), None, time.perf_counter()
                for _ in range(steps_per_epoch):
                    state, report = train_step(state, next(on_device), key)
                    metrics = metrics + report.metrics
                    if previous is not None:  # read one step late, so that the device never waits for the host
                        _log_step(log, done, previous, config.train.log_every_steps)
                    done, previous = done + 1, report
                _log_step(log, done, report, config.train.log_every_steps)
                seconds = time.perf_counter() - start

                row: dict = {"epoch": epoch + 1}
                sums = {"train": metrics}
                sums |= {part: score(state.variables, getattr(split, part)) for part in ("validation", "test")}
                for part, total in sums.items():
                    row |= {f"{part}/{name}": value for name, value in total.summary().items()}
                row |= {"learning_rate": float(report.learning_rate), "gradient_norm": float(report.gradient_norm)}
                row |= {"seconds": seconds, "clips_per_second": steps_per_epoch * config.train.batch_size / seconds}
                check_finite(state)
                log.row(done, row)  # before the checkpoint: a resumed run drops rows that are ahead of it
                checkpoints.save(state, row[BEST_BY])
                log.say(_epoch_line(row, config.train.num_epochs))

            best = checkpoints.restore("best", state, replicated(mesh))
            last_row = [row for row in runlog.read_rows(workdir) if "epoch" in row][-1]
            return _finish(workdir, log, clips, split, last_row, score(best.variables, split.test))


def _start_from(workdir: Path, state: TrainState) -> TrainState:
    """The state with the best parameters of another run, whose shapes must be the same."""
    variables, _ = restore_variables(workdir, "best")
    if jax.tree.map(np.shape, variables) != jax.tree.map(np.shape, state.variables):
        raise InputError(f"config.init_from is {workdir}, whose network has other shapes; give it the same model keys.")
    return state.replace(**variables)


def _log_step(log: runlog.RunLog, done: int, report: StepReport, log_every_steps: int) -> None:
    """Logs the step that made `done` steps; stops training where its loss is not finite."""
    values = report.metrics.summary()
    gradient_norm = float(report.gradient_norm)
    if not math.isfinite(values["loss"]) or not math.isfinite(gradient_norm):
        raise InputError(
            f"the loss is {values['loss']:g} and the gradient norm {gradient_norm:g} at step {done}; nothing of it was "
            "saved: lower --config.optimizer.learning_rate or set --config.optimizer.clip_norm=1, in another --workdir."
        )
    log.advance(done, f"loss {values['loss']:.3f}  accuracy {values['accuracy']:.1%}")
    if done % log_every_steps == 0:
        row = {f"step/{name}": value for name, value in values.items()}
        log.row(done, row | {"learning_rate": float(report.learning_rate), "gradient_norm": gradient_norm})


def _opening(clips: Clips, split: splits.Split, config: ConfigDict, params: dict, num_devices: int) -> str:
    parts = []
    for name, indices in split._asdict().items():
        num_speakers = len(np.unique(clips.speaker[indices]))
        parts.append(f"{name} {len(indices):,} clips of {num_speakers} speaker{'s' * (num_speakers > 1)}")
    num_parameters = sum(x.size for x in jax.tree.leaves(params))
    device = jax.devices()[0]
    return (
        f"Data: {clips.source}, split {config.split.name}: {', '.join(parts)}\n"
        f"Model: {config.model.name}, {num_parameters:,} parameters, on {num_devices} x {device.device_kind}"
    )


def _epoch_line(row: dict, num_epochs: int) -> str:
    parts = "   ".join(f"{name} {row[name + '/loss']:.3f} {row[name + '/accuracy']:6.1%}" for name in plots.PARTS)
    return f"epoch {row['epoch']:>3}/{num_epochs}   {parts}   {row['clips_per_second']:,.0f} clips/s"


def _finish(workdir: Path, log: runlog.RunLog, clips: Clips, split: splits.Split, last: dict, best: Metrics) -> dict:
    """Draws the pictures, sends them to W&B, writes the summary and says where everything lies."""
    names, folder = clips.label_names, workdir / "plots"
    summary = {
        "source": clips.source,
        "epochs": last["epoch"],
        **{f"last/{name}": last[f"{name}/accuracy"] for name in plots.PARTS},
        "test/accuracy": best.summary()["accuracy"],
        "test/loss": best.summary()["loss"],
    }
    title = f"{clips.source}: test accuracy {summary['test/accuracy']:.2%} at the best validation accuracy"
    confusion = np.asarray(best.confusion)
    examples = [split.test[clips.label[split.test] == label][0] for label in _four_and_eight(clips, split)]
    pictures = [
        plots.curves(runlog.read_rows(workdir), title, folder / "curves.png"),
        plots.confusion_matrix(confusion, names, title, folder / "confusion_test.png"),
        plots.waveforms_and_spectrograms(clips, examples, clips.source, folder / "examples.png"),
    ]
    sounds = {
        f"{clips.source}: {names[clips.label[i]]}, speaker {clips.speaker[i]}": (clips[i], clips.rate_hz)
        for i in examples
    }
    log.pictures(pictures, sounds, confusion, names)
    (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    log.say(f"{_sentence(summary)}\nEverything lies in {workdir}; the pictures in {folder}.")
    log.say(f"Try it: python -m audiojax.predict --workdir {workdir} FILE.wav")
    return summary


def _read_summary(workdir: Path) -> dict:
    path = workdir / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _four_and_eight(clips: Clips, split: splits.Split) -> list[int]:
    """The labels to show: "four" and "eight" where they are tested, else the first that are."""
    tested = set(clips.label[split.test].tolist())
    wanted = [label for label, name in enumerate(clips.label_names) if name in ("four", "eight") and label in tested]
    return wanted or sorted(tested)[:2]


def _sentence(summary: dict) -> str:
    return (
        f"After {summary['epochs']} epochs on {summary['source']} the checkpoint with the best validation accuracy "
        f"has {summary['test/accuracy']:.2%} on the test clips (the last: {summary['last/test']:.2%})."
    )
