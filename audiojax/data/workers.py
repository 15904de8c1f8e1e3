"""Processes that share work, and that leave when whoever started them is gone."""

import contextlib
import os
import signal
import threading

import loky
import psutil


def num_cores() -> int:
    """How many cores this process may use, which pinning or a container may have made fewer than the machine has."""
    return loky.cpu_count()


def pool(num_workers: int) -> loky.ProcessPoolExecutor:
    """An executor of `num_workers` processes. Ctrl-C stops them through their parent; SIGKILL of it ends them too.

    They are not forks, which may hang where jax runs threads, and do not import the program that starts them.
    """
    return loky.ProcessPoolExecutor(num_workers, initializer=_begin, initargs=(os.getpid(),))


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)
