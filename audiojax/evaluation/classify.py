"""Scores of a clip classifier on the clips of a split."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from audiojax import inference
from audiojax.data import batches, splits
from audiojax.data.clips import Batch, Clips
from audiojax.evaluation import calibration, html_report
from audiojax.inference import Trained, softmax
from audiojax.training.metrics import Metrics
from audiojax.training.sharding import Mesh, shard_batch
from audiojax.training.steps import EvalStep

NUM_WORST = 8


_sums = jax.jit(Metrics.of)


def score(
    eval_step: EvalStep, variables: dict[str, Any], parts: Iterable[Batch], num_labels: int, mesh: Mesh
) -> Metrics:
    """Returns the metrics of the batches `parts`, added up on the device.

    `eval_step` computes those of one batch, and `variables` are the {"params", "batch_stats"} for it. Each batch is
    shared by the devices of `mesh`.
    """
    metrics = Metrics.zero(num_labels)
    for batch in batches.prefetch(shard_batch(part, mesh) for part in parts):
        metrics = metrics + eval_step(variables, batch)
    return metrics


def calibrate(run: Trained, clips: Clips, validation: np.ndarray) -> Trained:
    """Returns the run with the temperature, the divisor of its logits, that fits its validation clips best.

    `validation` are the indices i64[n] of these clips in `clips`.
    """
    temperature = calibration.fit_temperature(run.logits_of(clips, validation), clips.label[validation])
    return dataclasses.replace(run, temperature=temperature)


def report(run: Trained, clips: Clips, indices: np.ndarray) -> dict[str, Any]:
    """Returns the scores of a run on the clips at `indices`, as a dict that can be written as JSON.

    It has loss, accuracy and its 95 % interval, number of clips, calibration, accuracy by label, speaker, sex and
    accent, the confusion matrix [true][predicted], and under "worst" the errors with the highest probabilities.
    """
    logits, label = run.logits_of(clips, indices), clips.label[indices]
    probabilities = run.probabilities(logits)
    guess, whole = probabilities.argmax(axis=1), _sums(logits, label, np.ones(len(indices), np.float32))
    speakers = [str(name) for name in clips.speaker[indices]]
    about = [clips.speakers[name] for name in speakers]
    groups = {
        "label": [run.label_names[number] for number in label],
        "speaker": speakers,
        "sex": [speaker.sex for speaker in about],
        "accent": [speaker.accent for speaker in about],
    }
    curve, raw = (
        calibration.reliability(probabilities, label),
        calibration.reliability(softmax(logits), label),
    )
    wrong = np.flatnonzero(guess != label)
    worst = wrong[np.argsort(-probabilities[wrong, guess[wrong]], kind="stable")][:NUM_WORST]
    return {
        **whole.summary(),
        "clips": len(indices),
        "interval": calibration.wilson(int((guess == label).sum()), len(indices)),
        "calibration": {
            "temperature": run.temperature,
            "error": curve.error,
            "error_uncalibrated": raw.error,
            "loss": calibration.cross_entropy(logits, label, run.temperature),
            **{name: [None if np.isnan(x) else x for x in bins.tolist()] for name, bins in vars(curve).items()},
        },
        **{f"accuracy_by_{name}": _by_group(np.asarray(of), guess == label) for name, of in groups.items()},
        "confusion": np.asarray(whole.confusion).tolist(),
        "worst": [
            {
                "index": int(indices[i]),
                "path": clips.path[indices[i]],
                "said": run.label_names[label[i]],
                "heard": run.label_names[guess[i]],
                "probability": float(probabilities[i, guess[i]]),
            }
            for i in worst
        ],
    }


def evaluate(run: Trained, clips: Clips, split: splits.Split, part: str, workdir: Path) -> dict[str, Any]:
    """Fits the temperature of a run on the validation clips and scores the run on a part of the split, such as "test".

    Returns the result of `report` with "workdir", "source", "split" (the part), "step" and "parameters".
    """
    run = calibrate(run, clips, split.validation)
    about = {"workdir": str(workdir), "source": clips.source, "split": part, **run.about()}
    return about | report(run, clips, getattr(split, part))


def write(workdir: Path, clips: Clips, result: dict[str, Any]) -> Path:
    """Writes the temperature, plots and report.html for the `result` of `evaluate` into `workdir`.

    Returns the path of report.html. `clips` are those that were scored; the page has some of them as sound.
    """
    inference.write_temperature(workdir, result["step"], result["calibration"]["temperature"])
    return html_report.write(workdir, clips, result)


def _by_group(group: np.ndarray, right: np.ndarray) -> dict[str, dict[str, Any]]:
    """Returns {name: accuracy, its interval, clips}, the lowest accuracy first."""
    found: dict[str, dict[str, Any]] = {}
    for name in np.unique(group):
        mine = right[group == name]
        found[str(name)] = {
            "accuracy": float(mine.mean()),
            "interval": calibration.wilson(int(mine.sum()), len(mine)),
            "clips": len(mine),
        }
    return dict(sorted(found.items(), key=lambda item: item[1]["accuracy"]))
