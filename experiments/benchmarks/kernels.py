"""Times training steps and single layers with kernels that are tuned for the CPU against plain ones.

  python -m experiments.benchmarks.kernels                                      all networks that have tuned kernels
  python -m experiments.benchmarks.kernels configs/gru.py configs/spectrogram.py --rounds 40
  python -m experiments.benchmarks.kernels --layers                             their layers alone

Each training step has 20 clips of random sound of 0.66 s (AudioNet and AlexNet: 1 s), without augmentation; a layer
has an input of that size, forward and backward, or one step of one stream, forward alone, with the time in which
jax dispatches it. AlexNet has one kernel, which its training step measures. The two alternate in one process; the
numbers are medians.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax import cli
from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.models.audionet import Conv, WaveConvPool
from audiojax.models.layers.causal_conv import CausalConv
from audiojax.models.layers.cells import GRUCell
from audiojax.models.layers.convolution import Convolution
from experiments.benchmarks.steps import audiojax_steps
from experiments.benchmarks.timing import add_out, alternate, write_record

CONFIGS = (
    "configs/cnn.py", "configs/gru.py", "configs/gru.py:recipe=plain", "configs/spectrogram.py",
    "configs/spectrogram.py:recipe=alexnet",
)  # fmt: skip
BATCH_SIZE, NUM_SAMPLES = 20, 5280


class Layer(NamedTuple):
    """A layer with a kernel of its own: its module for `tuned`, the shapes of its inputs, and what is computed."""

    module: Callable[[bool], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    method: str = "__call__"
    gradient_of_inputs: bool = True
    repeats: int = 1  # of a step that takes microseconds, forward alone


LAYERS = {
    "AudioNet, block 0": Layer(lambda tuned: WaveConvPool(100, tuned=tuned), ((20, 8000),), gradient_of_inputs=False),
    "AudioNet, block 1": Layer(lambda tuned: Conv(64, tuned=tuned, bias_trains=False), ((20, 4000, 100),)),
    "AudioNet, block 2": Layer(lambda tuned: Conv(128, tuned=tuned, bias_trains=False), ((20, 2000, 64),)),
    "AudioNet, block 3": Layer(lambda tuned: Conv(128, tuned=tuned, bias_trains=False), ((20, 1000, 128),)),
    "AudioNet, block 6": Layer(lambda tuned: Conv(128, tuned=tuned, bias_trains=False), ((20, 125, 128),)),
    "MelCNN, 16 to 24 channels": Layer(lambda tuned: Convolution(24, tuned), ((20, 38, 20, 16),)),
    "MelCNN, 24 to 48 channels": Layer(lambda tuned: Convolution(48, tuned), ((20, 19, 10, 24),)),
    "CausalConv": Layer(lambda tuned: CausalConv(32, tuned=tuned), ((20, 2, 20, 16), (33, 20, 20, 16))),
    "GRUCell": Layer(lambda tuned: GRUCell(88, tuned=tuned), ((20, 88), (33, 20, 240)), "run"),
    "CausalConv, a stream's step": Layer(
        lambda tuned: CausalConv(32, tuned=tuned), ((1, 2, 20, 16), (1, 1, 20, 16)), repeats=1000
    ),
}


def layer_milliseconds(layer: Layer, num_rounds: int) -> dict[str, float]:
    """Returns the milliseconds of a layer, with each choice of kernels."""
    contenders = {kernels: layer_pass(layer, kernels == "auto") for kernels in ("auto", "plain")}
    return {kernels: 1e3 * s / layer.repeats for kernels, s in alternate(contenders, num_rounds).items()}


def layer_pass(layer: Layer, tuned: bool) -> Callable[[], None]:
    """Returns a function that computes a layer and its gradients, or `layer.repeats` times the layer alone."""
    rng = np.random.default_rng(0)
    inputs = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in layer.shapes]
    module = layer.module(tuned)
    params = module.init(jax.random.key(0), *inputs, method=layer.method)
    apply = functools.partial(module.apply, method=layer.method)

    def loss(params: dict, *inputs: jax.Array) -> jax.Array:
        return sum(jnp.sum(jnp.square(out)) for out in jax.tree.leaves(apply(params, *inputs)))

    arguments = (0, len(inputs)) if layer.gradient_of_inputs else 0
    compute = jax.jit(apply if layer.repeats > 1 else jax.grad(loss, arguments))

    def run() -> None:
        for _ in range(layer.repeats):
            jax.block_until_ready(compute(params, *inputs))

    return run


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
    """Prints a row for each config or layer, and writes all of them to `--out`."""
    parser = cli.parser("experiments.benchmarks.kernels", __doc__ or "")
    parser.add_argument("configs", nargs="*", help="default: all networks that have tuned kernels")
    parser.add_argument("--layers", action="store_true", help="time single layers instead of training steps")
    parser.add_argument("--rounds", type=int, default=12)
    add_out(parser)
    args = parser.parse_args(argv)
    if args.layers and args.configs:
        raise InputError(f"--layers times single layers, and {args.configs[0]} a whole network; give one of them.")
    cli.setup_jax()
    print(f"jax {jax.__version__}\n{'milliseconds':<40}{'tuned':>10}{'plain':>10}{'plain / tuned':>16}")
    timed = {name: functools.partial(milliseconds, name) for name in args.configs or CONFIGS}
    if args.layers:
        timed = {name: functools.partial(layer_milliseconds, layer) for name, layer in LAYERS.items()}
    rows = {}
    for name, measure in timed.items():
        rows[name] = found = measure(args.rounds)
        ratio = found["plain"] / found["auto"]
        print(f"{name:<40}{found['auto']:>10.4g}{found['plain']:>10.4g}{ratio:>16.2f}", flush=True)
    write_record(args.out, {"rounds": args.rounds, "milliseconds": rows})


if __name__ == "__main__":
    cli.run(main)
