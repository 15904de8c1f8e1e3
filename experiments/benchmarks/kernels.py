"""Times training steps with kernels that are tuned for the CPU against steps with plain ones.

  python -m experiments.benchmarks.kernels                                      all networks that have tuned kernels
  python -m experiments.benchmarks.kernels configs/gru.py configs/spectrogram.py --rounds 40

Each step has 20 clips of random sound of 0.66 s (AudioNet and AlexNet: 1 s), without augmentation. The two alternate in
one process; the numbers are medians.
"""

import functools

import jax
import numpy as np

from audiojax import cli
from audiojax.data.clips import Batch
from experiments.benchmarks.steps import audiojax_steps
from experiments.benchmarks.timing import add_out, alternate, write_record

CONFIGS = (
    "configs/cnn.py", "configs/gru.py", "configs/gru.py:recipe=plain", "configs/spectrogram.py",
    "configs/spectrogram.py:recipe=alexnet",
)  # fmt: skip
BATCH_SIZE, NUM_SAMPLES = 20, 5280


def milliseconds(name: str, num_rounds: int) -> dict[str, float]:
    """Returns the milliseconds of a training step of the config called `name`, with each choice of kernels."""
    contenders = {}
    for kernels in ("auto", "plain"):
        flags = [f"--config={name}", f"--config.model.kernels={kernels}"]
        _, config = cli.parse_with_config(cli.parser("experiments.benchmarks.kernels", ""), flags)
        length = NUM_SAMPLES if config.train.bucket_samples else config.train.length_samples
        batch: Batch = {
            "audio": np.random.default_rng(0).integers(-9000, 9000, (BATCH_SIZE, length)).astype(np.int16),
            "length": np.full(BATCH_SIZE, length, np.int32),
            "label": np.arange(BATCH_SIZE, dtype=np.int32) % 10,
            "mask": np.ones(BATCH_SIZE, bool),
        }
        steps = audiojax_steps(config, num_labels=10, rate_hz=config.data.rate_hz)
        contenders[kernels] = functools.partial(steps, [batch])
    return {kernels: 1e3 * seconds for kernels, seconds in alternate(contenders, num_rounds).items()}


def main(argv: list[str]) -> None:
    """Prints a row for each config, and writes all of them to `--out`."""
    parser = cli.parser("experiments.benchmarks.kernels", __doc__ or "")
    parser.add_argument("configs", nargs="*", default=CONFIGS)
    parser.add_argument("--rounds", type=int, default=12)
    add_out(parser)
    args = parser.parse_args(argv)
    cli.setup_jax()
    print(f"jax {jax.__version__}\n{'milliseconds':<40}{'tuned':>8}{'plain':>8}{'plain / tuned':>16}")
    rows = {}
    for name in args.configs:
        rows[name] = found = milliseconds(name, args.rounds)
        ratio = found["plain"] / found["auto"]
        print(f"{name:<40}{found['auto']:>8.1f}{found['plain']:>8.1f}{ratio:>16.2f}", flush=True)
    write_record(args.out, {"rounds": args.rounds, "milliseconds": rows})


if __name__ == "__main__":
    cli.run(main)
