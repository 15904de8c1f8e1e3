"""How a run fares on another data set, without a single clip of it in training: zero-shot.

  python -m experiments.transfer --workdir runs/gru-audiomnist --config configs/gru.py:fsdd --config.data.root=DIR

Of FSDD's speakers jackson and theo may be looked at while a recipe is sought; the other four are what is reported.
"""

from pathlib import Path

import numpy as np

from audiojax import analysis, command, prepare
from audiojax.trained import Trained
from audiojax.types import InputError

DEVELOPMENT = {"fsdd": ("jackson", "theo")}


def main(argv: list[str]) -> None:
    parser = command.parser("transfer", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the run")
    args, config = command.parse_with_config(parser, argv)
    command.setup_jax()
    run = Trained.load(args.workdir)
    clips = prepare.load_clips(config)
    if (clips.label_names, clips.rate_hz) != (run.label_names, run.config.data.rate_hz):
        raise InputError(f"{args.workdir} was trained on other labels or another rate than {clips.source} has.")
    right = run.logits_of(clips, np.arange(len(clips))).argmax(axis=1) == clips.label
    development = np.isin(clips.speaker, DEVELOPMENT.get(clips.source, ()))
    groups = {name: clips.speaker == name for name in sorted(clips.speakers)}
    groups |= {"development speakers": development, "the others": ~development, "all": np.ones(len(clips), bool)}
    print(f"{args.workdir}, trained on {run.data['source']} (step {run.step}), heard on {clips.source}")
    for name, of in groups.items():
        if of.any():
            low, high = analysis.wilson(int(right[of].sum()), int(of.sum()))
            print(f"{name:<22}{right[of].mean():8.2%}  [{low:6.1%}, {high:6.1%}]  {of.sum():6,} clips")


if __name__ == "__main__":
    command.run(main)
