"""What is made of a run when it ends: scores, pictures, what W&B keeps, summary.json, and a sentence."""

import json
from pathlib import Path

import numpy as np

from audiojax.data import splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.evaluation import classify, plots
from audiojax.inference import Trained
from audiojax.io import console
from audiojax.io.files import read_json, write_text
from audiojax.streaming import report
from audiojax.training import runlog
from audiojax.training.checkpoint import Checkpoints
from audiojax.training.state import TrainState


def finish(workdir: Path, log: runlog.RunLog, clips: Clips, split: splits.Split, best: Trained) -> dict:
    """Scores the best checkpoint of a run that has ended, draws, sends it all to W&B, and writes the summary.

    Returns what summary.json holds. Raises InputError where metrics.jsonl has no epochs.
    """
    epochs = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    if not epochs:
        raise InputError(
            f"{workdir / 'metrics.jsonl'} has lost its epochs, which the summary needs; raise "
            "--config.train.num_epochs to train on, or score what was saved with python -m audiojax.evaluate."
        )
    last = epochs[-1]
    if best.listens:
        return _finish_listener(workdir, log, clips, split, best, epochs)
    result = classify.tell(best, clips, split, "test", workdir)
    page = classify.keep(workdir, clips, result)
    summary = {
        "source": clips.source,
        "epochs": last["epoch"],
        "step": best.step,
        **{f"last/{name}": last[f"{name}/accuracy"] for name in plots.PARTS},
        "test/accuracy": result["accuracy"],
        "test/interval": result["interval"],
        "test/loss": result["loss"],
        "test/calibration_error": result["calibration"]["error"],
    }
    examples = [split.test[clips.label[split.test] == label][0] for label in _four_and_eight(clips, split)]
    plots.waveforms_and_spectrograms(clips, examples, clips.source, workdir / "plots" / "examples.png")
    sounds = {
        f"{clips.source}: {clips.label_names[clips.label[i]]}, speaker {clips.speaker[i]}": (clips[i], clips.rate_hz)
        for i in examples
    }
    pictures = sorted((workdir / "plots").glob("*.png"))
    log.pictures(pictures, sounds, np.asarray(result["confusion"]), clips.label_names)
    write_text(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    log.say(f"{sentence(summary)}\nEverything lies in {workdir}; start with {page}.")
    if result["interval"][0] <= 1 / len(clips.label_names):
        log.say(f"That may be chance (one of {len(clips.label_names)} labels): train longer, or on more clips.")
    else:
        log.say(f"Try it: python -m audiojax.predict --workdir {workdir} FILE.wav")
    return summary


def _finish_listener(
    workdir: Path, log: runlog.RunLog, clips: Clips, split: splits.Split, best: Trained, epochs: list[dict]
) -> dict:
    """Likewise, of a run whose network listens."""
    amount = {"num_strings": best.config.streams.num_strings, "hours": best.config.streams.alarm_hours}
    with console.progress("listening", unit="tests") as progress:
        result = report.tell(best, clips, split, "test", workdir, **amount, progress=progress)
    report.keep(workdir, result)
    strings = {name: both["reset"] for name, both in result["strings"].items()}
    summary = {
        "source": clips.source,
        "epochs": epochs[-1]["epoch"],
        "step": best.step,
        **{f"last/{name}": epochs[-1][f"{name}/accuracy"] for name in ("validation", "test")},
        **{f"test/digit_error_rate/{name}": of["digit_error_rate"] for name, of in strings.items()},
        "test/delay_median_seconds": strings["clean"]["delay_median_seconds"],
        "test/accuracy": result["isolated"]["accuracy"],
    }
    plots.curves(epochs, "loss and accuracy by epoch", workdir / "plots" / "curves.png")
    confusion, names = np.asarray(strings["clean"]["confusion"]), (*clips.label_names, "nothing")
    plots.confusion_matrix(confusion, names, "said and heard, clean", workdir / "plots" / "confusion_test.png")
    log.pictures(sorted((workdir / "plots").glob("*.png")), {}, confusion, names)
    write_text(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    log.say(report.show(result))
    log.say(f"{sentence(summary)}\nEverything lies in {workdir}.")
    log.say(f"Try it: python -m audiojax.listen --workdir {workdir} FILE.wav")
    return summary


def read_summary(workdir: Path) -> dict:
    """What summary.json holds; empty where the run has not ended, or the file is damaged."""
    try:
        summary = read_json(workdir / "summary.json")
        sentence(summary)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return summary


def finished(workdir: Path, num_epochs: int, checkpoints: Checkpoints, like: TrainState) -> dict:
    """What summary.json holds of a run that has ended after `num_epochs`, whose best checkpoint is whole; else empty.

    A damaged checkpoint is set aside, with a sentence. `like` is as `Checkpoints.restore` takes it.
    """
    summary = read_summary(workdir)
    if summary.get("epochs") != num_epochs:
        return {}
    scored = summary.get("step", checkpoints.best_step)  # a summary from before it named its checkpoint
    best = checkpoints.restore("best", like)
    return summary if best is not None and int(best.step) == scored else {}


def _four_and_eight(clips: Clips, split: splits.Split) -> list[int]:
    """The labels to show: "four" and "eight" where they are tested, else the first that are."""
    tested = set(clips.label[split.test].tolist())
    wanted = [label for label, name in enumerate(clips.label_names) if name in ("four", "eight") and label in tested]
    return wanted or sorted(tested)[:2]


def sentence(summary: dict) -> str:
    """A summary for people."""
    count = f"{summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}"
    if "test/digit_error_rate/clean" in summary:
        return (
            f"After {count} on {summary['source']} the best listener errs on "
            f"{summary['test/digit_error_rate/clean']:.2%} of the words in clean test strings, "
            f"{summary['test/digit_error_rate/10 dB']:.2%} at 10 dB."
        )
    return (
        f"After {count} on {summary['source']} the checkpoint with the best validation accuracy "
        f"has {summary['test/accuracy']:.2%} on the test clips (the last: {summary['last/test']:.2%})."
    )
