"""Writes all tables and plots of results from the committed records.

  python -m experiments.protocols.tables

It writes experiments/results/tables.md, a confusion matrix beside each results file that has one, and the tables in
docs/results.md and README.md, between two markers. Published results are in published.json beside this module and are
marked "on the originals".
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.errors import InputError
from audiojax.evaluation import plots
from audiojax.io.files import write_text
from experiments.protocols import few_speakers, noise, records
from experiments.protocols.definitions import PROTOCOLS

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- results -->", "<!-- /results -->"
HEADER = "| command or paper | test accuracy | runs | clips | worst speaker | minutes per run |\n" + "|---" * 6 + "|\n"
SHORT_HEADER = "| config | test accuracy | worst speaker | minutes per fold |\n" + "|---" * 4 + "|\n"
Result = Mapping[str, Any]  # content of a results file
Found = Mapping[str, Mapping[str, Result]]  # {protocol: {name of a results file: its content}}


def read_all(folder: Path) -> Found:
    """Returns the results files below `folder`, by protocol and name."""
    found: dict[str, dict[str, Result]] = {}
    for path in sorted(folder.glob("*/*.json")):
        found.setdefault(path.parent.name, {})[path.stem] = records.read(path)
    return found


def _command(protocol: str, result: Result) -> str:
    recipe = f" --recipe {result['recipe']}" if result.get("recipe") else ""
    words = [protocol, f"--config {result['config']}{recipe}", *result.get("overrides", [])]
    return "`" + " ".join(words) + "`"


def _parts(protocol: str, runs: Sequence[Result]) -> str:
    """Returns the number of runs, as in "5 folds" or "1 of 5 folds"."""
    word, whole = runs[0]["name"].split()[0] + "s", len(PROTOCOLS[protocol].runs)
    number = f"{len(runs)}" if len(runs) == whole else f"{len(runs)} of {whole}"
    return f"{number} {word if whole > 1 else word[:-1]}"


def _worst(runs: Sequence[Result]) -> str:
    speakers = records.speakers(runs)
    if not speakers:
        return ""
    name = min(speakers, key=lambda name: speakers[name]["accuracy"])
    return f"{name}: {speakers[name]['accuracy']:.1%}"


def _minutes(result: Result) -> str:
    timed = [run for run in result["runs"] if "minutes" in run]
    if "minutes" in result or not timed:
        return result.get("minutes", "")
    devices = sorted({run["device"] for run in timed})
    return f"{statistics.median(run['minutes'] for run in timed):.1f} on {', '.join(devices)}"


def row(protocol: str, result: Result) -> str:
    """Returns a row of the main table for a results file."""
    runs = result["runs"]
    accuracy, clips = records.percent([run["accuracy"] for run in runs]), sum(run["clips"] for run in runs)
    cells = [_command(protocol, result), accuracy, _parts(protocol, runs), f"{clips:,}", _worst(runs), _minutes(result)]
    return f"| {' | '.join(cells)} |\n"


def published_row(of: Mapping[str, Any]) -> str:
    """Returns a row of the main table for a published result."""
    mean, sd = of["percent"]
    what = f"*{of['what']}* ({of['source']}), on the originals: {of['protocol']}"
    return f"| {what} | {mean:.2f} ± {sd:.2f} % | | | | |\n"


def main_table(found: Found) -> str:
    """Returns a table for each protocol: our results, then the published ones."""
    published = json.loads((Path(__file__).parent / "published.json").read_text())
    text = ""
    for protocol, of_protocol in PROTOCOLS.items():
        ours = [row(protocol, result) for _, result in sorted(found.get(protocol, {}).items()) if result["runs"]]
        theirs = [published_row(of) for of in published if of["task"] == protocol]
        if ours or theirs:
            heading = f"**{of_protocol.about}**\n\n" if ours else ""
            text += f"{heading}{HEADER}{''.join(ours + theirs)}\n"
    return text


def short_table(found: Found) -> str:
    """Returns the table of README.md: each recipe with all folds of AudioMNIST, and the paper's two networks."""
    lines = [SHORT_HEADER]
    recipes = [result for result in found.get("folds", {}).values() if not result.get("overrides")]
    files = [result for result in recipes if len(result["runs"]) == len(PROTOCOLS["folds"].runs)]

    def order(result: Result) -> float:
        return -statistics.mean(run["accuracy"] for run in result["runs"])

    for result in sorted(files, key=order):
        runs = result["runs"]
        recipe = f", recipe={result['recipe']}" if result.get("recipe") else ""
        accuracy = f"{records.percent([run['accuracy'] for run in runs])} ({_parts('folds', runs)})"
        lines.append(f"| `{result['config']}`{recipe} | {accuracy} | {_worst(runs)} | {_minutes(result)} |\n")
    published = json.loads((Path(__file__).parent / "published.json").read_text())
    for of in [of for of in published if of["task"] == "folds" and of["source"].startswith("Becker")]:
        mean, sd = of["percent"]
        lines.append(f"| *{of['what']}*, Becker et al., on the originals | {mean:.2f} ± {sd:.2f} % | | |\n")
    return "".join(lines)


