"""Kills training runs at random times, resumes them, and compares the results with those of an uninterrupted run.

  python -m experiments.studies.kill_runs --runs 50

Each run synthesises its data (a hundred clips) and writes its own cache and checkpoints, in five epochs of three steps.
It receives SIGKILL up to three times, at times sampled uniformly from the duration of an uninterrupted run, and is
started again by the same command. The parameters (last and best) and every row of metrics.jsonl except its times must
then be the same, bit for bit.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from audiojax.training import runlog
from audiojax.training.checkpoint import restore_variables


def command(folder: Path) -> list[str]:
    """Returns the command line of a run in `folder`."""
    keys = {
        "data.cache": folder / "cache",
        "train.num_epochs": 5,
        "train.length_samples": 2000,
        "wandb.mode": "offline",
    }
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    return [
        sys.executable, "-m", "audiojax.main", "--config=configs/cnn.py:runlocal", *flags, f"--workdir={folder / 'run'}"
    ]  # fmt: skip


def where(folder: Path) -> str:
    """Returns the stage in which a run was killed."""
    checkpoints = list((folder / "run" / "checkpoints").glob("*"))
    if (folder / "run" / "summary.json").exists():
        return "finished"
    if any(".orbax-checkpoint-tmp" in path.name for path in checkpoints):
        return "in a save"
    if checkpoints:
        return "between saves"
    if (folder / "run" / "config.json").exists():
        return "before the first save"
    return "in the cache" if list((folder / "cache").glob("*.partial-*")) else "starting"


def outcome(workdir: Path) -> tuple:
    """Returns what has to be equal: parameters, rows of metrics without times, and the summary."""
    rows = [
        {k: v for k, v in row.items() if k not in ("seconds", "clips_per_second")} for row in runlog.read_rows(workdir)
    ]
    summary = json.loads((workdir / "summary.json").read_text())
    return [restore_variables(workdir, which) for which in ("last", "best")], rows, summary


def same(ours: tuple, theirs: tuple) -> bool:
    """Returns whether two outcomes are equal bit for bit."""
    equal = jax.tree.map(lambda a, b: np.array_equal(a, b), ours[0], theirs[0])
    return jax.tree.all(equal) and ours[1:] == theirs[1:]


def main() -> int:
    """Runs the comparison, prints the counts, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    moments: Counter[str] = Counter()
    num_equal = 0
    with tempfile.TemporaryDirectory() as top:
        unbroken = Path(top) / "unbroken"
        for _ in range(2):  # the second run finds everything compiled
            subprocess.run(["rm", "-rf", str(unbroken)], check=True)
            start = time.monotonic()
            subprocess.run(command(unbroken), check=True, stdout=subprocess.DEVNULL)
            seconds = time.monotonic() - start
        expected = outcome(unbroken / "run")
        for number in range(args.runs):
            folder = Path(top) / f"run-{number}"
            for _ in range(rng.integers(1, 4)):
                process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    process.wait(rng.uniform(0, seconds))
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    moments[where(folder)] += 1
            ended = subprocess.run(command(folder), capture_output=True, text=True)
            equal = ended.returncode == 0 and same(outcome(folder / "run"), expected)
            num_equal += equal
            if not equal:
                print(f"run {number} differs:\n{ended.stdout}{ended.stderr}")
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    kills = ", ".join(f"{n} {moment}" for moment, n in moments.most_common())
    print(f"{num_equal} of {args.runs} runs equal the uninterrupted one; {sum(moments.values())} kills: {kills}")
    return 0 if num_equal == args.runs else 1


if __name__ == "__main__":
    sys.exit(main())
