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
audiojax.
"""

import dataclasses
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import soundfile

from audiojax import cli, models
from audiojax import config as configs
from audiojax.data import batches, loading
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.predict import classify
from audiojax.streaming.logit_stream import Stream
from experiments.benchmarks import steps
from experiments.benchmarks.timing import add_out, alternate, share_memory, write_record

DEFAULTS = {
    "cnn": ["--config=configs/cnn.py", "--config.train.batch_size=100"],
    "gru": ["--config=configs/gru.py:recipe=plain"],
    "data": ["--config=configs/cnn.py", "--config.train.batch_size=100"],
    "stream": ["--config=configs/gru.py:recipe=plain"],
    "predict": ["--config=configs/cnn.py", "--config.train.batch_size=100"],
    "start": ["--config=configs/cnn.py"],
}


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
    assembled = steps.assembled(config, **steps.sizes(clips))
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

            def logged() -> bool:
                return rows.exists() and rows.stat().st_size > 0

            while not logged() and process.poll() is None:
                time.sleep(0.02)
            if not logged():
                raise InputError("python -m audiojax.main ended before its first step; run it alone to read why.")
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


def main(argv: list[str]) -> None:
    """Runs one benchmark, prints its table, and writes it to `--out`."""
    parser = cli.parser("experiments.benchmarks.compare", __doc__ or "")
    parser.add_argument("what", choices=DEFAULTS)
    parser.add_argument(
        "--serve", default="", help="run one contender, a step for each line of stdin (used by the benchmark itself)"
    )
    parser.add_argument("--only", default="", help="cnn, gru: measure this peer alone")
    add_out(parser)
    what = next((word for word in argv if word in DEFAULTS), "")
    if what and not any(word.startswith("--config") for word in argv):
        argv = [*argv, *DEFAULTS[what]]
    args, config = cli.parse_with_config(parser, argv)
    share_memory()
    if not args.serve or args.serve.startswith("audiojax"):
        cli.setup_jax()
    elif args.serve.endswith(steps.KEEPING):
        cli.keep_memory()
    flags = [f"--config={args.config}", *(word for word in argv if re.match(r"--(no)?config\.", word))]
    found = {
        "cnn": lambda: steps.compare("cnn", config, argv, args.serve, args.only),
        "gru": lambda: steps.compare("gru", config, argv, args.serve, args.only),
        "data": lambda: data(config),
        "stream": lambda: stream(config),
        "predict": lambda: predict(config),
        "start": lambda: start(config, flags),
    }[args.what]()
    if not args.serve:
        write_record(args.out, {args.what: found})


if __name__ == "__main__":
    cli.run(main)
