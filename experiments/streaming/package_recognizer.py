"""Replaces the packaged recogniser by the last parameters of a run.

  python -m experiments.streaming.package_recognizer --workdir RUN [RUN...] [--threshold 0.5]

The parameters of several runs are averaged; the decoder's other settings are those of configs/listen.py.
audiojax/streaming/pretrained/MODEL_CARD.md describes the training of RUN and its results.
"""

import copy
import dataclasses
from pathlib import Path

from audiojax import cli
from audiojax import config as configs
from audiojax.inference import PACKAGED
from configs.listen import get_config
from experiments.streaming.evaluate import opened


def main(argv: list[str]) -> None:
    """Writes config and parameters of the packaged recogniser."""
    parser = cli.parser("experiments.streaming.package_recognizer", __doc__ or "")
    parser.add_argument("--workdir", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--out", type=Path, default=PACKAGED, help="another folder, for a run to start from (init_from)"
    )
    parser.add_argument("--threshold", type=float, help="of the decoder, the default sensitivity")
    args = parser.parse_args(argv)
    run = opened(args.workdir)
    config, usual = copy.deepcopy(run.config), get_config()
    config.init_from, config.decoder, config.wandb = "", usual.decoder, usual.wandb
    config.data.update(root="", cache="~/.cache/audiojax")  # instead of paths on this machine
    for key in ("real", "strings"):
        config.streams[key] = "DIR" if config.streams[key] else ""
    if args.threshold is not None:
        config.decoder.threshold = args.threshold
    configs.check(config)
    dataclasses.replace(run, config=config).write_packaged(args.out)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{args.out} has {', '.join(map(str, args.workdir))} at step {run.step}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    cli.run(main)
