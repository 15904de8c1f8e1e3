"""Processes that share work, and that leave when whoever started them is gone."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import loky
import psutil

from audiojax.errors import InputError


def num_cores() -> int:
    """How many cores this process may use, which pinning or a container may have made fewer than the machine has."""
    return loky.cpu_count()


@contextlib.contextmanager
def pool(num_workers: int) -> Iterator[loky.ProcessPoolExecutor]:
    """An executor of `num_workers` processes, which are gone when the block ends, however it ends.

    They are not forks, which may hang where jax runs threads, and do not import the program that starts them. Ctrl-C
    ends them through their parent, and so does SIGKILL of it. Raises InputError where one of them is killed.
    """
    executor = loky.ProcessPoolExecutor(num_workers, initializer=_begin, initargs=(os.getpid(),))
    try:
        yield executor
        executor.shutdown()
    except BrokenProcessPool:
        raise InputError(
            "a process that helped was killed, most often for want of memory; make room, and run the command again."
        ) from None
    finally:
        executor.shutdown(kill_workers=True)


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)
