"""Every table and plot of results, from the stored records alone: nothing is trained, nothing typed in.

  python -m experiments.tables

writes experiments/results/tables.md, a confusion matrix beside each results file that has one, the table of
docs/results.md and the short one of README.md, each between two markers. What others published stands in
experiments/published.json and appears "on the originals".
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
from experiments import few_speakers, noise, records
from experiments.protocols import PROTOCOLS

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results -->", "<!-- /results -->"
HEADER = "| command or paper | test accuracy | worst speaker | minutes per run |\n" + "|---" * 4 + "|\n"
SHORT_HEADER = "| config | test accuracy | worst speaker | minutes per fold |\n" + "|---" * 4 + "|\n"
Result = Mapping[str, Any]  # of a file
Found = Mapping[str, Mapping[str, Result]]  # {protocol: {name of a file: it}}


def read_all(folder: Path) -> Found:
    """The results files below `folder`, by protocol and name."""
    found: dict[str, dict[str, Result]] = {}
    for path in sorted(folder.glob("*/*.json")):
        found.setdefault(path.parent.name, {})[path.stem] = records.read(path)
    return found


def _command(protocol: str, result: Result) -> str:
    recipe = f" --recipe {result['recipe']}" if result.get("recipe") else ""
    words = [protocol, f"--config {result['config']}{recipe}", *result.get("overrides", [])]
    return "`" + " ".join(words) + "`"


def _parts(protocol: str, runs: Sequence[Result]) -> str:
    """ "5 folds", or "1 of 5 folds": which part of the protocol there is."""
    word, whole = runs[0]["name"].split()[0] + "s", len(PROTOCOLS[protocol].runs)
    number = f"{len(runs)}" if len(runs) == whole else f"{len(runs)} of {whole}"
    return f"{number} {word if whole > 1 else word[:-1]}"


def _worst(runs: Sequence[Result]) -> str:
    heard = records.speakers(runs)
    if not heard:
        return ""
    name = min(heard, key=lambda name: heard[name]["accuracy"])
    return f"{name}: {heard[name]['accuracy']:.1%}"


def _minutes(result: Result) -> str:
    timed = [run for run in result["runs"] if "minutes" in run]
    if "minutes" in result or not timed:
        return result.get("minutes", "")
    devices = sorted({run["device"] for run in timed})
    return f"{statistics.median(run['minutes'] for run in timed):.1f} on {', '.join(devices)}"


def row(protocol: str, result: Result) -> str:
    """A line of the main table: ours."""
    runs = result["runs"]
    clips = sum(run["clips"] for run in runs)
    accuracy = f"{records.percent([run['accuracy'] for run in runs])} ({_parts(protocol, runs)}, {clips:,} clips)"
    cells = [_command(protocol, result), accuracy, _worst(runs), _minutes(result)]
    return f"| {' | '.join(cells)} |\n"


def published_row(of: Mapping[str, Any]) -> str:
    """A line of the main table: somebody else's."""
    mean, sd = of["percent"]
    what = f"*{of['what']}* ({of['source']}), on the originals: {of['protocol']}"
    return f"| {what} | {mean:.2f} ± {sd:.2f} % | | |\n"


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
    """Returns the table of README.md: each recipe on AudioMNIST's folds, sorted, and the paper's two networks."""
    lines = [SHORT_HEADER]
    files = [result for result in found.get("folds", {}).values() if result["runs"] and not result.get("overrides")]

    def order(result: Result) -> tuple[int, float]:
        return -len(result["runs"]), -statistics.mean(run["accuracy"] for run in result["runs"])

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
    """Returns the page's `text` with `table` between the markers; raises InputError where they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{name} has no {BEGIN} and {END}; put the two markers where the table belongs.")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def pages(found: Found) -> dict[Path, str]:
    """Returns the pages that have a table, each with the table of the records."""
    tables = {ROOT / "README.md": short_table(found), ROOT / "docs" / "results.md": main_table(found)}
    return {path: page_with(path.read_text(), table, path.name) for path, table in tables.items()}


def groups_table(protocol: str, name: str, result: Result) -> str:
    """Accuracy by sex, accent and speaker over all runs of a file, the lowest first."""
    heard = records.speakers(result["runs"])
    kinds: dict[str, Callable[[str], str]] = {
        "sex": lambda speaker: heard[speaker].get("sex", "unknown"),
        "accent": lambda speaker: heard[speaker].get("accent", "unknown"),
        "speaker": lambda speaker: speaker,
    }
    known = " (of the speakers whom the log names)" if any("transcribed" in run for run in result["runs"]) else ""
    lines = [f"\n### {protocol}: {name}{known}\n\n| | | accuracy | clips |\n|---|---|---|---|\n"]
    for kind, group_of in kinds.items():
        sums: dict[str, np.ndarray] = {}
        for speaker, of in heard.items():
            sums.setdefault(group_of(speaker), np.zeros(2))
            sums[group_of(speaker)] += (of["accuracy"] * of["clips"], of["clips"])
        if set(sums) == {"unknown"}:
            continue
        ordered = sorted(sums.items(), key=lambda item: item[1][0] / item[1][1])
        lines += [f"| {kind} | {group} | {right / n:.2%} | {n:,.0f} |\n" for group, (right, n) in ordered]
    return "".join(lines)


def confusion_of(result: Result) -> np.ndarray | None:
    """i64[labels, labels]: [said, heard] over all runs of a file that have one."""
    counts = [run["confusion"] for run in result["runs"] if "confusion" in run]
    return np.sum(counts, axis=0) if counts else None


def confusion_table(result: Result) -> str:
    counts = confusion_of(result)
    if counts is None:
        return ""
    names = next(run["labels"] for run in result["runs"] if "labels" in run)
    head = f"\n| said, heard | {' | '.join(names)} |\n" + "|---" * (len(names) + 1) + "|\n"
    return head + "".join(f"| {n} | {' | '.join(map(str, of))} |\n" for n, of in zip(names, counts, strict=True))


def runs_table(result: Result) -> str:
    lines = ["\n| run | accuracy | clips | source |\n|---|---|---|---|\n"]
    for run in result["runs"]:
        source = run.get("transcribed") or f"`{run['command']}`"
        lines.append(f"| {run['name']} | {run['accuracy']:.2%} | {run['clips']:,} | {source} |\n")
    return "".join(lines)


def levels_table(levels: Mapping[float, Sequence[float]], label: str) -> str:
    """One line of accuracies by level."""
    names = " | ".join(f"{level:g}" for level in levels)
    cells = " | ".join(records.percent(of) for of in levels.values())
    return f"\n| {label} | {names} |\n" + "|---" * (len(levels) + 1) + f"|\n| | {cells} |\n"


def noise_table(name: str, result: Result) -> str:
    clean = [run["accuracy"] for run in result["runs"] if run["kind"] == "clean"]
    text = f"\n### noise: {name} ({len(clean)} runs)\n\nclean {records.percent(clean)}\n"
    for axis, lines in noise.panels(result["runs"]).items():
        text += "".join(levels_table(levels, f"{kind} ({axis})") for kind, levels in lines.items())
    return text


def everything(found: Found) -> str:
    """tables.md."""
    text = f"# Tables\n\nMade by `python -m experiments.tables`; do not edit.\n\n{main_table(found)}"
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
                text += levels_table(few_speakers.by_size(result["runs"]), "speakers to learn from")
    return text


def draw(found: Found, folder: Path) -> None:
    """A confusion matrix beside each file that has one."""
    for protocol, files in found.items():
        for name, result in files.items():
            counts = confusion_of(result)
            if counts is not None:
                names = next(run["labels"] for run in result["runs"] if "labels" in run)
                path = folder / protocol / f"{name}-confusion.png"
                plots.confusion_matrix(counts, names, f"{protocol}: {name}", path)


def main() -> None:
    found = read_all(records.RESULTS)
    for path, text in pages(found).items():
        write_text(path, text)
    write_text(records.RESULTS / "tables.md", everything(found))
    draw(found, records.RESULTS)
    print(main_table(found))


if __name__ == "__main__":
    main()
