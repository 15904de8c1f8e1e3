"""Training runs in tests: started, stopped, killed and compared."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

from audiojax.training import preemption, runlog
from audiojax.training.checkpoint import restore_variables
from audiojax.training.preemption import Stopped


def same_numbers(tree, other) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), tree, other))


def rows_without_time(workdir) -> list[dict]:
    timed = ("seconds", "clips_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in runlog.read_rows(workdir)]


ROOT = Path(__file__).parent.parent


def start(tiny_args, workdir, **popen) -> subprocess.Popen:
    command = [sys.executable, "-m", "audiojax.main", *tiny_args, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)


def wait_for(condition, seconds=120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def same_run(workdir, other) -> bool:
    for which in ("last", "best"):
        ours, theirs = restore_variables(workdir, which), restore_variables(other, which)
        if ours[1] != theirs[1] or not same_numbers(ours[0], theirs[0]):
            return False
    return rows_without_time(workdir) == rows_without_time(other)


def stop_at(call_number: int, monkeypatch) -> None:
    """Asks to stop when the guard is asked for its `call_number`th item."""
    calls = 0

    def guard(self, items):
        nonlocal calls
        for item in items:
            calls += 1
            if calls == call_number:
                self.signal_number = signal.SIGTERM
            if self.signal_number:
                raise Stopped("asked to stop", self.signal_number)
            yield item

    monkeypatch.setattr(preemption.Interrupt, "guard", guard)
