"""Plots the training loss of several runs over time, beside chance.

  python -m experiments.protocols.loss_curves 'GRU, raw samples=60:RUN' 'convolutions and GRU=14.5:RUN' --out FILE.png

Each run is NAME=MINUTES:RUN, and RUN its workdir or a copy of its `metrics.jsonl`. The loss is the mean over 20 rows;
`MINUTES`, the duration of the run, gives its steps their times.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from audiojax import cli
from audiojax.errors import InputError
from audiojax.training import runlog

ROWS = 20  # that are averaged


def losses(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the last step and the mean loss of each 20 rows, f64[n]; raises InputError if there are fewer."""
    found = np.asarray([(row["step"], row["step/loss"]) for row in runlog.read_rows(run) if "step/loss" in row])
    if len(found) < ROWS:
        raise InputError(f"{run} has metrics of {len(found)} steps; give a run with {ROWS}.")
    rows = found[: len(found) // ROWS * ROWS].reshape(-1, ROWS, 2)
    return rows[:, -1, 0], rows[..., 1].mean(axis=1)


def curve(given: str) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the name of the run NAME=MINUTES:RUN, its minutes and its losses; raises InputError otherwise."""
    match = re.fullmatch(r"(.+?)=(\d+(?:\.\d+)?):(.+)", given)
    if match is None:
        raise InputError(f"{given!r} is not a run; give NAME=MINUTES:RUN.")
    steps, loss = losses(Path(match[3]))
    return match[1], (float(match[2]) * steps / steps[-1], loss)


def plot(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, path: Path) -> None:
    """Plots curves, {name: (minutes, losses)}, and the loss of chance among ten labels."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3.8), layout="constrained")
    for name, (minutes, loss) in curves.items():
        axis.plot(minutes, loss, label=name)
    axis.axhline(np.log(10), color="grey", linestyle=":", label="chance, ln 10")
    axis.set(xlabel="minutes of training", ylabel="cross-entropy, nats", title=title)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(argv: list[str]) -> None:
    """Reads the runs and writes the picture."""
    parser = cli.parser("experiments.protocols.loss_curves", __doc__ or "")
    parser.add_argument("runs", nargs="+", help="NAME=MINUTES:RUN")
    parser.add_argument("--title", default="")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    curves = dict(curve(given) for given in args.runs)
    plot(curves, args.title, args.out)
    print(args.out)


if __name__ == "__main__":
    cli.run(main)
