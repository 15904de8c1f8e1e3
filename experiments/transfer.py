"""How a run fares on another data set, without a single clip of it in training: zero-shot.

  python -m experiments.transfer --workdir runs/gru-audiomnist --config configs/gru.py:fsdd --config.data.root=DIR

Of FSDD's speakers jackson and theo may be looked at while a recipe is sought; the other four are what is reported.
`experiments.protocol` has it as protocols, of every fold and both ways.
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
from experiments import records

DEVELOPMENT = {"fsdd": ("jackson", "theo")}


def heard(run: Trained, clips: Clips) -> dict[str, Any]:
    """`records.scored` on all speakers whom nobody looked at; on the others under "development", where there are any.

    Raises InputError where the run knows other labels or another rate.
    """
    if (clips.label_names, clips.rate_hz) != (run.label_names, run.config.data.rate_hz):
        trained_on = run.data["source"]
        raise InputError(f"a run of {trained_on} was trained on other labels or another rate than {clips.source} has.")
    development = np.isin(clips.speaker, DEVELOPMENT.get(clips.source, ()))
    told = records.scored(run, clips, np.flatnonzero(~development))
    if development.any():
        told["development"] = records.scored(run, clips, np.flatnonzero(development))
    return told


def main(argv: list[str]) -> None:
    parser = cli.parser("experiments.transfer", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the run")
    args, config = cli.parse_with_config(parser, argv)
    cli.setup_jax()
    run = Trained.load(args.workdir)
    told = heard(run, loading.load_clips(config))
    print(f"{args.workdir}, trained on {run.data['source']} (step {run.step}), heard on {config.data.source}")
    parts = {"development speakers": told["development"]} if "development" in told else {}
    parts["the others"] = told
    rows = {name: of for part in parts.values() for name, of in sorted(part["speakers"].items())} | parts
    clips = sum(part["clips"] for part in parts.values())
    rows["all"] = {"accuracy": sum(part["accuracy"] * part["clips"] for part in parts.values()) / clips, "clips": clips}
    for name, of in rows.items():
        low, high = calibration.wilson(round(of["accuracy"] * of["clips"]), of["clips"])
        print(f"{name:<22}{of['accuracy']:8.2%}  [{low:6.1%}, {high:6.1%}]  {of['clips']:6,} clips")


if __name__ == "__main__":
    cli.run(main)
