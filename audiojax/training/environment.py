"""Describes the environment of a run: revision of the code, versions of libraries, devices."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

LIBRARIES = ("audiojax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "soundfile", "soxr")


def describe(num_devices: int) -> dict[str, Any]:
    """Returns what a run was computed with, for config.json: revision of the code, versions, platform and devices.

    The revision is that of git; it ends in "-dirty" if files differ from it, and is None if git does not track this
    file. `num_devices` is the number of devices that share each batch.
    """
    return {
        "revision": _revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{num_devices} x {jax.devices()[0].device_kind}",
        "versions": {name: version(name) for name in LIBRARIES},
    }


def version(name: str) -> str | None:
    """Returns the version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Returns the revision of the repository that tracks this file; the environment may be inside another one."""
    here = Path(__file__).resolve()
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
