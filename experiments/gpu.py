"""Everything that a borrowed GPU has to say, in one call: steps against PyTorch, whole epochs, how busy the device is.

  python -m experiments.gpu --root AUDIOMNIST --out experiments/results/gpu.json

An epoch is the run's own, with augmentation and prefetching, told for 24,000 clips of 8,000 samples (AudioNet) or of
any length (GRU). Needs `pip install torch` for the peers. What fails is told, and the rest is measured.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from audiojax import cli, tasks
from audiojax.io.files import write_text
from audiojax.training import runlog

EPOCH_CLIPS = 24_000
STEPS = {  # of experiments.bench
    "cnn, batch 100": ["cnn", "--config=configs/cnn.py", "--config.train.batch_size=100"],
    "cnn, batch 1000": ["cnn", "--config=configs/cnn.py", "--config.train.batch_size=1000"],
    "gru, batch 100": ["gru", "--config=configs/gru.py", "--config.train.batch_size=100"],
}
HALF = "--config.model.dtype=bfloat16"
EPOCHS = {
    "cnn, bfloat16, batch 100": ("configs/cnn.py", [HALF, "--config.train.batch_size=100"]),
    "cnn, bfloat16, batch 1000": (
        "configs/cnn.py",
        [HALF, "--config.train.batch_size=1000"],
    ),
    "cnn, float32, batch 100": ("configs/cnn.py", ["--config.train.batch_size=100"]),
    "gru, batch 100": ("configs/gru.py", ["--config.train.batch_size=100"]),
    "gru, batch 1000": ("configs/gru.py", ["--config.train.batch_size=1000"]),
}


def epochs(config_file: str, flags: list[str], arg: str, root: str, num_epochs: int) -> dict:
    """Trains for `num_epochs` and one more under the profiler: seconds for EPOCH_CLIPS clips, the median of all but the
    first, and the share of the traced epoch in which the device works (None where the trace names no GPU)."""
    given = [f"--config={config_file}:{arg}", "--config.wandb.mode=disabled", *flags]
    given += [f"--config.data.root={root}"] * bool(root)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        for more in (0, 1):
            flag = f"--config.train.num_epochs={num_epochs + more}"
            _, config = cli.parse_with_config(cli.parser("experiments.gpu", ""), [*given, flag])
            if more:
                with jax.profiler.trace(folder):
                    tasks.train(config, workdir)
            else:
                tasks.train(config, workdir)
        rows = [row for row in runlog.read_rows(workdir) if "epoch" in row]
        [trace] = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    rate = float(np.median([row["clips_per_second"] for row in rows[1:-1]]))
    return {"clips_per_second": rate, "epoch_seconds": EPOCH_CLIPS / rate, "busy_share": busy_share(events)}


def busy_share(events: list[dict]) -> float | None:
    """Of a trace: the time in which at least one kernel runs on a GPU, over the time from the first to the last."""
    named = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"])
        for event in events
        if event.get("ph") == "X" and "GPU" in named.get(event["pid"], "")
    )
    return sum(end - start for start, end in _united(spans)) / (spans[-1][1] - spans[0][0]) if spans else None


def _united(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans in order of their start, with those that overlap made one."""
    united: list[tuple[float, float]] = []
    for start, end in spans:
        if united and start <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], end)
        else:
            united.append((start, end))
    return united


def main(argv: list[str]) -> None:
    parser = cli.parser("experiments.gpu", __doc__ or "")
    parser.add_argument("--arg", default="audiomnist,split=random", help="what stands behind the config's colon")
    parser.add_argument("--root", default="", help="where the data set lies")
    parser.add_argument("--num-epochs", type=int, default=4)
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    cli.setup_jax()
    found: dict[str, dict] = {"epochs": {}, "steps": {}}
    for name, (config_file, flags) in EPOCHS.items():
        if args.only in f"epoch {name}":
            found["epochs"][name] = of = epochs(config_file, flags, args.arg, args.root, args.num_epochs)
            print(f"{name}: {of}", flush=True)
            _keep(args.out, found)
    for name, flags in STEPS.items():
        if args.only in f"step {name}":
            said = subprocess.run(
                [sys.executable, "-m", "experiments.bench", *flags], stdout=subprocess.PIPE, text=True
            )
            print(said.stdout, flush=True)
            found["steps"][name] = json.loads(said.stdout.splitlines()[-1]) if not said.returncode else {"failed": True}
            _keep(args.out, found)


def _keep(out: Path | None, found: dict) -> None:
    if out:
        write_text(out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
