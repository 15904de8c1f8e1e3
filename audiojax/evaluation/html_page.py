"""Parts of a self-contained HTML page on a run: its facts, plots, tables and config."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiojax.io.files import read_json, write_text
from audiojax.training import run_dir, runlog

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --weak: #59636e; --line: #d1d9e0; --shade: #f6f8fa; --page: #fff; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--page); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin-bottom: .5rem; }
h2 { font-size: 1.15rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.big { font-size: 2.2rem; font-weight: 600; } .note { color: var(--weak); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 1rem 0; }
.facts dt { color: var(--weak); } .facts dd { margin: 0; }
.scroll { overflow-x: auto; }
img { display: block; width: 100%; border-radius: .3rem; } .wide img { min-width: 40rem; }
.half { max-width: 34rem; } .square img { min-width: 30rem; }
table { border-collapse: collapse; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: .3rem; }
thead th { border-bottom: 1px solid var(--line); } tbody tr:nth-child(even) { background: var(--shade); }
audio { height: 2rem; max-width: 100%; vertical-align: middle; }
pre { background: var(--shade); padding: 1rem; overflow: auto; font-size: .8rem; }
summary { cursor: pointer; color: var(--weak); }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --weak: #9198a1; --line: #3d444d; --shade: #151b23; --page: #0d1117; }
  .plot img { filter: invert(.93) hue-rotate(180deg); } .spectrogram img { filter: brightness(.85); }
}
@media (max-width: 30rem) {
  td, th { padding: .2rem .4rem; } th { white-space: normal; vertical-align: bottom; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: .5rem; }
}
"""


def write(workdir: Path, title: str, body: Sequence[str]) -> Path:
    """Writes `workdir/report.html` and returns its path.

    The page has the `title`, the HTML in `body`, joined by line breaks, and at its end the config of the run.
    """
    config = json.dumps(read_json(workdir / "config.json"), indent=2)
    closing = f"<h2>Config</h2>\n<details><summary>config.json</summary><pre>{html.escape(config)}</pre></details>"
    head = f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    write_text(
        workdir / "report.html",
        f'<!doctype html><html lang="en"><meta charset="utf-8">{head}<style>{_STYLE}</style>\n'
        + "\n".join([*body, closing])
        + "\n</html>\n",
    )
    return workdir / "report.html"


def heading(workdir: Path, result: dict[str, Any], number: str, text: str) -> str:
    """Returns the top of the page on a run as HTML: its name, its main result, and a list of facts.

    `number` is the main result, in large type, and `text` describes it. The facts, such as model, data and device,
    are from files in `workdir` and from `result` (its keys "parameters", "source" and "step").
    """
    facts = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in _facts(workdir, result))
    return (
        f"<h1>{html.escape(workdir.resolve().name)}</h1>\n"
        f'<p><span class="big">{number}</span> {html.escape(text)}</p>\n<dl class="facts">{facts}</dl>'
    )


def _facts(workdir: Path, result: dict[str, Any]) -> list[tuple[str, str]]:
    config, _ = run_dir.load(workdir)
    saved = read_json(workdir / "config.json").get("environments") or [{}]
    environment, versions = saved[-1], saved[-1].get("versions", {})
    epochs = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    minutes = sum(row.get("seconds", 0.0) for row in epochs) / 60
    split = f"{config.split.name} split" + f", fold {config.split.fold}" * (config.split.name in ("folds", "speaker"))
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("audiojax", "jax", "flax") if versions.get(name))
    facts = [
        ("model", f"{config.model.name}, {result['parameters']:,} parameters"),
        ("data", f"{result['source']} at {config.data.rate_hz:,} Hz, {split}"),
        ("training", f"{len(epochs)} epochs in {minutes:.1f} minutes, batches of {config.train.batch_size}"),
        ("checkpoint", f"step {result['step']:,}"),
        ("device", f"{environment.get('devices', 'unknown')}, {environment.get('platform', 'unknown')}"),
        ("software", f"{libraries}, Python {environment.get('python', 'unknown')}"),
    ]
    return facts


def figure(path: Path, kind: str = "plot half") -> str:
    """Returns the PNG file at `path` as HTML, an embedded image that scrolls sideways on narrow screens.

    `kind` are CSS classes, which set its size and its look in dark mode: "plot" or "spectrogram", "half" or "wide".
    """
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<div class="scroll {kind}"><img alt="{path.stem}" src="data:image/png;base64,{content}"></div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns an HTML table with the names of `columns` and the cells of `rows`; the first column is left-aligned."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
