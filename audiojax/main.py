"""Trains a spoken-digit recogniser, or resumes an interrupted run of the same command.

  python -m audiojax.main --config configs/cnn.py                     synthetic voices; no download
  python -m audiojax.main --config configs/cnn.py:fsdd --config.data.root=DIR
  python -m audiojax.main --config configs/cnn.py:audiomnist,split=folds,fold=0 --config.data.root=DIR
  python -m audiojax.main --config configs/cnn.py:runlocal            a trial run in about a minute; no download
  python -m audiojax.main --config configs/cnn.py:fsdd,runlocal --config.data.root=DIR      likewise, on some of FSDD

The workdir has report.html, config.json, metrics.jsonl, checkpoints/, plots/, summary.json and the files of W&B.
"""

import os
import re
from pathlib import Path

from audiojax import cli
from audiojax import config as configs


def _default_workdir(config_flag: str) -> Path:
    """Returns, for example, runs/cnn-fsdd-recipe-seed for configs/cnn.py:fsdd,recipe=seed.

    Each run of a W&B sweep has a folder of its own.
    """
    path, _, arg = config_flag.partition(":")
    words = [Path(path).stem, re.sub(r"[^\w.]+", "-", arg or "synthetic").strip("-")]
    if os.environ.get("WANDB_SWEEP_ID"):  # the runs of a sweep share the config's argument
        words.append(os.environ["WANDB_RUN_ID"])
    return Path("runs") / "-".join(words)


def main(argv: list[str]) -> None:
    """Trains the network of the config that the arguments `argv` name, or resumes its training."""
    parser = cli.parser("main", __doc__ or "")
    parser.add_argument("--workdir", type=Path, help="folder of the run (default: runs/CONFIG-ARG)")
    args, config = cli.parse_with_config(parser, argv)
    cli.setup_jax()
    from audiojax import tasks  # imported here: --help and a mistyped key need no jax
    from audiojax.training import sharding

    with sharding.connected(cli.exit_at_once, **config.mesh):
        tasks.train(config, args.workdir or _default_workdir(args.config))
        if sharding.is_first() and configs.is_trial(args.config.partition(":")[2]):
            print("This was a trial run on a few clips; train without runlocal for a usable network.")


if __name__ == "__main__":
    cli.run(main)
