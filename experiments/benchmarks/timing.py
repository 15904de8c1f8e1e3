"""Timing of several contenders against each other: in turn, by medians, each in a process of its own; and records."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.io.files import write_text
from audiojax.training import environment

NUM_ROUNDS = 7


def alternate(contenders: Mapping[str, Callable[[], Any]], num_rounds: int = NUM_ROUNDS) -> dict[str, float]:
    """Returns the median seconds of each contender; all run once in every round, and the first round is discarded."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for counted in range(num_rounds + 1):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(of)) for name, of in seconds.items()}


class Contender:
    """A training step in a process of its own, with its own threads and allocator settings."""

    def __init__(self, argv: list[str], name: str):
        command = [sys.executable, "-m", "experiments.benchmarks.compare", *argv, f"--serve={name}"]
        fresh = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=fresh)
        self.first_step_seconds = float(self._answer())

    def __call__(self) -> None:
        """Runs one training step on each batch."""
        print(file=self._process.stdin, flush=True)
        self._answer()

    def end(self) -> int:
        """Ends the process and returns its peak memory in bytes."""
        self._process.stdin.close()  # type: ignore[union-attr]
        return int(self._answer())

    def _answer(self) -> str:
        if not (line := self._process.stdout.readline()):  # type: ignore[union-attr]
            raise InputError("a contender failed; its own message is above.")
        return line


def serve(make: Callable[[], Callable[[list[Batch]], None]], step_batches: list[Batch]) -> None:
    """Runs in the process of a `Contender`: the steps that `make` returns, once for each line of stdin."""
    start = time.perf_counter()
    steps = make()
    steps(step_batches[:1])
    print(time.perf_counter() - start, flush=True)
    for _ in sys.stdin:
        steps(step_batches)
        print("done", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


def share_memory() -> None:
    """Lets jax take an accelerator's memory as it needs it, because other processes or PyTorch compute there too."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the flag `--out`, the file for `write_record`."""
    parser.add_argument("--out", type=Path, help="file for the results and a description of the machine, as JSON")


def write_record(out: Path | None, content: Mapping[str, Any], num_devices: int = 1) -> None:
    """Writes `content` and a description of the machine and the libraries to `out`; does nothing if that is None."""
    if not out:
        return
    about = environment.describe(num_devices)
    if torch := environment.version("torch"):
        about["versions"]["torch"] = torch
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps({**content, "environment": about}, indent=1) + "\n")
