"""Records of runs, committed as experiments/results/PROTOCOL/NAME.json.

A record has all results of a run and the command that reproduces it; `experiments.protocols.tables` builds the tables
from records alone. Records have no paths of the machine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.evaluation import classify
from audiojax.inference import Trained
from audiojax.io.files import write_text
from audiojax.renamed import RENAMED
from audiojax.schema import NETWORKS
from audiojax.training import run_dir, runlog
from audiojax.training.checkpoint import BEST_BY

RESULTS = Path(__file__).parent.parent / "results"
DATA = {"audiomnist": "AudioMNIST, reconstructed", "fsdd": "FSDD", "synthetic": "synthetic voices"}
CURVES = [f"{part}/{measure}" for part in ("train", "validation", "test") for measure in ("loss", "accuracy")]


def is_free(key: str) -> bool:
    """Returns whether a key cannot change a result: paths and output settings."""
    free = (*run_dir.FREE_TO_CHANGE, "init_from")
    return any(key == name or key.startswith(f"{name}.") for name in free)


def digest(config: ConfigDict, start: str = "") -> str:
    """Returns a hash of all keys that can change a result, and of the pretraining run `start`.

    Keys with the default of `config.base` are left out, so that adding a key does not invalidate records. So is
    `split.seed` where the split does not read it or where it equals `seed`, because older runs had one seed for both.
    Keys have their first names, so that renaming a key does not invalidate records.
    """
    plain = configs.flatten(configs.base(configs.parse_arg("")).to_dict())
    plain |= {f"model.{key}": value for key, value in configs.LATER_MODEL_KEYS.items()}
    if config.model.name == "audionet":  # its records have it
        del plain["model.dtype"]
    flat = configs.flatten(config.to_dict())
    split_seed = flat.pop("split.seed")
    deciding = {key: value for key, value in flat.items() if not is_free(key) and plain.get(key) != value}
    if configs.split_reads_seed(config) and split_seed != config.seed:
        deciding["split.seed"] = split_seed
    first = {key.new: key.old for key in RENAMED if not key.stays}
    deciding = {first.get(key, key): value for key, value in deciding.items()}
    if NETWORKS[config.model.name].streams:  # which had the key whatever its value
        deciding["model.listens"] = config.task == "streams"
    return hashlib.sha256(json.dumps([deciding, start], sort_keys=True).encode()).hexdigest()[:16]


def scored(run: Trained, clips: Clips, indices: np.ndarray) -> dict[str, Any]:
    """Returns the part of a record with the scores of `run` on the clips at `indices`."""
    result = classify.report(run, clips, indices)
    speakers = {
        name: {
            "accuracy": round(of["accuracy"], 6),
            "clips": of["clips"],
            "sex": clips.speakers[name].sex,
            "accent": clips.speakers[name].accent,
        }
        for name, of in sorted(result["accuracy_by_speaker"].items())
    }
    return {
        "data": DATA.get(clips.source, clips.source),
        "accuracy": round(result["accuracy"], 6),
        "clips": result["clips"],
        "speakers": speakers,
        "labels": list(run.label_names),
        "confusion": result["confusion"],
    }


def trained(workdir: Path) -> dict[str, Any]:
    """Returns the part of a record with duration, environment and learning curves of the run in `workdir`."""
    rows = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    made_with = json.loads((workdir / "config.json").read_text())["environments"][-1]
    seconds = [row["seconds"] for row in rows]
    return {
        "validation": max(round(row[BEST_BY], 6) for row in rows),
        "epochs": rows[-1]["epoch"],
        "steps": rows[-1]["step"],
        "epoch_seconds": round(float(np.median(seconds)), 2),
        "minutes": round(sum(seconds) / 60, 2),
        "device": made_with["devices"],
        "versions": {"python": made_with["python"], **made_with["versions"]},
        "revision": made_with["revision"],
        "curves": {name: [round(row[name], 5) for row in rows] for name in CURVES},
    }


def read(path: Path) -> dict[str, Any]:
    """Reads a results file; returns one without runs if it does not exist. Raises InputError if it is damaged."""
    try:
        content = json.loads(path.read_text())
        assert isinstance(content["runs"], list)
        return content
    except FileNotFoundError:
        return {"runs": []}
    except (ValueError, KeyError, TypeError, AssertionError):
        raise InputError(f"{path} is not a results file; restore it, or delete it to repeat its runs.") from None


def keep(path: Path, about: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Adds a record to the file. It replaces a record of the same name and all that were transcribed from the log."""
    runs = [old for old in read(path)["runs"] if old["name"] != record["name"] and "transcribed" not in old]
    write(path, about, [*runs, record])


def write(path: Path, about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> None:
    """Writes a results file with one run per line, so that a diff shows which runs changed."""
    head = json.dumps({**about, "runs": []}, indent=1)
    body = ",\n".join("  " + json.dumps(run) for run in sorted(runs, key=lambda run: run["name"]))
    assert head.endswith("[]\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{head[:-4]}[\n{body}\n ]\n}}\n")


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the sample standard deviation (n - 1), which is None for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def percent(values: Sequence[float], digits: int = 2) -> str:
    """Formats mean and standard deviation of accuracies in [0, 1], as in "98.95 ± 0.53 %"."""
    mean, sd = mean_sd([100 * value for value in values])
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f} %" if sd is not None else " %")


def speakers(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict]:
    """Returns {speaker: accuracy, clips, sex, accent} over all runs; clips tested in several runs count in each."""
    found: dict[str, dict] = {}
    for run in runs:
        for name, of in run.get("speakers", {}).items():
            mine = found.setdefault(name, {**of, "accuracy": 0.0, "clips": 0})
            right = mine["accuracy"] * mine["clips"] + of["accuracy"] * of["clips"]
            mine["clips"] += of["clips"]
            mine["accuracy"] = right / mine["clips"]
    return found
