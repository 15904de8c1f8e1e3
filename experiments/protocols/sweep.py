"""Runs the grid of a W&B sweep file without W&B and prints a table sorted by validation accuracy.

  python -m experiments.protocols.sweep experiments/protocols/sweeps/cnn_rate.yaml [--root DIR] [--max-minutes 9]

The same file works with `wandb sweep`. Test accuracies are not shown, because a sweep is for model selection. Results
are written to the workdir and are not committed; resumption is that of `experiments.protocols`.
"""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from audiojax import cli
from audiojax.errors import InputError, one_line
from experiments.protocols import protocol
from experiments.protocols.definitions import Run


class Sweep(NamedTuple):
    """The content of a sweep file."""

    config: str  # configs/NAME.py
    arg: str  # argument of the config
    overrides: tuple[str, ...]  # of all runs
    grid: tuple[dict[str, Any], ...]  # {key of the config: value}, in W&B's order: the last key varies fastest


def read(path: Path) -> Sweep:
    """Reads a sweep file; raises InputError if it is not a grid over config keys."""
    try:
        content = yaml.safe_load(path.read_text())
        words, parameters, method = content["command"], content["parameters"], content["method"]
        axes = {name: of["values"] if "values" in of else [of["value"]] for name, of in parameters.items()}
    except FileNotFoundError:
        raise InputError(f"{path} is not a file; choose one of experiments/protocols/sweeps.") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a sweep file ({one_line(error, 80)}); give it method, command and parameters."
        ) from None
    if method != "grid":
        raise InputError(f"{path} has method {method}; use wandb for it, or set method to grid.")
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
    """Returns the runs of a sweep."""
    return [Run(" ".join(f"{key}={value}" for key, value in of.items()), sweep.arg, 0, of) for of in sweep.grid]


def main(argv: list[str]) -> None:
    """Trains the missing runs of a sweep and prints its table."""
    parser = cli.parser("experiments.protocols.sweep", __doc__ or "")
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
