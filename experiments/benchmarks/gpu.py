"""Measures a GPU in one call: training steps against PyTorch, the speedrun, whole epochs and the device's utilisation.

  python -m experiments.benchmarks.gpu --root AUDIOMNIST --out experiments/results/gpu.json

An epoch includes augmentation and prefetching; its time is scaled to 24,000 clips of 8,000 samples (AudioNet) or of any
length (GRU, MelCNN). The speedrun is run where --arg and --root are those of AudioMNIST. PyTorch is measured if it is
installed (`pip install torch`). A comparison or a speedrun that fails is reported, and the others still run.
"""

import bisect
import gzip
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from audiojax import cli, tasks
from audiojax.training import runlog
from experiments.benchmarks.speedrun import RECIPES
from experiments.benchmarks.timing import add_out, share_memory, write_record

EPOCH_CLIPS = 24_000
STEPS = {  # of experiments.benchmarks.compare
    "cnn, batch 100": ["cnn", "--config=configs/cnn.py", "--config.train.batch_size=100"],
    "cnn, batch 1,000": ["cnn", "--config=configs/cnn.py", "--config.train.batch_size=1000"],
    # The convolutional recipe of configs/gru.py has no peer.
    "gru, batch 100": ["gru", "--config=configs/gru.py:recipe=plain", "--config.train.batch_size=100"],
}
HALF = "--config.model.dtype=bfloat16"
EPOCHS = {
    "cnn, bfloat16, batch 100": ("configs/cnn.py", [HALF, "--config.train.batch_size=100"]),
    "cnn, bfloat16, batch 1,000": (
        "configs/cnn.py",
        [HALF, "--config.train.batch_size=1000"],
    ),
    "cnn, float32, batch 100": ("configs/cnn.py", ["--config.train.batch_size=100"]),
    "gru, batch 100": ("configs/gru.py", ["--config.train.batch_size=100"]),
    "gru, bfloat16, batch 100": ("configs/gru.py", [HALF, "--config.train.batch_size=100"]),
    "gru, batch 1,000": ("configs/gru.py", ["--config.train.batch_size=1000"]),
    "melcnn, batch 100": ("configs/spectrogram.py", ["--config.train.batch_size=100"]),
    "melcnn, bfloat16, batch 100": ("configs/spectrogram.py", [HALF, "--config.train.batch_size=100"]),
}
SPEEDRUNS = {f"{target} %": ["--target", str(target), "--part", "test", "--seeds", "5"] for target in RECIPES}


def epochs(config_file: str, flags: list[str], arg: str, root: str, num_epochs: int) -> dict:
    """Trains for `num_epochs` epochs, and for one more under the profiler.

    Returns:
        The median throughput of all epochs but the first, the seconds for EPOCH_CLIPS clips; of the traced epoch the
        share in which the device is busy (None if the trace has no GPU), and how many steps are dispatched ahead.
    """
    given = [f"--config={config_file}:{arg}", "--config.wandb.mode=disabled", *flags]
    given += [f"--config.data.root={root}"] * bool(root)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        for more in (0, 1):
            flag = f"--config.train.num_epochs={num_epochs + more}"
            _, config = cli.parse_with_config(cli.parser("experiments.benchmarks.gpu", ""), [*given, flag])
            if more:
                options = jax.profiler.ProfileOptions()
                options.python_tracer_level = 0  # its events alone would fill the trace before the first step
                with jax.profiler.trace(folder, profiler_options=options):
                    tasks.train(config, workdir)
            else:
                tasks.train(config, workdir)
        rows = [row for row in runlog.read_rows(workdir) if "epoch" in row]
        [trace] = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    rate = float(np.median([row["clips_per_second"] for row in rows[1:-1]]))
    return {"clips_per_second": rate, "epoch_seconds": EPOCH_CLIPS / rate, "busy_share": busy_share(events)} | {
        "steps_ahead": steps_ahead(events)
    }


def busy_share(events: list[dict]) -> float | None:
    """Returns the share of a trace in which at least one kernel runs on a GPU, from the first kernel to the last."""
    named = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event.get("ph") == "X" and "GPU" in named.get(event["pid"], "")
    )
    return sum(end - start for start, end in _united(spans)) / (spans[-1][1] - spans[0][0]) if spans else None


def steps_ahead(events: list[dict[str, Any]]) -> float | None:
    """Returns the median number of training steps that are dispatched and not finished when a step has ended.

    None if the trace does not distinguish the operations of successive runs of the program.
    """
    spans = [event for event in events if event.get("ph") == "X"]
    dispatches = [(of["ts"], of["ts"] + of["dur"]) for of in spans if of["name"] == "PjitFunction(train_step)"]
    dispatched = [start for start, _ in _united(sorted(dispatches))]
    ends: dict[str, float] = {}
    for of in spans:
        arguments = of.get("args", {})
        if arguments.get("hlo_module") == "jit_train_step" and "run_id" in arguments:
            ends[arguments["run_id"]] = max(ends.get(arguments["run_id"], 0), of["ts"] + of["dur"])
    ahead = [bisect.bisect_right(dispatched, end) - number for number, end in enumerate(sorted(ends.values()), start=1)]
    return float(np.median(ahead)) if ahead else None


def _united(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns `spans`, which are sorted by start, with overlapping ones merged."""
    united: list[tuple[float, float]] = []
    for start, end in spans:
        if united and start <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], end)
        else:
            united.append((start, end))
    return united


def main(argv: list[str]) -> None:
    """Measures steps, speedruns and epochs, prints each result, and writes all of them to `--out`."""
    parser = cli.parser("experiments.benchmarks.gpu", __doc__ or "")
    parser.add_argument("--arg", default="audiomnist,split=random", help="the config's argument, after the colon")
    parser.add_argument("--root", default="", help="folder of the data set")
    parser.add_argument("--num-epochs", type=int, default=4)
    parser.add_argument("--only", default="", help="run only the measurements whose names contain this")
    add_out(parser)
    args = parser.parse_args(argv)
    share_memory()
    cli.setup_jax()
    found: dict[str, dict] = {"epochs": {}, "steps": {}, "speedruns": {}}
    peers = ["--peers"] * bool(importlib.util.find_spec("torch"))
    for name, flags in STEPS.items():
        if args.only in f"step {name}":
            found["steps"][name] = _record("compare", *flags)
            write_record(args.out, found, len(jax.devices()))
    for name, flags in SPEEDRUNS.items():
        if args.only in f"speedrun {name}" and args.root and args.arg.startswith("audiomnist"):
            found["speedruns"][name] = _record("speedrun", "--root", args.root, *flags, *peers)
            write_record(args.out, found, len(jax.devices()))
    for name, (config_file, flags) in EPOCHS.items():
        if args.only in f"epoch {name}":
            found["epochs"][name] = of = epochs(config_file, flags, args.arg, args.root, args.num_epochs)
            print(f"{name}: {of}", flush=True)
            write_record(args.out, found, len(jax.devices()))


def _record(name: str, *flags: str) -> dict:
    """Runs the benchmark `name` in a process of its own and returns its record."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "record.json"
        done = subprocess.run([sys.executable, "-m", f"experiments.benchmarks.{name}", *flags, "--out", str(out)])
        return {"failed": True} if done.returncode else json.loads(out.read_text())


if __name__ == "__main__":
    cli.run(main)
