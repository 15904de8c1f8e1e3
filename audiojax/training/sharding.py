"""All of jax.sharding and jax.distributed: rows of a batch over all processes' devices, everything else on each."""

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
HEARTBEAT_SECONDS = 15  # without a sign of life, after which a process counts as dead
LOST = "another process of this run has ended or cannot be reached"
_RESTART = "start all of them again with the same commands, which continue from the last checkpoint."
# What jax and gloo say when that happens.
_LOST_ERRORS = re.compile(r"gloo|peer|socket|connection|coordination|heartbeat|UNAVAILABLE|DEADLINE_EXCEEDED", re.I)
# jax ends the process from C++ then, with a stack trace that no setting turns off. This passes on all of stderr but
# that: it keeps lines of the coordination service back until it is known what follows them.
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
_agreed: list[bool] = []  # not empty once all processes know that they leave


@contextlib.contextmanager
def connected(
    failed_alone: Callable[[], None], /, *, coordinator: str, num_processes: int, process_id: int
) -> Iterator[None]:
    """Joins the processes of a run, see `connect`, for the block. An error in one of them ends the others.

    Calls `failed_alone` where only this process fails: it should exit without jax's barrier, at which it would wait for
    the others; they end when they miss it.
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
    """Joins the processes of a run on several hosts, before anything else is asked of jax.

    Args:
        coordinator: HOST:PORT of the first process, where all others find it; "auto" where the scheduler's environment
            (Slurm, Open MPI, Kubernetes, Cloud TPU) tells it and the two numbers below; "" for a run of one process.
        num_processes: of the run.
        process_id: this one's number, from 0.

    Raises:
        InputError: the environment tells nothing, or the processes do not find each other within five minutes.
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
            f"config.mesh.coordinator is {coordinator!r}, and the processes do not come together "
            f"({str(error).strip().splitlines()[0]}); give HOST:PORT of the first one, num_processes and process_id."
        ) from None


def shorten_fatal_errors() -> None:
    """Sends this process's stderr through a filter that says `LOST` in the place of jax's stack trace."""
    command = [sys.executable, "-I", "-S", "-c", _FILTER, f"audiojax: {LOST}; {_RESTART}\n"]
    sys.stderr.flush()
    read, write = os.pipe()
    subprocess.Popen(command, stdin=read, stdout=subprocess.DEVNULL)
    os.dup2(write, 2)
    os.close(read)
    os.close(write)


def is_first() -> bool:
    """Whether this process is the one that speaks, logs and saves."""
    return jax.process_index() == 0


def make_mesh(num_devices: int | None = None) -> Mesh:
    """One axis, "data", over the first `num_devices` devices of all processes; all of them by default."""
    devices = jax.devices()[:num_devices]
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def check_divisible(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError, before anything compiles, where the devices cannot share a batch evenly."""
    if batch_size % mesh.size:
        raise InputError(
            f"config.train.batch_size is {batch_size}, which {mesh.size} devices cannot share evenly; "
            f"choose a multiple of {mesh.size}."
        )


def local_rows(batch_size: int) -> slice:
    """The rows of a batch that this process's devices hold, and which it has to read."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard_batch(batch: Batch, mesh: Mesh) -> Batch:
    """The batch on the devices, its rows dealt out along the "data" axis; `batch` holds this process's `local_rows`."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)


def replicate(tree: T, mesh: Mesh) -> T:
    """`tree`, as the first process has it, whole on every device of all of them."""
    tree = multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Around what may fail in one process alone: then all of them leave, instead of waiting for it."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if jax.process_count() > 1 and np.any(multihost_utils.process_allgather(np.asarray(failed))):
            _agreed.append(True)
            if not failed:
                raise InputError("another process of this run cannot begin, and says why.")


def gather(text: str) -> list[str]:
    """Returns the `text` of each process, in the order of their numbers."""
    if jax.process_count() == 1:
        return [text]
    content = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(len(content), np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(content)] = content
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(np.asarray(rows), sizes.tolist(), strict=True)]


def check_same(text: str, what: str) -> None:
    """Raises InputError, in all processes, where `text` is not the same in each; `what` says what that means."""
    if len(set(gather(text))) > 1:
        _agreed.append(True)
        raise InputError(f"{what} in one process of this run than in another; give all of them the same.")


def check_same_values(values: Mapping[str, Any]) -> None:
    """Raises InputError, in all processes, for the names whose JSON values are not the same in each."""
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
    """Whether all processes are to stop before `step`, since one of them was sent SIGTERM; always False for one
    process alone. To be asked at every step."""
    return multihost_utils.reached_preemption_sync_point(step)


def absent() -> Any:
    """What the other processes of a run have in the place of the first one's log and checkpoints: it does nothing."""
    return _Absent()


class _Absent:
    def __enter__(self) -> "_Absent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None
