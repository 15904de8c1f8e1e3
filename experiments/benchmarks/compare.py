"""Benchmarks against other implementations and against the peak throughput of the machine.

  python -m experiments.benchmarks.compare cnn      training step of AudioNet: 100 clips of 8,000 samples
  python -m experiments.benchmarks.compare gru      training step of the GRU (default: configs/gru.py:recipe=plain)
  python -m experiments.benchmarks.compare data     the data loader alone, and its memory with 30,000 and 300,000 clips
  python -m experiments.benchmarks.compare stream   latency of one hop through the recurrent network
  python -m experiments.benchmarks.compare predict  1,000 files, read and classified, against the forward pass alone
  python -m experiments.benchmarks.compare start    from the command to the first training step, and to the help text

The contenders run in turn; the numbers are medians. The PyTorch implementations need `pip install torch`; those
that are missing or fail are listed, and the others are measured. Augmentation is off for all. Each implementation
trains in a process of its own, once with the default allocator and, on the CPU, once with the allocator settings of
audiojax. The output is a table, then one JSON object.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import soundfile

from audiojax import cli, models
from audiojax import config as configs
from audiojax.data import batches, loading, splits
from audiojax.data.clips import Batch, Clips
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.predict import classify
from audiojax.rules import one_of
from audiojax.streaming.logit_stream import Stream
from audiojax.training import environment
from audiojax.training.build import Assembled, assemble
from experiments.benchmarks import peers
from experiments.benchmarks.timing import NUM_ROUNDS, Contender, alternate, serve

KEEPING = ", memory kept"  # suffix of a peer that runs with `cli.keep_memory`, as the commands of audiojax do
DEFAULTS = {
    "cnn": ["--config=configs/cnn.py", "--config.train.batch_size=100"],
    "gru": ["--config=configs/gru.py:recipe=plain"],
    "data": ["--config=configs/cnn.py", "--config.train.batch_size=100"],
    "stream": ["--config=configs/gru.py:recipe=plain"],
    "predict": ["--config=configs/cnn.py", "--config.train.batch_size=100"],
    "start": ["--config=configs/cnn.py"],
}


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


def training(what: str, config: Any, argv: list[str], serving: str, only: str = "") -> dict | None:
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
    us = next(iter(builders))
    if only:
        one_of("--only", only, tuple(name for name in builders if name != us))
        builders = {name: builders[name] for name in (us, only)}
    others, missing = present(builders)
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
    print(f"{'':<44}{'ms a step':>10}{'clips/s':>9}{'x ours':>8}{'x floor':>9}{'first step':>12}{'memory':>10}")
    for name, of in rows.items():
        print(
            f"{name:<44}{1e3 * of['step_seconds']:>10.1f}{of['clips_per_second']:>9,.0f}{of['times_ours']:>8.2f}"
            f"{of['times_the_floor'] or float('nan'):>9.1f}{of['first_step_seconds']:>10.1f} s"
            f"{of['peak_bytes'] / 1e6:>7,.0f} MB"
        )
    if missing:
        print(f"missing: {', '.join(missing)}")
    return {"rows": rows, "missing": missing, "ceilings": ceiling, "flops_a_step": flops}


def present(builders: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Returns the names of the peers of `builders` that can be measured here, and of those that are not installed."""
    on_cpu, torch = jax.default_backend() == "cpu", importlib.util.find_spec("torch")
    peers = [name for name in list(builders)[1:] if on_cpu or not name.endswith(KEEPING)]
    missing = [name for name in peers if name.startswith("PyTorch") and not torch]
    return [name for name in peers if name not in missing], missing


def contenders(what: str, config: Any, clips: Clips) -> dict[str, Callable[[], peers.Steps]]:
    """Returns, by name, functions that build the training steps; ours first."""
    if what == "gru":
        builders = {
            "audiojax": lambda: audiojax_steps(config, **_sizes(clips)),
            "PyTorch, packed nn.GRU": lambda: peers.torch_gru(config, clips.rate_hz),
        }
    else:
        half = config.copy_and_resolve_references()
        half.model.dtype = "bfloat16"
        builders = {
            "audiojax": lambda: audiojax_steps(config, **_sizes(clips)),
            "audiojax, bfloat16": lambda: audiojax_steps(half, **_sizes(clips)),
            "plain Flax": lambda: peers.flax_audionet(config),
            "PyTorch": lambda: peers.torch_audionet(config),
            "PyTorch, torch.compile": lambda: peers.torch_audionet(config, compiled=True),
            "PyTorch, channels last": lambda: peers.torch_audionet(config, channels_last=True),
            "PyTorch, channels last, bfloat16": lambda: peers.torch_audionet(config, channels_last=True, half=True),
            "PyTorch, all three": lambda: peers.torch_audionet(config, channels_last=True, half=True, compiled=True),
        }
    peers_too = {f"{name}{KEEPING}": make for name, make in builders.items() if not name.startswith("audiojax")}
    return builders | peers_too


