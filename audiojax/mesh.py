"""All of jax.sharding: rows of a batch over the devices, everything else on each of them."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from audiojax.types import Batch, InputError

__all__ = ["Mesh", "Sharding", "check_divisible", "make_mesh", "replicated", "shard_batch"]


def make_mesh(num_devices: int | None = None) -> Mesh:
    """One axis, "data", over the first `num_devices` visible devices; all of them by default."""
    devices = jax.devices()[:num_devices]
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def check_divisible(batch_size: int, mesh: Mesh) -> None:
    """Raises InputError, before anything compiles, where the devices cannot share a batch evenly."""
    if batch_size % mesh.size:
        raise InputError(
            f"config.train.batch_size is {batch_size}, which {mesh.size} devices cannot share evenly; "
            f"choose a multiple of {mesh.size}."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of parameters and everything else that each device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def shard_batch(batch: Batch, mesh: Mesh) -> Batch:
    """The batch on the devices, its rows dealt out along the "data" axis."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
