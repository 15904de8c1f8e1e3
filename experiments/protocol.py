"""A recipe under a whole protocol: every fold, or several seeds, one run after the other, and one line for all.

  python -m experiments.protocol folds --config configs/gru.py --root DIR            AudioMNIST, Becker's five folds
  python -m experiments.protocol fsdd-random --config configs/gru.py --root DIR      FSDD, 80/20, seeds 0 to 4
  python -m experiments.protocol fsdd-official --config configs/gru.py --root DIR    FSDD's own split, seeds 0 to 4
  python -m experiments.protocol fsdd-speaker --config configs/gru.py --root DIR     FSDD, each speaker left out once

A run that is finished is not repeated; what a stopped one did is kept. Results lie in WORKDIR/NAME.json.
"""

import json
from pathlib import Path

import numpy as np

from audiojax import command, evaluate, prepare, runlog, train
from audiojax.data import splits
from audiojax.data.disk import write_text
from audiojax.trained import Trained

PROTOCOLS = {
    "folds": [(f"audiomnist,fold={fold}", 0) for fold in range(5)],
    "fsdd-random": [("fsdd,split=random", seed) for seed in range(5)],
    "fsdd-official": [("fsdd,split=official", seed) for seed in range(5)],
    "fsdd-speaker": [(f"fsdd,split=speaker,fold={fold}", 0) for fold in range(6)],
}


def run_one(config, workdir: Path) -> dict:
    """Trains, or goes on, or finds it finished; accuracy of the test clips, and by speaker."""
    train.run(config, workdir)
    run, clips = Trained.load(workdir), prepare.load_clips(config)
    split = splits.make(clips, **config.split, seed=config.seed)
    told = evaluate.report(run, clips, split.test)
    seconds = [row["seconds"] for row in runlog.read_rows(workdir) if "epoch" in row]
    speakers = {name: of["accuracy"] for name, of in told["accuracy_by_speaker"].items()}
    return {"test": told["accuracy"], "speakers": speakers, "epoch_seconds": float(np.median(seconds))}


def main(argv: list[str]) -> None:
    parser = command.parser("protocol", __doc__ or "")
    parser.add_argument("name", choices=PROTOCOLS)
    parser.add_argument("--config", required=True, help="configs/NAME.py, without an argument")
    parser.add_argument("--root", required=True, help="where the data set lies")
    parser.add_argument("--workdir", type=Path, default=Path("runs/protocol"))
    args, overrides = parser.parse_known_args(argv)
    command.setup_jax()
    results = {}
    for arg, seed in PROTOCOLS[args.name]:
        given = [
            f"--config={args.config}:{arg}",
            f"--config.data.root={args.root}",
            f"--config.seed={seed}",
            *overrides,
        ]
        _, config = command.parse_with_config(command.parser("protocol", ""), given)
        name = f"{Path(args.config).stem}-{arg},seed={seed}".translate(str.maketrans(",=", "--"))
        results[f"{arg},seed={seed}"] = run_one(config, args.workdir / name)
        write_text(args.workdir / f"{Path(args.config).stem}-{args.name}.json", json.dumps(results, indent=2) + "\n")
    tests = [100 * of["test"] for of in results.values()]
    worst, lowest = min((of for one in results.values() for of in one["speakers"].items()), key=lambda item: item[1])
    for name, of in results.items():
        print(f"{name:<32} {of['test']:7.2%}   {of['epoch_seconds']:6.1f} s an epoch")
    print(f"mean {np.mean(tests):.2f} ± {np.std(tests, ddof=1):.2f} %, worst speaker {worst}: {lowest:.1%}")


if __name__ == "__main__":
    command.run(main)
