"""The end of a training run: evaluation of the best checkpoint, plots, summary.json, W&B, and a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.data import splits
from audiojax.data.clips import Clips
from audiojax.data.loading import Data
from audiojax.errors import InputError
from audiojax.evaluation import classify, plots
from audiojax.inference import Trained
from audiojax.io.files import write_text
from audiojax.training import runlog


def epochs_of(workdir: Path) -> list[dict[str, Any]]:
    """Returns the rows {name: number} of all epochs in `workdir/metrics.jsonl`; raises InputError if there are none."""
    epochs = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    if not epochs:
        raise InputError(
            f"{workdir / 'metrics.jsonl'} has no epochs, which the summary needs; raise "
            "--config.train.num_epochs to train on, or evaluate the checkpoint with python -m audiojax.evaluate."
        )
    return epochs


def report(best: Trained, data: Data, workdir: Path, log: runlog.RunLog) -> dict[str, Any]:
    """Evaluates the best checkpoint of a clip classifier on its test clips and writes the results into `workdir`.

    They are plots, report.html and summary.json, whose content is returned. `log` sends the plots and some sounds to
    Weights & Biases, and prints the result. `data` has the clips and their split. Raises InputError if
    metrics.jsonl has no epochs.
    """
    last, clips, split = epochs_of(workdir)[-1], data.clips, data.split
    result = classify.evaluate(best, clips, split, "test", workdir)
    page = classify.write(workdir, clips, result)
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
        log.say(f"This may be chance (one of {len(clips.label_names)} labels): train longer, or on more clips.")
    else:
        log.say(f"To use it: python -m audiojax.predict --workdir {workdir} FILE.wav")
    return summary


def _four_and_eight(clips: Clips, split: splits.Split) -> list[int]:
    """Returns the labels of the example plots: "four" and "eight" if the test set has them, else its first two."""
    tested = set(clips.label[split.test].tolist())
    preferred = [label for label, name in enumerate(clips.label_names) if name in ("four", "eight") and label in tested]
    return preferred or sorted(tested)[:2]


def sentence(summary: dict[str, Any]) -> str:
    """Returns the content of summary.json as a sentence on the test accuracy."""
    count = f"{summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}"
    return (
        f"After {count} on {summary['source']} the checkpoint with the best validation accuracy "
        f"has a test accuracy of {summary['test/accuracy']:.2%} (the last one: {summary['last/test']:.2%})."
    )
