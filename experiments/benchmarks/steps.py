"""Training steps of audiojax and of its peers, and how long each takes beside the peak throughput of the machine.

Augmentation is off for all. Each implementation trains in a process of its own, once with the default allocator and,
on the CPU, once with the allocator settings of audiojax.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audiojax import config as configs
from audiojax.data import batches, loading, splits
from audiojax.data.clips import Batch, Clips
from audiojax.errors import InputError
from audiojax.rules import one_of
from audiojax.training.build import Assembled, assemble
from experiments.benchmarks import peers
from experiments.benchmarks.timing import NUM_ROUNDS, Contender, alternate, serve

KEEPING = ", memory kept"  # suffix of a peer that runs with `cli.keep_memory`, as the commands of audiojax do


def ceilings() -> dict[str, Callable[[], Any]]:
    """Returns functions that measure the machine's peak: a matrix product in two precisions, and a memory copy."""
    size = 2048
    square = {name: jnp.ones((size, size), name) for name in ("float32", "bfloat16")}
    product, copy = jax.jit(lambda x: x @ x), np.ones(40_000_000, np.float32)
    of = {f"{name} matmul": lambda x=x: jax.block_until_ready(product(x)) for name, x in square.items()}
    return of | {"copy": copy.copy}


def rates(seconds: dict[str, float]) -> dict[str, float]:
    """Returns floating-point operations and bytes per second from the timings of `ceilings`."""
    of = {f"{name}_flops": 2 * 2048**3 / seconds[f"{name} matmul"] for name in ("float32", "bfloat16")}
    return of | {"copy_bytes": 2 * 160e6 / seconds["copy"]}  # read and written


def compare(what: str, config: Any, argv: list[str], serving: str, only: str = "") -> dict | None:
    """Compares our training step with its peers in time, start-up and memory; or runs the peer named `serving`.

    `only` is the name of the one peer to measure; "" for all.
    """
    clips = loading.load_clips(config)
    split, num_batches = splits.make(clips, **config.split), 20 if what == "gru" else 1
    shape = configs.batch_shape(config)
    step_batches = list(batches.Epochs(clips, split.train, **shape, seed=config.seed)(0, num_batches))
    num_clips = sum(int(batch["mask"].sum()) for batch in step_batches)
    builders = contenders(what, config, clips)
    if serving:
        return serve(builders[serving], step_batches)
    us, *others = builders
    others, missing = present(chosen(others, only))
    ours = Contender(argv, us)
    measured = alternate({us: ours} | ceilings())
    ceiling, flops = rates(measured), _step_flops(config, clips, step_batches[0]) if what == "cnn" else 0.0
    rows = {}
    for name in [*others, us]:
        try:
            peer = Contender(argv, name) if name != us else ours
            # Each peer runs beside ours alone, because not every machine has memory for all of them at once.
            seconds = alternate({us: ours, name: peer}) if name != us else measured
        except InputError:  # its process has reported why
            missing.append(name)
            continue
        rows[name] = {
            "step_seconds": seconds[name] / num_batches,
            "clips_per_second": num_clips / seconds[name],
            "times_the_floor": seconds[name] / num_batches * ceiling["float32_flops"] / flops if flops else None,
            "times_ours": seconds[name] / seconds[us],
            "first_step_seconds": peer.first_step_seconds,
            "peak_bytes": peer.end(),
        }
    print(
        f"{clips.source}, batches of {config.train.batch_size}, medians of {NUM_ROUNDS} rounds, alternating with ours"
    )
    print(f"this machine: {_shown(ceiling)}" + (f"; {flops / 1e9:.1f} GFLOP a step" if flops else ""))
    _print_table(rows)
    if missing:
        print(f"missing: {', '.join(missing)}")
    return {"rows": rows, "missing": missing, "ceilings": ceiling, "flops_a_step": flops}


