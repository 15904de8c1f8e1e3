"""All of jax.sharding and jax.distributed: rows of a batch over all processes' devices, everything else on each."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from audiojax.types import Batch, InputError

T = TypeVar("T")


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
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"config.mesh.coordinator is {coordinator!r}, and the processes do not come together "
            f"({str(error).strip().splitlines()[0]}); give HOST:PORT of the first one, num_processes and process_id."
        ) from None


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
        if jax.process_count() > 1 and np.any(multihost_utils.process_allgather(np.asarray(failed))) and not failed:
            raise InputError("another process of this run cannot begin, and says why.")


def check_same(text: str, what: str) -> None:
    """Raises InputError, in all processes, where `text` is not the same in each; `what` says what that means."""
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    if jax.process_count() > 1 and np.ptp(multihost_utils.process_allgather(digest), axis=0).any():
        raise InputError(f"{what} in one process of this run than in another; give all of them the same.")


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

    def __exit__(self, *_) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None
