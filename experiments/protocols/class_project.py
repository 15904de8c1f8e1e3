"""Ablation study of the class project's CNN (`configs/cnn.py`, recipe=seed): one change per row.

  python -m experiments.protocols.class_project --source fsdd --root DIR --num-epochs 20
  python -m experiments.protocols.class_project --source audiomnist --root DIR --rows 'as told' '48 kHz'

The recipe has batches of 100, a constant learning rate, no augmentation, 20 epochs, and a random 80/20 split, in which
all speakers are in the training and in the test set: these accuracies do not apply to unseen speakers. The rows of
other sampling rates keep the first 8,000 samples, as the project did. At 48 kHz these are 0.17 s, mostly silence before
the word. The files of "AudioMNIST, reconstructed" have a rate of 48 kHz and no content above 4 kHz, and FSDD was
recorded at 8 kHz. These rows therefore show the effect of truncation, not of bandwidth; FSDD has none of them.
`--grid` runs all 32 combinations of BatchNorm, learning rate, momentum and a ReLU on the logits instead. Options,
results and resumption are those of `experiments.protocols`.
"""

import itertools

from audiojax import cli
from audiojax.errors import InputError
from audiojax.evaluation import plots
from experiments.protocols import protocol, records
from experiments.protocols.definitions import Run

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
    """Returns all combinations of `AXES`, by a descriptive name."""
    rows = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]
    return {" ".join(f"{key.partition('.')[2]}={value}" for key, value in row.items()): row for row in rows}


def runs(source: str, rows: dict[str, dict[str, object]], num_epochs: int) -> list[Run]:
    """Returns a run for each row; FSDD has no rows with a sampling rate above that of its recordings."""
    return [
        Run(name, f"{source},split=random", 0, row | {"train.num_epochs": num_epochs})
        for name, row in rows.items()
        if source != "fsdd" or "data.rate_hz" not in row
    ]


def main(argv: list[str]) -> None:
    """Trains the missing rows, then plots and prints all of them."""
    parser = cli.parser("experiments.protocols.class_project", __doc__ or "")
    parser.add_argument("--source", choices=("audiomnist", "fsdd"), required=True)
    parser.add_argument("--num-epochs", type=int, default=20, help="default: 20, as in the project")
    parser.add_argument("--rows", nargs="+", help=f"some of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--grid", action="store_true", help="run the grid instead of one change per row")
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
    about = f"{records.DATA[args.source]}, random 80/20, {args.num_epochs} epochs: the class project's CNN"
    found = protocol.run_all("class_project", {"about": about}, chosen, recipe)
    plots.compared({run["name"]: run["curves"] for run in found}, about, recipe.path.with_suffix(".png"))
    print(f"{'row':<40} {'train':>7} {'test':>7} {'best':>7}   train and test: last epoch; best: by validation")
    for run in found:
        last = [run["curves"][f"{part}/accuracy"][-1] for part in ("train", "test")]
        print(f"{run['name']:<40} {last[0]:7.1%} {last[1]:7.1%} {run['accuracy']:7.1%}")
    print(f"results: {recipe.path}")


if __name__ == "__main__":
    cli.run(main)
