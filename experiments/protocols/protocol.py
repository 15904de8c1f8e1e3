"""Runs a recipe under an evaluation protocol: all folds or several seeds, one after the other.

  python -m experiments.protocols folds --config configs/gru.py --root DIR            AudioMNIST, Becker's five folds
  python -m experiments.protocols sex --config configs/gru.py --root DIR              AudioMNIST, sex: four folds
  python -m experiments.protocols fsdd-random --config configs/gru.py --root DIR      FSDD, 80/20, seeds 0 to 4
  python -m experiments.protocols fsdd-official --config configs/gru.py --root DIR    FSDD's own split, seeds 0 to 4
  python -m experiments.protocols fsdd-speaker --config configs/gru.py --root DIR     FSDD, leave one speaker out
  ... fsdd-speaker-transfer --config configs/gru.py --root FSDD --other-root AUDIOMNIST    pretrained on AudioMNIST
  ... fsdd-speaker-both --config configs/spectrogram.py --root FSDD --other-root AUDIOMNIST  and trained on both
  ... audiomnist-to-fsdd --config configs/gru.py --root AUDIOMNIST --other-root FSDD       zero-shot
  ... fsdd-to-audiomnist --config configs/gru.py --root FSDD --other-root AUDIOMNIST       zero-shot

`--folds 0 1` runs some of the folds; the tables mark such results as incomplete. Results are written to
experiments/results/PROTOCOL/CONFIG[-RECIPE][-NAME].json, which is committed: a run with a record there is not repeated
on any machine until a key of its config changes (or its line is deleted). A stopped run resumes if its folder exists;
`--max-minutes 9` stops between two steps, with exit code 143, and the same command resumes. Overrides come last
(`--config.train.num_epochs=5 --name short`); overrides of the model also apply to the pretraining run.
"""

import math
import re
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from audiojax import cli, tasks
from audiojax.data import loading, splits
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.training.preemption import Stopped
from experiments.protocols import records, transfer
from experiments.protocols.definitions import PROTOCOLS, Run


class Recipe(NamedTuple):
    """The settings that all runs of a protocol share."""

    config: str  # configs/NAME.py
    workdir: Path  # parent folder of the runs
    path: Path  # the results file
    recipe: str = ""
    root: str = ""
    other_root: str = ""  # of the source of pretraining, or of a test on another data set
    overrides: Sequence[str] = ()  # "--config.KEY=VALUE"
    name: str = ""
    trial: bool = False  # on a few synthetic clips
    deadline: float = math.inf  # of time.monotonic

    def flags(self, arg: str, seed: int, overrides: Mapping[str, object]) -> list[str]:
        """Returns the flags of a run, without the root of its data."""
        words = ["synthetic" if self.trial else arg, *([f"recipe={self.recipe}"] if self.recipe else [])]
        words += ["runlocal"] if self.trial else []
        keys = {"seed": seed, "split.seed": seed, **overrides}
        if self.trial:  # the synthetic source has no root and one length
            keys = {
                key: value for key, value in keys.items() if key not in ("data.extra_source", "train.bucket_samples")
            }
        return [f"--config={self.config}:{','.join(words)}", *(f"--config.{k}={v}" for k, v in keys.items())]

    def shown(self, run: Run) -> str:
        """Returns the command that reproduces the run, with placeholders for the paths of this machine."""
        flags = [*self.flags(run.arg, run.seed, run.overrides), "--config.data.root=DIR"]
        flags += ["--config.init_from=RUN"] if run.start else []
        flags += ["--config.data.extra_root=OTHER"] if "data.extra_source" in run.overrides else []
        return shlex.join(["python", "-m", "audiojax.main", *flags, *self.deciding])

    @property
    def deciding(self) -> list[str]:
        """Returns the overrides that can change a result."""
        return [flag for flag in self.overrides if not records.is_free(_key(flag))]

    def folder(self, run: Run) -> Path:
        """Returns the workdir of a run."""
        words = [Path(self.config).stem, run.arg, f"seed={run.seed}", self.recipe, self.name]
        words += [f"from {run.start}" if run.start else "", run.name if run.overrides else ""]
        words += ["trial" if self.trial else ""]
        return self.workdir / re.sub(r"[^\w.]+", "-", " ".join(filter(None, words)))


def _key(flag: str) -> str:
    return re.sub(r"^--(no)?config\.", "", flag).partition("=")[0]


def read_config(flags: Sequence[str]) -> ConfigDict:
    """Returns the config that command-line flags describe."""
    return cli.parse_with_config(cli.parser("experiments.protocols", ""), list(flags))[1]


def config_of(recipe: Recipe, run: Run) -> ConfigDict:
    """Returns the config of a run; `init_from` is set if it starts from a pretraining run."""
    start = f"--config.init_from={of_start(recipe).folder(started_from(run))}" if run.start else "--config.init_from="
    flags = [*recipe.flags(run.arg, run.seed, run.overrides), f"--config.data.root={recipe.root}", start]
    flags += [f"--config.data.extra_root={recipe.other_root}"] if "data.extra_source" in run.overrides else []
    return read_config([*flags, *recipe.overrides])


def of_start(recipe: Recipe) -> Recipe:
    """Returns the settings of the pretraining run.

    It has the overrides of the model only. Recipes that differ in name alone share one pretraining run, so two
    processes must not create it at the same time.
    """
    of_model = any(_key(flag).startswith("model.") for flag in recipe.overrides)
    kept = [flag for flag in recipe.overrides if _key(flag).startswith("model.") or records.is_free(_key(flag))]
    return recipe._replace(root=recipe.other_root, overrides=kept, name=recipe.name if of_model else "")


