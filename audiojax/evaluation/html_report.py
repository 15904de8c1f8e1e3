"""report.html: one file that shows a run, with its pictures and sounds inside, and needs no network."""

import base64
import html
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.audio.signal import wav_file
from audiojax.data.clips import Clips
from audiojax.evaluation import calibration, plots
from audiojax.io.files import write_text
from audiojax.training import runlog

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; display: block; } img.half { max-width: 34rem; width: 100%; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } tr:nth-child(even) { background: #f6f6f6; }
.big { font-size: 2.2rem; font-weight: 600; } .note { color: #666; } audio { height: 2rem; vertical-align: middle; }
.row { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; } .row > * { flex: 1 1 20rem; }
pre { background: #f6f6f6; padding: 1rem; overflow: auto; font-size: .8rem; }
"""


def write(workdir: Path, clips: Clips, result: dict[str, Any]) -> Path:
    """Draws what `result`, evaluate's report, holds, and writes `workdir/report.html`; returns its path."""
    part, names, folder = result["split"], clips.label_names, workdir / "plots"
    title = f"{clips.source}, {part}: {result['accuracy']:.2%}"
    raw = result["calibration"]
    curve = calibration.Reliability(*(np.array(raw[name], float) for name in ("confidence", "accuracy", "clips")))
    confusion = np.asarray(result["confusion"])
    pictures = {
        "curves": plots.curves(runlog.read_rows(workdir), "loss and accuracy by epoch", folder / "curves.png"),
        "confusion": plots.confusion_matrix(confusion, names, title, folder / f"confusion_{part}.png"),
        "reliability": plots.reliability(
            curve, f"calibration error {curve.error:.1%}", folder / f"reliability_{part}.png"
        ),
    }
    for kind in ("speaker", "sex", "accent"):
        path = folder / f"accuracy_by_{kind}_{part}.png"
        pictures[kind] = plots.accuracy_by_group(result[f"accuracy_by_{kind}"], f"accuracy by {kind}", path)
    worst = result["worst"]
    if worst:
        notes = [f"“{error['said']}” heard as “{error['heard']}” ({error['probability']:.0%})" for error in worst]
        indices = [error["index"] for error in worst]
        path = folder / f"worst_{part}.png"
        pictures["worst"] = plots.waveforms_and_spectrograms(clips, indices, "the surest errors", path, notes=notes)

    low, high = result["interval"]
    body = [
        f"<h1>{html.escape(workdir.resolve().name)}</h1>",
        f'<p><span class="big">{result["accuracy"]:.2%}</span> accuracy on {result["clips"]:,} {part} clips of '
        f"{html.escape(clips.source)} (95 % interval {low:.1%} to {high:.1%}), loss {result['loss']:.3f}, "
        f"checkpoint at step {result['step']:,}.</p>",
        "<h2>Learning</h2>",
        _image(pictures["curves"]),
        "<h2>What was said, what was heard</h2>",
        _image(pictures["confusion"], "half"),
        _table("word", result["accuracy_by_label"]),
        "<h2>How sure, how right</h2>",
        f'<div class="row">{_image(pictures["reliability"], "half")}<p>Temperature {raw["temperature"]:.2f}, fitted '
        f"on the validation clips. Expected calibration error {raw['error']:.1%} with it, "
        f"{raw['error_uncalibrated']:.1%} without; loss {raw['loss']:.3f} with it, "
        f"{result['loss']:.3f} without.</p></div>",
        "<h2>Who was heard how well</h2>",
        *(_image(pictures[kind], "half") for kind in ("speaker", "sex", "accent")),
        '<p class="note">Accuracy with its 95 % Wilson interval; the number of clips in brackets.</p>',
        "<h2>The surest errors</h2>",
        _image(pictures["worst"]) if worst else "<p>There are none.</p>",
        *(_error(clips, error) for error in worst),
        "<h2>The run</h2>",
        f"<pre>{html.escape((workdir / 'config.json').read_text())}</pre>",
    ]
    write_text(
        workdir / "report.html",
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>\n" + "\n".join(body) + "\n</html>\n",
    )
    return workdir / "report.html"


def _image(path: Path, size: str = "") -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img class="{size}" alt="{path.stem}" src="data:image/png;base64,{content}">'


def _error(clips: Clips, error: dict[str, Any]) -> str:
    sound = base64.b64encode(wav_file(clips[error["index"]], clips.rate_hz)).decode()
    words = f"“{error['said']}” heard as “{error['heard']}” ({error['probability']:.0%}), {error['path']}"
    return f'<p><audio controls src="data:audio/wav;base64,{sound}"></audio> {html.escape(words)}</p>'


def _table(kind: str, groups: dict[str, dict[str, Any]]) -> str:
    rows = [
        f'<tr><td>{html.escape(name)}</td><td class="n">{of["accuracy"]:.1%}</td>'
        f'<td class="n">{of["interval"][0]:.1%} to {of["interval"][1]:.1%}</td><td class="n">{of["clips"]:,}</td></tr>'
        for name, of in groups.items()
    ]
    return f"<table><tr><th>{kind}<th>accuracy<th>95 % interval<th>clips</tr>{''.join(rows)}</table>"