def _print_table(rows: Mapping[str, Mapping[str, float]]) -> None:
    print(f"{'':<44}{'ms a step':>10}{'clips/s':>9}{'x ours':>8}{'x floor':>9}{'first step':>12}{'memory':>10}")
    for name, of in rows.items():
        print(
            f"{name:<44}{1e3 * of['step_seconds']:>10.1f}{of['clips_per_second']:>9,.0f}{of['times_ours']:>8.2f}"
            f"{of['times_the_floor'] or float('nan'):>9.1f}{of['first_step_seconds']:>10.1f} s"
            f"{of['peak_bytes'] / 1e6:>7,.0f} MB"
        )


def chosen(names: Sequence[str], only: str) -> Sequence[str]:
    """Returns the peer named `only`, or all `names` if it is ""; raises InputError if there is no such peer."""
    if not only:
        return names
    one_of("--only", only, tuple(names))
    return [only]


def present(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the peers among `names` that can be measured here, and those that are not installed."""
    on_cpu, torch = jax.default_backend() == "cpu", importlib.util.find_spec("torch")
    here = [name for name in names if on_cpu or not name.endswith(KEEPING)]
    missing = [name for name in here if name.startswith("PyTorch") and not torch]
    return [name for name in here if name not in missing], missing


def contenders(what: str, config: Any, clips: Clips) -> dict[str, Callable[[], peers.Steps]]:
    """Returns, by name, functions that build the training steps; ours first."""
    if what == "gru":
        builders = {
            "audiojax": lambda: audiojax_steps(config, **sizes(clips)),
            "PyTorch, packed nn.GRU": lambda: peers.torch_gru(config, clips.rate_hz),
        }
    else:
        half = config.copy_and_resolve_references()
        half.model.dtype = "bfloat16"
        builders = {
            "audiojax": lambda: audiojax_steps(config, **sizes(clips)),
            "audiojax, bfloat16": lambda: audiojax_steps(half, **sizes(clips)),
            "plain Flax": lambda: peers.flax_audionet(config),
            "PyTorch": lambda: peers.torch_audionet(config),
            "PyTorch, torch.compile": lambda: peers.torch_audionet(config, compiled=True),
            "PyTorch, channels last": lambda: peers.torch_audionet(config, channels_last=True),
            "PyTorch, channels last, bfloat16": lambda: peers.torch_audionet(config, channels_last=True, half=True),
            "PyTorch, all three": lambda: peers.torch_audionet(config, channels_last=True, half=True, compiled=True),
        }
    peers_too = {f"{name}{KEEPING}": make for name, make in builders.items() if not name.startswith("audiojax")}
    return builders | peers_too


def sizes(clips: Clips) -> dict[str, int]:
    """Returns the arguments of `assembled` that depend on the clips."""
    return {"num_labels": len(clips.label_names), "rate_hz": clips.rate_hz}


def assembled(config: Any, num_labels: int, rate_hz: int) -> Assembled:
    """Returns the network of `config`, its initial state and its training step, without augmentation."""
    quiet = config.copy_and_resolve_references()
    quiet.augment = configs.base(configs.parse_arg("")).augment
    return assemble(quiet, num_labels=num_labels, rate_hz=rate_hz, num_steps=1000)


def audiojax_steps(config: Any, num_labels: int, rate_hz: int) -> peers.Steps:
    """Returns a function that runs training steps on a list of batches, as the training loop does."""
    _, state, _, step, _ = assembled(config, num_labels, rate_hz)
    key = jax.random.key(0)

    def steps(step_batches: list[Batch]) -> None:
        nonlocal state
        for batch in step_batches:
            state, _ = step(state, batch, key)
        jax.block_until_ready(state)

    return steps


def _step_flops(config: Any, clips: Clips, batch: Batch) -> float:
    """Returns the FLOPs of a step as XLA counts them; it counts a loop's body once, so not for recurrent networks."""
    _, state, _, step, _ = assembled(config, **sizes(clips))
    analysis = step.lower(state, batch, jax.random.key(0)).compile().cost_analysis()
    return float(analysis["flops"])


def _shown(ceiling: dict[str, float]) -> str:
    return (
        f"{ceiling['float32_flops'] / 1e9:.0f} GFLOP/s in float32 and {ceiling['bfloat16_flops'] / 1e9:.0f} in "
        f"bfloat16 (XLA's matmul), {ceiling['copy_bytes'] / 1e9:.1f} GB/s copied"
    )