def _sizes(clips: Clips) -> dict[str, int]:
    return {"num_labels": len(clips.label_names), "rate_hz": clips.rate_hz}


def _assembled(config: Any, num_labels: int, rate_hz: int) -> Assembled:
    quiet = config.copy_and_resolve_references()
    quiet.augment = configs.base(configs.parse_arg("")).augment
    return assemble(quiet, num_labels=num_labels, rate_hz=rate_hz, num_steps=1000)


def audiojax_steps(config: Any, num_labels: int, rate_hz: int) -> peers.Steps:
    """Returns a function that runs training steps on a list of batches, as the training loop does."""
    _, state, _, step, _ = _assembled(config, num_labels, rate_hz)
    key = jax.random.key(0)

    def steps(step_batches: list[Batch]) -> None:
        nonlocal state
        for batch in step_batches:
            state, _ = step(state, batch, key)
        jax.block_until_ready(state)

    return steps


def _step_flops(config: Any, clips: Clips, batch: Batch) -> float:
    """Returns the FLOPs of a step as XLA counts them; it counts a loop's body once, so not for recurrent networks."""
    _, state, _, step, _ = _assembled(config, **_sizes(clips))
    analysis = step.lower(state, batch, jax.random.key(0)).compile().cost_analysis()
    return float(analysis["flops"])


def data(config: Any) -> dict:
    """Measures clips per second from the memory-mapped file to batches, and the memory used for it."""
    clips, shape = loading.load_clips(config), configs.batch_shape(config)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in (30_000, 300_000):
            many = _repeated(clips, number, Path(folder))
            epochs = batches.Epochs(many, np.arange(number), **shape, seed=0)
            before, start, num_batches = _own_bytes(), time.perf_counter(), min(epochs.num_steps, 300)
            for _ in batches.prefetch(epochs(0, num_batches)):
                pass
            rate = num_batches * config.train.batch_size / (time.perf_counter() - start)
            grown = _own_bytes() - before
            found[str(number)] = {"clips_per_second": rate, "grown_bytes": grown}
            print(f"{number:>9,} clips: {rate:>9,.0f} clips/s, memory grown by {grown / 1e6:.1f} MB")
    return found


def _repeated(clips: Clips, number: int, folder: Path) -> Clips:
    """Returns `number` memory-mapped clips: those of `clips`, repeated."""
    which = np.arange(number) % len(clips)
    path, offsets = folder / f"{number}.npy", np.concatenate([[0], np.cumsum(clips.length[which])])
    samples = np.lib.format.open_memmap(path, "w+", np.int16, (int(offsets[-1]),))
    for i, clip in enumerate(which):
        samples[offsets[i] : offsets[i + 1]] = clips[clip]
    samples.flush()
    del samples
    fields = {name: getattr(clips, name)[which] for name in ("label", "speaker", "take")}
    mapped = np.load(path, mmap_mode="r")
    return dataclasses.replace(clips, samples=mapped, offsets=offsets, path=("",) * number, **fields)


