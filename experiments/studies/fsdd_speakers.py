"""Leaves each FSDD speaker out once: the network of the speedrun, trained on AudioMNIST and FSDD's other speakers.

  python -m experiments.studies.fsdd_speakers --root FSDD --other-root AUDIOMNIST --speakers jackson theo
  python -m experiments.studies.fsdd_speakers --root FSDD --other-root AUDIOMNIST --repeats 4

The recipe is that of `experiments.benchmarks.speedrun` for 99.0 %, which was chosen on AudioMNIST's speakers. It has a
fixed number of steps, so that no validation speaker is needed and five speakers of FSDD are used for training. FSDD's
speakers jackson and theo are development speakers.
"""

import numpy as np

from audiojax import cli
from audiojax.data import loading
from audiojax.rules import one_of
from experiments.benchmarks.speedrun import RECIPES, Trainer
from experiments.benchmarks.timing import add_out, write_record
from experiments.protocols.protocol import read_config


def main(argv: list[str]) -> None:
    """Prints the accuracy on the clips of each speaker who is left out, then the mean, and writes them to `--out`."""
    parser = cli.parser("experiments.studies.fsdd_speakers", __doc__ or "")
    parser.add_argument("--root", required=True, help="folder of FSDD")
    parser.add_argument("--other-root", required=True, help="folder of AudioMNIST")
    parser.add_argument("--speakers", nargs="+", help="leave out these speakers only")
    parser.add_argument("--repeats", type=int, default=1, help="how often an epoch has each clip of FSDD (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    add_out(parser)
    args = parser.parse_args(argv)
    cli.setup_jax()
    of = {"fsdd": args.root, "audiomnist": args.other_root}
    flags = {source: [f"--config=configs/spectrogram.py:{source}", f"--config.data.root={of[source]}"] for source in of}
    fsdd, audiomnist = (loading.load_clips(read_config(flags[source])) for source in of)
    clips, names = fsdd.joined(audiomnist), sorted(set(fsdd.speaker.tolist()))
    for name in args.speakers or ():
        one_of("--speakers", name, tuple(names))
    found: dict[str, dict[str, float]] = {}
    for name in args.speakers or names:
        left_out = np.flatnonzero(fsdd.speaker == name)
        others = np.repeat(np.flatnonzero(fsdd.speaker != name), args.repeats)
        train = np.concatenate([others, len(fsdd) + np.arange(len(audiomnist))])
        trainer = Trainer(RECIPES[99], len(train), clips.rate_hz)
        variables, seconds = trainer.train(clips, train, args.seed)
        found[name] = {"accuracy": trainer.accuracy(variables, clips, left_out), "clips": len(left_out)}
        print(f"{name:<12}{found[name]['accuracy']:8.2%} of {len(left_out)}, trained in {seconds:.0f} s", flush=True)
    print(f"{'mean':<12}{np.mean([row['accuracy'] for row in found.values()]):8.2%}")
    write_record(args.out, {"repeats": args.repeats, "seed": args.seed, "speakers": found})


if __name__ == "__main__":
    cli.run(main)
