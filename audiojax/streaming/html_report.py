"""report.html of a streaming recogniser: one file with plots and tables, which needs no network."""

from pathlib import Path
from typing import Any

import numpy as np

from audiojax.evaluation import html_page, plots
from audiojax.training import runlog

NO_WORD = "none"  # the last row of the confusion matrix (insertions) and its last column (deletions)


def write(workdir: Path, label_names: tuple[str, ...], result: dict[str, Any]) -> Path:
    """Writes the plots and tables of a result of `report.evaluate` to `workdir`/report.html, whose path is returned.

    `label_names` are the words. The plots are also written as PNG files to `workdir`/plots.
    """
    part, folder = result["split"], workdir / "plots"
    clean = result["strings"]["clean"]["reset"]
    title = f"{result['source']}, {part}: digit error rate {clean['digit_error_rate']:.2%}"
    text = f"digit error rate on {result['num_strings']:,} clean strings of {clean['words']:,} {part} words"
    body = [html_page.heading(workdir, result, f"{clean['digit_error_rate']:.2%}", text)]
    if epochs := [row for row in runlog.read_rows(workdir) if "epoch" in row]:
        curves = plots.curves(epochs, "loss and accuracy by epoch", folder / "curves.png")
        body += ["<h2>Learning curves</h2>", html_page.figure(curves, "plot wide")]
    body += ["<h2>Strings of words</h2>", _strings(result["strings"])]
    names, counts = (*label_names, NO_WORD), np.asarray(clean["confusion"])
    confusion = plots.confusion_matrix(counts, names, "clean strings", folder / f"confusion_{part}.png")
    body += ["<h2>Confusion matrix</h2>", html_page.figure(confusion, "plot half square")]
    alone = result["isolated"]
    rows = [(f"{alone['clips']:,}", f"{alone['accuracy']:.2%}", f"{alone['none']:,}")]
    body += ["<h2>Isolated clips</h2>", html_page.table(("clips", "first event correct", "without an event"), rows)]
    tradeoff = plots.misses_and_alarms(result["curve"], f"{result['source']}, {part}", folder / f"listening_{part}.png")
    body += [f"<h2>False alarms in {result['hours']:g} hours of each sound</h2>", _alarms(result["false_alarms"])]
    body += ["<h2>Misses against false alarms</h2>", html_page.figure(tradeoff)]
    return html_page.write(workdir, title, body)


def _strings(strings: dict[str, Any]) -> str:
    rows = []
    for name, both in strings.items():
        of = both["reset"]
        late = [of["delay_median_seconds"], of["delay_95_seconds"]]
        counts = [f"{of[kind]:,}" for kind in ("substitutions", "deletions", "insertions")]
        delays = ["-" if seconds is None else f"{1000 * seconds:.0f} ms" for seconds in late]
        rates = [f"{each['digit_error_rate']:.2%}" for each in (of, both["never_reset"])]
        rows.append((name, *rates, *counts, *delays))
    columns = (
        "noise",
        "digit errors",
        "... without reset",
        "substituted",
        "deleted",
        "inserted",
        "delay, median",
        "95 %",
    )
    return html_page.table(columns, rows)


def _alarms(alarms: dict[str, Any]) -> str:
    rows = [(name, f"{of['events']:,}", f"{of['per_hour']:.2f}", f"{of['bound']:.2f}") for name, of in alarms.items()]
    return html_page.table(("sound without words", "events", "per hour", "at most (95 %)"), rows)
