"""Zero-shot transfer: scores a run on another data set, of which it has no training clips.

  python -m experiments.protocols.transfer --workdir RUN --config configs/gru.py:fsdd --config.data.root=DIR

FSDD's speakers jackson and theo are development speakers; results are reported on the other four. The protocols
audiomnist-to-fsdd and fsdd-to-audiomnist of `experiments.protocols` do this for all folds or seeds.
"""

from pathlib import Path
from typing import Any

import numpy as np

from audiojax import cli
from audiojax.data import loading
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.evaluation import calibration
from audiojax.inference import Trained
from experiments.protocols import records

DEVELOPMENT = {"fsdd": ("jackson", "theo")}


def score(run: Trained, clips: Clips) -> dict[str, Any]:
    """Returns `records.scored` of all but the development speakers; the latter are scored under "development".

    Raises InputError if the run has other labels or another sampling rate.
    """
    if (clips.label_names, clips.rate_hz) != (run.label_names, run.config.data.rate_hz):
        trained_on = run.data["source"]
        raise InputError(f"a run of {trained_on} was trained on other labels or another rate than {clips.source} has.")
    development = np.isin(clips.speaker, DEVELOPMENT.get(clips.source, ()))
    result = records.scored(run, clips, np.flatnonzero(~development))
    if development.any():
        result["development"] = records.scored(run, clips, np.flatnonzero(development))
    return result


def main(argv: list[str]) -> None:
    """Prints accuracy by speaker with 95 % intervals."""
    parser = cli.parser("experiments.protocols.transfer", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the run")
    args, config = cli.parse_with_config(parser, argv)
    cli.setup_jax()
    run = Trained.load(args.workdir)
    result = score(run, loading.load_clips(config))
    print(f"{args.workdir}, trained on {run.data['source']} (step {run.step}), tested on {config.data.source}")
    parts = {"development speakers": result["development"]} if "development" in result else {}
    parts["the others"] = result
    rows = {name: of for part in parts.values() for name, of in sorted(part["speakers"].items())} | parts
    clips = sum(part["clips"] for part in parts.values())
    rows["all"] = {"accuracy": sum(part["accuracy"] * part["clips"] for part in parts.values()) / clips, "clips": clips}
    for name, of in rows.items():
        low, high = calibration.wilson(round(of["accuracy"] * of["clips"]), of["clips"])
        print(f"{name:<22}{of['accuracy']:8.2%}  [{low:6.1%}, {high:6.1%}]  {of['clips']:6,} clips")


if __name__ == "__main__":
    cli.run(main)