def started_from(run: Run) -> Run:
    """Returns the pretraining run of `run`."""
    return Run("start", run.start)


def trained(recipe: Recipe, run: Run) -> Path:
    """Trains or resumes a run, unless it is finished, and returns its folder. Raises Stopped at the deadline."""
    if run.start:
        trained(of_start(recipe), started_from(run))
    if time.monotonic() >= recipe.deadline:
        raise Stopped("stopped between two runs; the same command resumes there.", signal.SIGTERM)
    folder = recipe.folder(run)
    tasks.train(config_of(recipe, run), folder, deadline=recipe.deadline)
    return folder


def one(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Trains or resumes a run, unless it is finished, and returns its record."""
    config, folder = config_of(recipe, run), trained(recipe, run)
    opened = Trained.load(folder)
    if run.tested_on:
        other = read_config([*recipe.flags(run.tested_on, 0, {}), f"--config.data.root={recipe.other_root}"])
        other.data.cache = config.data.cache
        result = transfer.score(opened, loading.load_clips(other))
    else:
        clips = loading.load_clips(config)
        result = records.scored(opened, clips, splits.make(clips, **config.split).test)
    overrides = {key: list(x) if isinstance(x, tuple) else x for key, x in run.overrides.items()}
    about = {"name": run.name, "arg": run.arg, "seed": run.seed, "overrides": overrides, "start": run.start}
    return about | result | records.trained(folder) | {"digest": digest(recipe, run), "command": recipe.shown(run)}


def digest(recipe: Recipe, run: Run) -> str:
    """Returns the digest of a run, see `records.digest`."""
    return records.digest(config_of(recipe, run), " ".join(filter(None, (run.start, run.tested_on))))


def run_all(protocol: str, about: Mapping[str, Any], runs: Sequence[Run], recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the records of `runs`; those that are missing in the results file are computed and added to it.

    Raises InputError if the file has other overrides, Stopped at the deadline.
    """
    kept, head = records.read(recipe.path), {"protocol": protocol, "config": recipe.config, "recipe": recipe.recipe}
    head |= {"overrides": recipe.deciding, **about}
    known = {run["name"]: run for run in kept["runs"]}
    if any("transcribed" not in run for run in known.values()) and kept.get("overrides") != head["overrides"]:
        raise InputError(f"{recipe.path} holds runs with overrides {kept.get('overrides')}; give these a --name.")
    found = []
    for run in runs:
        if known.get(run.name, {}).get("digest") == digest(recipe, run):
            print(f"{run.name}: done, see {recipe.path}")
        else:
            known[run.name] = one(recipe, run)
            records.keep(recipe.path, head, known[run.name])
        found.append(known[run.name])
    return found


def add_options(parser) -> None:
    """Adds the options of all commands that write a results file."""
    parser.add_argument("--root", default="", help="folder of the data set for training")
    parser.add_argument("--name", default="", help="suffix of the name of the results file")
    parser.add_argument("--workdir", type=Path, default=Path("runs/protocol"), help="parent folder of the runs")
    parser.add_argument("--results", type=Path, help="default: experiments/results; with --trial, the workdir")
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="stop then; the same command resumes")
    parser.add_argument("--trial", action="store_true", help="run everything on a few synthetic clips")


def recipe_of(args, protocol: str, overrides: Sequence[str], **more) -> Recipe:
    """Returns the settings given by the options of `add_options`."""
    for flag in overrides:
        if not re.match(r"--(no)?config\.", flag):
            raise InputError(f"{flag!r} is not understood; keys are set as --config.KEY=VALUE.")
    config, recipe = more.pop("config"), more.pop("recipe", "")
    name = "-".join(filter(None, (Path(config).stem, recipe, args.name)))
    results = args.results or (args.workdir / "results" if args.trial else records.RESULTS)
    deadline = time.monotonic() + 60 * args.max_minutes
    return Recipe(
        config,
        args.workdir,
        results / protocol / f"{name}.json",
        recipe,
        args.root,
        overrides=overrides,
        name=args.name,
        trial=args.trial,
        deadline=deadline,
        **more,
    )


def main(argv: list[str]) -> None:
    """Runs a protocol and prints a line for each run and one for all."""
    parser = cli.parser("experiments.protocols", __doc__ or "")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--config", required=True, help="configs/NAME.py, without an argument")
    parser.add_argument("--recipe", default="", help="of that config, if not its default")
    parser.add_argument("--folds", type=int, nargs="+", help="only these folds or seeds")
    parser.add_argument("--other-root", default="", help="folder of the data set of pretraining, or of the test")
    add_options(parser)
    args, overrides = parser.parse_known_args(argv)
    cli.setup_jax()
    more = dict(config=args.config, recipe=args.recipe, other_root=args.other_root)
    recipe, runs = recipe_of(args, args.protocol, overrides, **more), PROTOCOLS[args.protocol].runs
    if args.folds and not all(0 <= fold < len(runs) for fold in args.folds):
        raise InputError(f"--folds is {args.folds}; {args.protocol} has 0 to {len(runs) - 1}.")
    chosen = [runs[fold] for fold in args.folds] if args.folds else runs
    found = run_all(args.protocol, {"about": PROTOCOLS[args.protocol].about}, chosen, recipe)
    for run in found:
        print(f"{run['name']:<12} {run['accuracy']:7.2%} of {run['clips']:,}   {run['epoch_seconds']:6.1f} s an epoch")
    worst, of = min(records.speakers(found).items(), key=lambda item: item[1]["accuracy"])
    mean = records.percent([run["accuracy"] for run in found])
    print(f"{mean} ({len(found)} of {len(runs)}), worst speaker {worst}: {of['accuracy']:.1%}\nresults: {recipe.path}")
