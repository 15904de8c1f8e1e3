"""Replaces the packaged recogniser by the last parameters of a run, with the decoder of configs/listen.py.

  python -m experiments.package_recognizer --workdir RUN [RUN...]        the parameters of several runs are averaged

audiojax/streaming/pretrained/MODEL_CARD.md describes the training of RUN and its results.
"""

from pathlib import Path

from audiojax import cli
from audiojax.inference import PACKAGED
from configs.listen import get_config
from experiments.streaming_eval import opened


def main(argv: list[str]) -> None:
    """Writes config and parameters of the packaged recogniser."""
    parser = cli.parser("experiments.package_recognizer", __doc__ or "")
    parser.add_argument("--workdir", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--out", type=Path, default=PACKAGED, help="another folder, for a run to start from (init_from)"
    )
    args = parser.parse_args(argv)
    run = opened(args.workdir)
    run.config.init_from, run.config.decoder = "", get_config().decoder
    run.config.data.update(root="", cache="~/.cache/audiojax")  # paths of this machine
    run.config.streams.real = "DIR" if run.config.streams.real else ""
    run.config.wandb = get_config().wandb
    run.write_packaged(args.out)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{args.out} has {', '.join(map(str, args.workdir))} at step {run.step}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    cli.run(main)
