"""Processes that share work, and that leave when whoever started them is gone."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor


def num_cores() -> int:
    """How many cores this process may use, which pinning may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool(num_workers: int) -> ProcessPoolExecutor:
    """An executor of `num_workers` processes. Ctrl-C stops them through their parent; SIGKILL of it ends them too."""
    context = multiprocessing.get_context("spawn")  # a fork of a process in which jax runs threads may hang
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
