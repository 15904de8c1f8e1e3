"""report.html of a clip classifier: one file with plots and sounds, which needs no network."""

import base64
import html
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.audio.signal import wav_file
from audiojax.data.clips import Clips
from audiojax.evaluation import calibration, html_page, plots
from audiojax.training import runlog


def write(workdir: Path, clips: Clips, result: dict[str, Any]) -> Path:
    """Writes `workdir/report.html` on the scores of a clip classifier, with plots and sounds, and returns its path.

    `result` is that of `classify.evaluate` for `clips`. The plots are also written to `workdir/plots`.
    """
    part, names, folder = result["split"], clips.label_names, workdir / "plots"
    title = f"{clips.source}, {part}: {result['accuracy']:.2%}"
    low, high = result["interval"]
    text = f"accuracy on {result['clips']:,} {part} clips (95 % interval {low:.1%} to {high:.1%})"
    confusion = plots.confusion_matrix(np.asarray(result["confusion"]), names, title, folder / f"confusion_{part}.png")
    body = [html_page.heading(workdir, result, f"{result['accuracy']:.2%}", text)]
    if epochs := [row for row in runlog.read_rows(workdir) if "epoch" in row]:
        curves = plots.curves(epochs, "loss and accuracy by epoch", folder / "curves.png")
        body += ["<h2>Learning curves</h2>", html_page.figure(curves, "plot wide")]
    body += ["<h2>Confusion matrix</h2>", html_page.figure(confusion, "plot half square")]
    body += ["<h2>Accuracy by word</h2>", _groups("word", result["accuracy_by_label"])]
    for kind in ("speaker", "sex", "accent"):
        if len(groups := result[f"accuracy_by_{kind}"]) > 1:
            path = plots.accuracy_by_group(groups, f"accuracy by {kind}", folder / f"accuracy_by_{kind}_{part}.png")
            body += [f"<h2>Accuracy by {kind}</h2>", html_page.figure(path)]
    body += _calibration(result, folder / f"reliability_{part}.png")
    body += _worst(clips, result["worst"], folder / f"worst_{part}.png")
    return html_page.write(workdir, title, body)


def _groups(kind: str, groups: dict[str, dict[str, Any]]) -> str:
    rows = [
        (name, f"{of['accuracy']:.1%}", f"{of['interval'][0]:.1%} to {of['interval'][1]:.1%}", f"{of['clips']:,}")
        for name, of in groups.items()
    ]
    return html_page.table((kind, "accuracy", "95 % interval", "clips"), rows)


def _calibration(result: dict[str, Any], path: Path) -> list[str]:
    of = result["calibration"]
    curve = calibration.Reliability(*(np.array(of[name], float) for name in ("confidence", "accuracy", "clips")))
    rows = [
        (f"fitted, {of['temperature']:.2f}", f"{of['error']:.1%}", f"{of['loss']:.3f}"),
        ("1", f"{of['error_uncalibrated']:.1%}", f"{result['loss']:.3f}"),
    ]
    return [
        "<h2>Calibration</h2>",
        html_page.figure(plots.reliability(curve, f"calibration error {curve.error:.1%}", path)),
        html_page.table(("temperature", "expected calibration error", "loss, nats"), rows),
        '<p class="note">The temperature is fitted on the validation clips.</p>',
    ]


def _worst(clips: Clips, worst: list[dict[str, Any]], path: Path) -> list[str]:
    if not worst:
        return ["<h2>Most confident errors</h2>", "<p>There are none.</p>"]
    notes = [f"“{error['said']}”, predicted “{error['heard']}” ({error['probability']:.0%})" for error in worst]
    indices = [error["index"] for error in worst]
    plots.waveforms_and_spectrograms(clips, indices, "most confident errors", path, notes=notes)
    sounds = (base64.b64encode(wav_file(clips[index], clips.rate_hz)).decode() for index in indices)
    return [
        "<h2>Most confident errors</h2>",
        html_page.figure(path, "spectrogram wide"),
        *(
            f'<p><audio controls src="data:audio/wav;base64,{sound}"></audio> '
            f"{html.escape(note)}, {html.escape(error['path'])}</p>"
            for sound, note, error in zip(sounds, notes, worst, strict=True)
        ),
    ]
