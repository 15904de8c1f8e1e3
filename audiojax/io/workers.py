"""Pools of worker processes that end with their parent process."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

import loky
import psutil

from audiojax.errors import InputError

_FEEDER_SECONDS = 5.0  # to wait at most for a thread that ends in milliseconds, unless another pool still needs it


def num_cores() -> int:
    """Returns the number of cores this process may use, with CPU affinity and container limits applied."""
    return loky.cpu_count()


@contextlib.contextmanager
def pool(num_workers: int) -> Iterator[loky.ProcessPoolExecutor]:
    """Provides an executor of `num_workers` processes, which end with the block.

    The processes are not forked, because forking may hang with the threads of jax, and do not import the main program.
    They end with their parent, also on Ctrl-C and SIGKILL. Raises InputError if one of them is killed.
    """
    earlier = set(threading.enumerate())
    executor = loky.ProcessPoolExecutor(num_workers, initializer=_begin, initargs=(os.getpid(),))
    try:
        yield executor
        executor.shutdown()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, most often for lack of memory; free some, and run the command again."
        ) from None
    finally:
        executor.shutdown(kill_workers=True)
        _join_feeders(earlier)


def _join_feeders(earlier: set[threading.Thread]) -> None:
    """Waits for the threads that fill the queues of a pool, which `shutdown` does not.

    If the process ended while such a thread releases its semaphores, loky would print a warning that they leaked.
    """
    for thread in set(threading.enumerate()) - earlier:
        if thread.name == "QueueFeederThread":
            thread.join(_FEEDER_SECONDS)


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)