def page_with(text: str, table: str, name: str) -> str:
    """Returns `text` with `table` between the markers; raises InputError if a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{name} has no {BEGIN} and {END}; put the two markers where the table belongs.")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def pages(found: Found) -> dict[Path, str]:
    """Returns the pages with a results table, updated from the records."""
    tables = {ROOT / "README.md": short_table(found), ROOT / "docs" / "results.md": main_table(found)}
    return {path: page_with(path.read_text(), table, path.name) for path, table in tables.items()}


def groups_table(protocol: str, name: str, result: Result) -> str:
    """Returns a table of accuracy by sex, accent and speaker over all runs of a file, the lowest first."""
    speakers = records.speakers(result["runs"])
    kinds: dict[str, Callable[[str], str]] = {
        "sex": lambda speaker: speakers[speaker].get("sex", "unknown"),
        "accent": lambda speaker: speakers[speaker].get("accent", "unknown"),
        "speaker": lambda speaker: speaker,
    }
    known = " (of the speakers named in the log)" if any("transcribed" in run for run in result["runs"]) else ""
    lines = [f"\n### {protocol}: {name}{known}\n\n| | | accuracy | clips |\n|---|---|---|---|\n"]
    for kind, group_of in kinds.items():
        sums: dict[str, np.ndarray] = {}
        for speaker, of in speakers.items():
            sums.setdefault(group_of(speaker), np.zeros(2))
            sums[group_of(speaker)] += (of["accuracy"] * of["clips"], of["clips"])
        if len(sums) < 2:
            continue
        ordered = sorted(sums.items(), key=lambda item: item[1][0] / item[1][1])
        lines += [f"| {kind} | {group} | {right / n:.2%} | {n:,.0f} |\n" for group, (right, n) in ordered]
    return "".join(lines)


def confusion_of(result: Result) -> np.ndarray | None:
    """Returns the confusion matrix i64[labels, labels], [true, predicted], over all runs of a file; None without."""
    counts = [run["confusion"] for run in result["runs"] if "confusion" in run]
    return np.sum(counts, axis=0) if counts else None


def confusion_table(result: Result) -> str:
    """Returns the confusion matrix of a file as a table; an empty string without one."""
    counts = confusion_of(result)
    if counts is None:
        return ""
    names = next(run["labels"] for run in result["runs"] if "labels" in run)
    head = f"\n| true, predicted | {' | '.join(names)} |\n" + "|---" * (len(names) + 1) + "|\n"
    return head + "".join(f"| {n} | {' | '.join(map(str, of))} |\n" for n, of in zip(names, counts, strict=True))


def runs_table(result: Result) -> str:
    """Returns a table of the runs of a file."""
    lines = ["\n| run | accuracy | clips | source |\n|---|---|---|---|\n"]
    for run in result["runs"]:
        source = run.get("transcribed") or f"`{run['command']}`"
        lines.append(f"| {run['name']} | {run['accuracy']:.2%} | {run['clips']:,} | {source} |\n")
    return "".join(lines)


def levels_table(levels: Mapping[float, Sequence[float]], label: str) -> str:
    """Returns a table of accuracy by level."""
    names = " | ".join(f"{level:g}" for level in levels)
    cells = " | ".join(records.percent(of) for of in levels.values())
    return f"\n| {label} | {names} |\n" + "|---" * (len(levels) + 1) + f"|\n| | {cells} |\n"


def noise_table(name: str, result: Result) -> str:
    """Returns the tables of a results file of `experiments.protocols.noise`."""
    clean = [run["accuracy"] for run in result["runs"] if run["kind"] == "clean"]
    text = f"\n### noise: {name} ({len(clean)} runs)\n\nclean {records.percent(clean)}\n"
    for axis, lines in noise.panels(result["runs"]).items():
        text += "".join(levels_table(levels, f"{kind} ({axis})") for kind, levels in lines.items())
    return text


def everything(found: Found) -> str:
    """Returns the content of tables.md."""
    text = f"# Tables\n\nWritten by `python -m experiments.protocols.tables`; do not edit.\n\n{main_table(found)}"
    for protocol, files in found.items():
        for name, result in files.items():
            if protocol == "noise":
                text += noise_table(name, result)
                continue
            text += (
                groups_table(protocol, name, result)
                if records.speakers(result["runs"])
                else f"\n### {protocol}: {name}\n"
            )
            text += confusion_table(result) + runs_table(result)
            if protocol == "few_speakers":
                text += levels_table(few_speakers.by_size(result["runs"]), "training speakers")
    return text


def draw(found: Found, folder: Path) -> None:
    """Plots the confusion matrix of each results file that has one."""
    for protocol, files in found.items():
        for name, result in files.items():
            counts = confusion_of(result)
            if counts is not None:
                names = next(run["labels"] for run in result["runs"] if "labels" in run)
                path = folder / protocol / f"{name}-confusion.png"
                plots.confusion_matrix(counts, names, f"{protocol}: {name}", path)


def main() -> None:
    """Writes all tables and plots, and prints the main table."""
    found = read_all(records.RESULTS)
    for path, text in pages(found).items():
        write_text(path, text)
    write_text(records.RESULTS / "tables.md", everything(found))
    draw(found, records.RESULTS)
    print(main_table(found))


if __name__ == "__main__":
    main()
