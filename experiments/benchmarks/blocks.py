"""Times each block of AudioNet against that of its peer in PyTorch, forward and backward, in one process.

  python -m experiments.benchmarks.blocks        batches of 100 clips of 8,000 samples; needs `pip install torch`

A block is a convolution with its BatchNorm, max-pooling and ReLU (in PyTorch, ReLU before max-pooling, as in
`peers.torch_audionet`); the last one is the three dense layers. "Backward" is the time of a forward and a backward pass
less that of a forward pass; the optimizer's update has a row of its own. The PyTorch blocks are in the channels-last
memory format; both have the allocator settings of audiojax. The numbers are medians of alternating rounds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from audiojax import cli
from audiojax.models.audionet import CHANNELS, HIDDEN, Conv, WaveConvPool, max_pool
from experiments.benchmarks.peers import pytorch, torch_audionet_blocks
from experiments.benchmarks.timing import add_out, alternate, write_record

NUM_SAMPLES = 8000

Passes = tuple[Callable[[], Any], Callable[[], Any]]  # a forward pass alone; a forward and a backward pass


class Block(nn.Module):
    """Block `index` of AudioNet, as `models.audionet.AudioNet` has it; the one after the last is the dense layers."""

    index: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the output of the block for its input `x`."""
        if self.index == 0:
            return nn.relu(WaveConvPool(CHANNELS[0])(x[..., 0]))
        if self.index < len(CHANNELS):
            x = Conv(CHANNELS[self.index], bias_trains=False)(x)
            return nn.relu(max_pool(nn.BatchNorm(use_running_average=False, momentum=0.9)(x)))
        x = x.reshape(x.shape[0], -1)
        for features in HIDDEN:
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(10)(x)


def ours(index: int, x: np.ndarray) -> Passes:
    """Returns the passes of block `index` of audiojax for its input `x` [B, T, C]."""
    block, x = Block(index), jax.device_put(x)
    variables = jax.jit(block.init)(jax.random.key(0), x)

    def apply(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        return block.apply(variables | {"params": params}, x, mutable=["batch_stats"])

    @jax.jit
    def both(params: Any, x: jax.Array) -> Any:
        out, back, changed = jax.vjp(apply, params, x, has_aux=True)
        to_params, to_x = back(out)
        return out, changed, to_params, to_x if index else None  # sound has no gradient

    forward = jax.jit(apply)
    params = variables["params"]
    return lambda: jax.block_until_ready(forward(params, x)), lambda: jax.block_until_ready(both(params, x))


def theirs(torch: Any, index: int, x: np.ndarray) -> Passes:
    """Returns the passes of block `index` of the peer in PyTorch for the same input."""
    net = torch_audionet_blocks(torch, NUM_SAMPLES, channels_last=True)[index].to(memory_format=torch.channels_last)
    sound = torch.from_numpy(np.moveaxis(x, -1, 1)[:, :, None]).contiguous(memory_format=torch.channels_last)
    sound.requires_grad_(index > 0)

    def forward() -> None:
        with torch.no_grad():
            net(sound)

    def both() -> None:
        net.zero_grad()
        sound.grad = None
        out = net(sound)
        out.backward(out.detach())

    return forward, both


def updates(torch: Any, num_parameters: int) -> dict[str, Callable[[], Any]]:
    """Returns functions that update parameters by SGD with momentum, in audiojax and in PyTorch."""
    params = jnp.ones(num_parameters)
    optimizer = optax.sgd(1e-4, momentum=0.9)

    @jax.jit
    def update(params: jax.Array, momentum: Any, gradient: jax.Array) -> Any:
        changes, momentum = optimizer.update(gradient, momentum)
        return optax.apply_updates(params, changes), momentum

    momentum = optimizer.init(params)
    weights = torch.nn.Parameter(torch.ones(num_parameters))
    weights.grad = torch.ones(num_parameters)
    sgd = torch.optim.SGD([weights], lr=1e-4, momentum=0.9)
    return {"audiojax": lambda: jax.block_until_ready(update(params, momentum, params)), "PyTorch": sgd.step}


def measure(torch: Any, batch_size: int) -> dict[str, dict[str, float]]:
    """Returns {row: {column: milliseconds}} for all blocks and the optimizer's update."""
    rng, rows = np.random.default_rng(0), {}
    inputs = zip((1, *CHANNELS), (NUM_SAMPLES >> at for at in range(len(CHANNELS) + 1)), strict=True)
    num_parameters = 0
    for index, (channels, length) in enumerate(inputs):
        x = rng.standard_normal((batch_size, length, channels)).astype(np.float32)
        passes = {"audiojax": ours(index, x), "PyTorch": theirs(torch, index, x)}
        seconds = alternate({f"{who}, {at}": of[at] for who, of in passes.items() for at in (0, 1)})
        is_conv = index < len(CHANNELS)
        name = f"block {index}: {channels} to {CHANNELS[index]}, {length} samples" if is_conv else "dense layers"
        rows[name] = {f"{who}, forward": 1e3 * seconds[f"{who}, 0"] for who in passes}
        rows[name] |= {f"{who}, backward": 1e3 * (seconds[f"{who}, 1"] - seconds[f"{who}, 0"]) for who in passes}
        params = jax.eval_shape(Block(index).init, jax.random.key(0), x[:1])["params"]
        num_parameters += sum(p.size for p in jax.tree.leaves(params))
    rows["update"] = {f"{who}, backward": 1e3 * s for who, s in alternate(updates(torch, num_parameters)).items()}
    return rows


def main(argv: list[str]) -> None:
    """Prints the table, and writes it to `--out`."""
    parser = cli.parser("experiments.benchmarks.blocks", __doc__ or "")
    parser.add_argument("--batch-size", type=int, default=100, help="number of clips (default: 100)")
    add_out(parser)
    args = parser.parse_args(argv)
    torch = pytorch()
    cli.setup_jax()
    rows = measure(torch, args.batch_size)
    columns = [f"{who}, {way}" for way in ("forward", "backward") for who in ("audiojax", "PyTorch")]
    rows["all"] = {column: sum(row.get(column, 0.0) for row in rows.values()) for column in columns}
    print(f"{'milliseconds':<36}" + "".join(f"{column:>20}" for column in columns))
    for name, row in rows.items():
        print(f"{name:<36}" + "".join(f"{row[c]:>20.1f}" if c in row else f"{'':>20}" for c in columns))
    write_record(args.out, {"batch_size": args.batch_size, "milliseconds": rows})


if __name__ == "__main__":
    cli.run(main)