def stream(config: Any) -> dict:
    """Measures the latency of one hop of sound."""
    model = models.build(**config.model, num_labels=10, rate_hz=config.data.rate_hz)
    sound = np.random.default_rng(0).integers(-9000, 9000, config.data.rate_hz).astype(np.int16)
    variables = jax.jit(model.init)(jax.random.key(0), sound[None], np.asarray([len(sound)], np.int32))
    logit_stream = Stream(model, variables)
    hops = sound[: len(sound) // model.hop_samples * model.hop_samples].reshape(-1, model.hop_samples)
    seconds = []
    for _ in range(20):
        for hop in hops:
            start = time.perf_counter()
            logit_stream.feed(hop)
            seconds.append(time.perf_counter() - start)
    median, late = np.percentile(seconds[len(hops) :], [50, 99])
    real_time = model.hop_samples / config.data.rate_hz / median
    print(f"a hop of {1e3 * model.hop_samples / config.data.rate_hz:g} ms: median {1e6 * median:.0f} us, ", end="")
    print(f"99th percentile {1e6 * late:.0f} us, {real_time:.0f} times real time")
    return {"median_seconds": float(median), "percentile_99_seconds": float(late), "times_real_time": float(real_time)}


def predict(config: Any) -> dict:
    """Measures files per second from path to prediction, and clips per second of the forward pass alone."""
    clips, number = loading.load_clips(config), 1000
    assembled = _assembled(config, **_sizes(clips))
    variables = jax.device_put(assembled.state.variables)
    run = Trained(config, {"source": clips.source, "label_names": clips.label_names}, assembled.model, variables, 0)
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{index}.wav" for index in range(number)]
        for index, file in enumerate(files):
            soundfile.write(file, clips[index % len(clips)], clips.rate_hz)
        some = np.arange(number) % len(clips)
        shape = configs.batch_shape(config)
        step_batches = list(batches.evaluation(clips, some[batches.by_length(clips, some)], **shape))
        seconds = alternate(
            {
                "predict": lambda: list(classify(run, files)),
                "forward": lambda: [run.logits(batch["audio"], batch["length"]) for batch in step_batches],
            }
        )
    rates = {name: number / of for name, of in seconds.items()}
    share = rates["predict"] / rates["forward"]
    print(f"{config.model.name}: {rates['predict']:,.0f} files/s, {share:.0%} of the bare forward pass's clips/s")
    return rates | {"share": share}


def start(config: Any, argv: list[str]) -> dict:
    """Measures the seconds of whole processes: to the first logged step on a warm cache, and for --help."""
    loading.load_clips(config)
    python = [sys.executable, "-m", "audiojax.main"]

    def first_step() -> None:
        with tempfile.TemporaryDirectory() as folder:
            keys = ["--config.train.log_every_steps=1", "--config.wandb.mode=disabled", f"--workdir={folder}/run"]
            process = subprocess.Popen([*python, *argv, *keys], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            rows = Path(folder) / "run" / "metrics.jsonl"
            while process.poll() is None and not (rows.exists() and rows.stat().st_size):
                time.sleep(0.02)
            process.kill()
            process.wait()

    found = alternate(
        {"first step": first_step, "help": lambda: subprocess.run([*python, "--help"], stdout=subprocess.DEVNULL)},
        num_rounds=5,
    )
    for name, seconds in found.items():
        print(f"{name:<12}{seconds:6.2f} s")
    return found


def _own_bytes() -> int:
    """Returns the memory of this process without its memory-mapped files."""
    of = psutil.Process().memory_info()
    return of.rss - getattr(of, "shared", 0)


def _shown(ceiling: dict[str, float]) -> str:
    return (
        f"{ceiling['float32_flops'] / 1e9:.0f} GFLOP/s in float32 and {ceiling['bfloat16_flops'] / 1e9:.0f} in "
        f"bfloat16 (XLA's matmul), {ceiling['copy_bytes'] / 1e9:.1f} GB/s copied"
    )


def main(argv: list[str]) -> None:
    """Runs one benchmark, prints its table, then its JSON object."""
    parser = cli.parser("experiments.benchmarks.compare", __doc__ or "")
    parser.add_argument("what", choices=DEFAULTS)
    parser.add_argument(
        "--serve", default="", help="run one contender, a step for each line of stdin (used by the benchmark itself)"
    )
    parser.add_argument("--only", default="", help="cnn, gru: measure this peer alone")
    what = next((word for word in argv if word in DEFAULTS), "")
    if what and not any(word.startswith("--config") for word in argv):
        argv = [*argv, *DEFAULTS[what]]
    args, config = cli.parse_with_config(parser, argv)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # contenders share an accelerator's memory
    if not args.serve or args.serve.startswith("audiojax"):
        cli.setup_jax()
    elif args.serve.endswith(KEEPING):
        cli.keep_memory()
    flags = [word for word in argv if word != args.what]
    found = {
        "cnn": lambda: training("cnn", config, argv, args.serve, args.only),
        "gru": lambda: training("gru", config, argv, args.serve, args.only),
        "data": lambda: data(config),
        "stream": lambda: stream(config),
        "predict": lambda: predict(config),
        "start": lambda: start(config, flags),
    }[args.what]()
    if not args.serve:
        print(json.dumps({args.what: found, "environment": environment.describe(1)}))


if __name__ == "__main__":
    cli.run(main)
