"""Data parallelism over the devices of all processes: batches are sharded by row, everything else is replicated."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.sharding import Mesh as Mesh

from audiojax.data.clips import Batch
from audiojax.errors import InputError, one_line
from audiojax.training.preemption import Stopped

T = TypeVar("T")
HEARTBEAT_SECONDS = 15  # time without a heartbeat after which a process counts as dead
LOST = "another process of this run has ended or cannot be reached"
_RESTART = "start all of them again with the same commands, which continue from the last checkpoint."
# Messages of jax and gloo in that case.
_LOST_ERRORS = re.compile(r"gloo|peer|socket|connection|coordination|heartbeat|UNAVAILABLE|DEADLINE_EXCEEDED", re.I)
# jax then ends the process from C++ with a stack trace that cannot be disabled. This filter removes it from stderr: it
# holds lines of the coordination service back until the next lines show what they belong to.
_FILTER = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = []
for line in sys.stdin.buffer:
    if b"JAX distributed service detected fatal errors" in line:
        held = [sys.argv[1].encode()]
        break
    if held or b"coordination" in line:
        held.append(line)
    if not held or len(held) > 20:
        sys.stderr.buffer.write(b"".join(held) or line)
        held = []
    sys.stderr.buffer.flush()
sys.stderr.buffer.write(b"".join(held))
sys.stderr.buffer.flush()
for line in sys.stdin.buffer:
    pass
"""
_agreed: list[bool] = []  # not empty when all processes have agreed to exit


@contextlib.contextmanager
def connected(
    failed_alone: Callable[[], None], /, *, coordinator: str, num_processes: int, process_id: int
) -> Iterator[None]:
    """A context manager that connects the processes of a run on several hosts; an error in one ends all of them.

    The keyword arguments are those of `connect`. `failed_alone` is called if only this process fails. It should make
    the process exit without jax's shutdown barrier, which would wait for the others; they end when they miss the
    heartbeats of this one.
    """
    connect(coordinator=coordinator, num_processes=num_processes, process_id=process_id)
    try:
        yield
    except BaseException as error:
        if jax.process_count() > 1 and not _agreed and not isinstance(error, Stopped):
            failed_alone()
            if isinstance(error, jax.errors.JaxRuntimeError) and _LOST_ERRORS.search(str(error)):
                raise InputError(f"{LOST} ({one_line(error, 120)}); {_RESTART}") from None
        raise


def connect(*, coordinator: str, num_processes: int, process_id: int) -> None:
    """Connects the processes of a run on several hosts; call it before any other use of jax.

    Args:
        coordinator: HOST:PORT of the first process; "auto" to read it and the next two arguments from the environment
            of the scheduler (Slurm, Open MPI, Kubernetes, Cloud TPU); "" for a single process.
        num_processes: Number of processes.
        process_id: Number of this process, from 0.

    Raises:
        InputError: The environment does not have the settings, or the processes do not connect within five minutes.
    """
    if not coordinator:
        return
    shorten_fatal_errors()
    try:
        if coordinator == "auto":
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
        else:
            jax.distributed.initialize(
                coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
            )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"config.mesh.coordinator is {coordinator!r}, and the processes do not connect "
            f"({str(error).strip().splitlines()[0]}); give HOST:PORT of the first one, num_processes and process_id."
        ) from None


def shorten_fatal_errors() -> None:
    """Filters the stderr of this process: if another process is lost, a sentence replaces the stack trace of jax."""
    command = [sys.executable, "-I", "-S", "-c", _FILTER, f"audiojax: {LOST}; {_RESTART}\n"]
    sys.stderr.flush()
    read, write = os.pipe()
    subprocess.Popen(command, stdin=read, stdout=subprocess.DEVNULL)
    os.dup2(write, 2)
    os.close(read)
    os.close(write)


def is_first() -> bool:
    """Returns whether this process is the one that prints, logs and saves."""
    return jax.process_index() == 0


def make_mesh(num_devices: int | None = None) -> Mesh:
    """Returns a mesh with one axis, "data", over the first `num_devices` devices of all processes, by default all."""
    devices = jax.devices()[:num_devices]
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def check_divisible(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError if the batch size is not a multiple of the number of devices."""
    if batch_size % mesh.size:
        raise InputError(
            f"config.train.batch_size is {batch_size}, which {mesh.size} devices cannot share evenly; "
            f"choose a multiple of {mesh.size}."
        )


def local_rows(batch_size: int) -> slice:
    """Returns the rows of each batch that this process reads: those on its own devices."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Returns a batch on the devices of `mesh`, sharded by row along the axis "data".

    If there are several processes, `batch` has only the rows of this one, see `local_rows`.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)


def replicate(tree: T, mesh: Mesh) -> T:
    """Returns a copy of a tree of arrays on every device of `mesh`; all processes get the `tree` of the first one."""
    tree = multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A context manager for a block that may fail in one process only, without leaving the others to wait for it.

    All processes meet at the end of the block. If it failed in one of them, the others raise InputError.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        if jax.process_count() > 1 and np.any(multihost_utils.process_allgather(np.asarray(failed))):
            _agreed.append(True)
            if not failed:
                raise InputError("another process of this run cannot start; see its own message.")


def gather(text: str) -> list[str]:
    """Returns the `text` that each process passed, in the order of their numbers; all processes must call it."""
    if jax.process_count() == 1:
        return [text]
    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(len(content), np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(np.asarray(rows), sizes.tolist(), strict=True)]


def check_same(text: str, what: str) -> None:
    """Raises InputError in all processes if they do not pass the same `text`.

    `what` begins the message and is followed by "in the processes of this run".
    """
    if len(set(gather(text))) > 1:
        _agreed.append(True)
        raise InputError(f"{what} in the processes of this run; give all of them the same.")


def check_same_values(values: Mapping[str, Any]) -> None:
    """Raises InputError in all processes if their `values` {name: value} differ as JSON; the message names those."""
    found = [json.loads(text) for text in gather(json.dumps(values, default=str))]
    differing = [
        f"{name} is {' and '.join(dict.fromkeys(json.dumps(of.get(name)) for of in found))}"
        for name in dict.fromkeys(name for of in found for name in of)
        if any(name not in of or of[name] != found[0].get(name) for of in found)
    ]
    if differing:
        _agreed.append(True)
        raise InputError(f"the processes of this run differ: {'; '.join(differing)}; give all of them the same.")


def preempted(step: int) -> bool:
    """Returns whether all processes have to stop before `step`, because one of them received SIGTERM.

    Every process has to call it at every step. It is always False for a single process.
    """
    return multihost_utils.reached_preemption_sync_point(step)


def absent() -> Any:
    """Returns an object whose methods do nothing and return None.

    It stands for the log and the checkpoints in processes other than the first, which alone writes them.
    """
    return _Absent()


class _Absent:
    def __enter__(self) -> "_Absent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None
