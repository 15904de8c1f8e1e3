"""The student's report, dissected: its CNN as told (`configs/cnn.py`, recipe=seed), and one change a row.

  python -m experiments.class_project --source fsdd --root DIR --num-epochs 20
  python -m experiments.class_project --source audiomnist --root DIR --rows 'as told' '48 kHz'

Batch 100, a constant rate, no augmentation, 20 epochs, and 80/20 of all clips at random, so that every speaker is on
both sides: these accuracies are no accuracies on a voice that was never heard. The rows of other rates keep the first
8,000 samples, which is what the report says it did. At 48 kHz these are 0.17 s: mostly silence before the word.
"AudioMNIST, reconstructed" has files of 48 kHz with nothing above 4 kHz in them, and FSDD was recorded at 8 kHz: a row
shows what cutting does, not what the upper octaves would give, and is left out for FSDD. `--grid` crosses BatchNorm,
rate, momentum and the ReLU on the logits instead: 32 runs. Options, results, resumption: as `experiments.protocol` has.
"""

import itertools

from audiojax import cli
from audiojax.errors import InputError
from audiojax.evaluation import plots
from experiments import protocol, records
from experiments.protocols import Run

RATES = (1e-5, 1e-4, 1e-3, 1e-2)
ROWS: dict[str, dict[str, object]] = {
    "as told": {},
    "no BatchNorm": {"model.batch_norm": False},
    **{f"rate {rate:g}": {"optimizer.learning_rate": rate} for rate in RATES if rate != 1e-4},
    "momentum 0": {"optimizer.momentum": 0.0},
    "ReLU on the logits": {"model.relu_on_logits": True},
    "16 kHz": {"data.rate_hz": 16000, "train.length_samples": 8000},
    "22.05 kHz": {"data.rate_hz": 22050, "train.length_samples": 8000},
    "48 kHz": {"data.rate_hz": 48000, "train.length_samples": 8000},
}
AXES: dict[str, tuple] = {
    "model.batch_norm": (True, False),
    "optimizer.learning_rate": RATES,
    "optimizer.momentum": (0.0, 0.9),
    "model.relu_on_logits": (False, True),
}


def grid() -> dict[str, dict[str, object]]:
    """Every combination of `AXES`, by a name that tells it."""
    rows = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]
    return {" ".join(f"{key.partition('.')[2]}={value}" for key, value in row.items()): row for row in rows}


def runs(source: str, rows: dict[str, dict[str, object]], num_epochs: int) -> list[Run]:
    """A run a row; rows of a higher rate than FSDD was recorded at are left out for it."""
    return [
        Run(name, f"{source},split=random", 0, row | {"train.num_epochs": num_epochs})
        for name, row in rows.items()
        if source != "fsdd" or "data.rate_hz" not in row
    ]


def main(argv: list[str]) -> None:
    parser = cli.parser("experiments.class_project", __doc__ or "")
    parser.add_argument("--source", choices=("audiomnist", "fsdd"), required=True)
    parser.add_argument("--num-epochs", type=int, default=20, help="a smaller budget than the student's 20")
    parser.add_argument("--rows", nargs="+", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--grid", action="store_true", help="the whole grid instead of one change a row")
    protocol.add_options(parser)
    args, overrides = parser.parse_known_args(argv)
    cli.setup_jax()
    rows = grid() if args.grid else ROWS
    if unknown := set(args.rows or ()) - set(rows):
        raise InputError(f"--rows has {sorted(unknown)[0]!r}; choose from {', '.join(rows)}.")
    args.name = "-".join(
        filter(None, (args.source, "grid" if args.grid else "", f"{args.num_epochs}epochs", args.name))
    )
    recipe = protocol.recipe_of(args, "class_project", overrides, config="configs/cnn.py", recipe="seed")
    chosen = runs(
        args.source, {name: row for name, row in rows.items() if name in (args.rows or rows)}, args.num_epochs
    )
    about = f"{records.DATA[args.source]}, random 80/20, {args.num_epochs} epochs: the student's CNN"
    found = protocol.run_all("class_project", {"about": about}, chosen, recipe)
    plots.compared({run["name"]: run["curves"] for run in found}, about, recipe.path.with_suffix(".png"))
    print(f"{'row':<40} {'train':>7} {'test':>7} {'chosen':>7}   last epoch, and the one that validation chose")
    for run in found:
        last = [run["curves"][f"{part}/accuracy"][-1] for part in ("train", "test")]
        print(f"{run['name']:<40} {last[0]:7.1%} {last[1]:7.1%} {run['accuracy']:7.1%}")
    print(f"in {recipe.path}")


if __name__ == "__main__":
    cli.run(main)
