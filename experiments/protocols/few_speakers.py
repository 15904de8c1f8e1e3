"""Accuracy against the number of training speakers, on fold 0 of AudioMNIST.

  python -m experiments.protocols.few_speakers --config configs/gru.py --root DIR [--seeds 3] [--max-minutes 9]

The training set has 3, 6, 12, 24 or all 36 speakers, women and men in equal numbers as long as there are women;
validation and test sets are unchanged. A seed determines the speakers, the initial parameters and the order of clips;
the smaller sets of a seed are subsets of the larger ones. Every run takes as many steps as the one with 36 speakers.
Options, results and resumption are those of `experiments.protocols`; the plot is written beside the results.
"""

from audiojax import cli
from audiojax.evaluation import plots
from experiments.protocols import protocol, records
from experiments.protocols.definitions import Run

NUM_SPEAKERS = (3, 6, 12, 24, 36)


def runs(num_epochs: int, num_seeds: int, sizes: tuple[int, ...] = NUM_SPEAKERS) -> list[Run]:
    """Returns a run for each number of speakers and each seed; `num_epochs` is that of the largest number."""
    return [
        Run(
            f"{size:02d} speakers, seed {seed}",
            "audiomnist,fold=0",
            seed,
            {"split.num_speakers": size, "train.num_epochs": round(num_epochs * sizes[-1] / size)},
        )
        for size in sizes
        for seed in range(num_seeds)
    ]


def by_size(found: list[dict]) -> dict[float, list[float]]:
    """Returns {number of speakers: accuracies, one per seed}, the smallest number first."""
    sizes = sorted({run["overrides"]["split.num_speakers"] for run in found})
    return {
        size: [run["accuracy"] for run in found if run["overrides"]["split.num_speakers"] == size] for size in sizes
    }


def main(argv: list[str]) -> None:
    """Trains the missing runs, then plots and prints accuracy by number of speakers."""
    parser = cli.parser("experiments.protocols.few_speakers", __doc__ or "")
    parser.add_argument("--config", required=True, help="configs/NAME.py, without an argument")
    parser.add_argument("--recipe", default="", help="of that config, if not its default")
    parser.add_argument("--seeds", type=int, default=3, help="number of random subsets of speakers (default: 3)")
    parser.add_argument("--num-epochs", type=int, default=0, help="with all speakers (default: the recipe's)")
    protocol.add_options(parser)
    args, overrides = parser.parse_known_args(argv)
    cli.setup_jax()
    recipe = protocol.recipe_of(args, "few_speakers", overrides, config=args.config, recipe=args.recipe)
    whole = protocol.config_of(recipe, Run("all", "audiomnist,fold=0"))
    sizes = (1, 3) if args.trial else NUM_SPEAKERS
    chosen = runs(args.num_epochs or whole.train.num_epochs, args.seeds, sizes)
    about = "AudioMNIST, reconstructed, fold 0: few training speakers"
    levels = by_size(protocol.run_all("few_speakers", {"about": about}, chosen, recipe))
    panel = {"training speakers": {recipe.path.stem: levels}}
    plots.by_level(panel, about, recipe.path.with_suffix(".png"))
    for size, accuracies in levels.items():
        print(f"{size:>3} speakers  {records.percent(accuracies)}  ({len(accuracies)} seeds)")
    print(f"results: {recipe.path}")


if __name__ == "__main__":
    cli.run(main)
