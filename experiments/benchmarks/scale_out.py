"""Estimates by calculation, not by measurement, how a training step scales over many GPUs.

  python -m experiments.benchmarks.scale_out --config configs/cnn.py --config.train.batch_size=100 --step-ms 4.2

Weak scaling: the batch per device is constant, and the devices all-reduce their gradients once per step. The size of
the all-reduce is read from the program that XLA compiles for two devices; the time of a step on one device is an
argument, measured by `experiments.benchmarks.compare`. No overlap with the backward pass is assumed, which is
pessimistic; stragglers and data loading are ignored, which is optimistic.
"""

import json
import math
import os
import re

from audiojax.data import loading

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import jax

from audiojax import cli
from audiojax import config as configs
from audiojax.data import batches, splits
from audiojax.training import sharding
from audiojax.training.build import assemble

BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1}
# H100: 450 GB/s between the eight devices of a node by NVLink, and a port of 400 Gb/s per device between nodes.
GPUS_A_NODE, NODE_BYTES_PER_S, NETWORK_BYTES_PER_S, HOP_SECONDS = 8, 450e9, 50e9, 5e-6


def summed_bytes(program: str) -> int:
    """Returns the number of bytes that the devices of a compiled `program` all-reduce."""
    total = 0
    for line in program.splitlines():
        if match := re.search(r"= (.*?) all-reduce(?:-start)?\(", line):
            for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", match[1]):
                total += BYTES[kind] * math.prod(int(n) for n in shape.split(",") if n)
    return total


def sum_seconds(num_bytes: int, num_devices: int) -> float:
    """Returns the time of a hierarchical all-reduce: a ring within each node and rings across the nodes."""
    inside = min(num_devices, GPUS_A_NODE)
    nodes = -(-num_devices // GPUS_A_NODE)
    within = 2 * (inside - 1) / inside * num_bytes / NODE_BYTES_PER_S + 2 * (inside - 1) * HOP_SECONDS
    across = 2 * (nodes - 1) / nodes * num_bytes / inside / NETWORK_BYTES_PER_S
    return within + across + 2 * math.ceil(math.log2(nodes)) * HOP_SECONDS


def main(argv: list[str]) -> None:
    """Prints the parallel efficiency for 8 to 1,024 GPUs."""
    parser = cli.parser("experiments.benchmarks.scale_out", __doc__ or "")
    parser.add_argument("--step-ms", type=float, nargs="+", required=True, help="step times of one device")
    args, config = cli.parse_with_config(parser, argv)
    cli.setup_jax()
    clips = loading.load_clips(config)
    split = splits.make(clips, **config.split)
    [batch] = batches.Epochs(clips, split.train, **configs.batch_shape(config), seed=config.seed)(0, 1)
    two, key = sharding.make_mesh(2), jax.random.key(0)
    made = assemble(config, num_labels=len(clips.label_names), rate_hz=clips.rate_hz, num_steps=100)
    on_device = made.augment_step(sharding.shard_batch(batch, two), key, 0)
    num_bytes = summed_bytes(
        made.train_step.lower(sharding.replicate(made.state, two), on_device, key).compile().as_text()
    )
    print(f"Calculated. {config.model.name}: all-reduce of {num_bytes / 1e6:.2f} MB per step")
    print("GPUs".rjust(6) + "sum, ms".rjust(10) + "".join(f"{ms:g} ms a step".rjust(16) for ms in args.step_ms))
    rows = {}
    for num_devices in (8, 16, 32, 64, 128, 256, 512, 1024):
        sum_ms = 1e3 * sum_seconds(num_bytes, num_devices)
        rows[num_devices] = [ms / (ms + sum_ms) for ms in args.step_ms]
        print(f"{num_devices:>6}{sum_ms:>10.2f}" + "".join(f"{share:>16.1%}" for share in rows[num_devices]))
    print(json.dumps({"bytes": num_bytes, "efficiency": rows}))


if __name__ == "__main__":
    cli.run(main)
