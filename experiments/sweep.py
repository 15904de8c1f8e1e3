"""A W&B sweep file's grid without W&B: its runs one after the other, and a table by validation accuracy.

  python -m experiments.sweep experiments/sweeps/cnn_rate.yaml [--root DIR] [--max-minutes 9]

The same file goes to `wandb sweep`. Test accuracies are not shown: a sweep chooses. Results lie in the workdir, not
among those that are committed; resumption is `experiments.protocol`'s.
"""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from audiojax import cli
from audiojax.errors import InputError, one_line
from experiments import protocol
from experiments.protocols import Run


class Sweep(NamedTuple):
    """What a sweep file asks for."""

    config: str  # configs/NAME.py
    arg: str  # behind its colon
    overrides: tuple[str, ...]  # of every run
    grid: tuple[dict[str, Any], ...]  # {key of the config: value}, in W&B's order: the last key changes first


def read(path: Path) -> Sweep:
    """The sweep at `path`; raises InputError for what is no grid of our commands' flags."""
    try:
        content = yaml.safe_load(path.read_text())
        words, parameters, method = content["command"], content["parameters"], content["method"]
        axes = {name: of["values"] if "values" in of else [of["value"]] for name, of in parameters.items()}
    except FileNotFoundError:
        raise InputError(f"{path} is not a file; choose one of experiments/sweeps.") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no sweep file ({one_line(error, 80)}); give it method, command, parameters."
        ) from None
    if method != "grid":
        raise InputError(f"{path} has method {method}, which is W&B's to run; only a grid can be run here.")
    flags = [word for word in words if word.startswith("--config=")]
    if len(flags) != 1 or words[-1] != "${args}" or any(not name.startswith("config.") for name in axes):
        raise InputError(
            f"{path}: the command needs one --config=FILE.py:ARG and then ${{args}}, whose names are config.KEY."
        )
    config, _, arg = flags[0].removeprefix("--config=").partition(":")
    given = tuple(word for word in words if word.startswith("--config.") and "${envvar:" not in word)
    names = [name.removeprefix("config.") for name in axes]
    return Sweep(
        config, arg, given, tuple(dict(zip(names, values, strict=True)) for values in itertools.product(*axes.values()))
    )


def runs(sweep: Sweep) -> list[Run]:
    return [Run(" ".join(f"{key}={value}" for key, value in of.items()), sweep.arg, 0, of) for of in sweep.grid]


def main(argv: list[str]) -> None:
    parser = cli.parser("experiments.sweep", __doc__ or "")
    parser.add_argument("file", type=Path)
    protocol.add_options(parser)
    args, overrides = parser.parse_known_args(argv)
    cli.setup_jax()
    sweep, args.results = read(args.file), args.results or args.workdir
    given = [*sweep.overrides, *overrides]
    recipe = protocol.recipe_of(args, f"sweep-{args.file.stem}", given, config=sweep.config)
    found = protocol.run_all(f"sweep {args.file.stem}", {}, runs(sweep), recipe)
    print("validation  epochs  minutes  keys")
    for run in sorted(found, key=lambda run: -run["validation"]):
        print(f"{run['validation']:10.2%}  {run['epochs']:6}  {run['minutes']:7.1f}  {run['name']}")


if __name__ == "__main__":
    cli.run(main)
