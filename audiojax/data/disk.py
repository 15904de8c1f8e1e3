"""Files and folders that appear whole or not at all, and a folder that one process at a time may use."""

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

from audiojax.types import InputError


def write_text(path: Path, text: str) -> None:
    """Replaces `path`: whoever reads it finds the old text or the new."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_room(folder: Path, num_bytes: int) -> None:
    """Raises OSError where `num_bytes` do not fit beside what `folder` holds, or into one file of this process."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
    room = min([shutil.disk_usage(folder).free, *([limit] if limit >= 0 else [])])
    if room < num_bytes:
        raise OSError(
            errno.ENOSPC, f"{num_bytes / 1e6:,.1f} MB are to be written, {room / 1e6:,.1f} MB fit", str(folder)
        )


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Holds `folder`, made if need be, for this process; raises InputError where another one holds it.

    The lock is the operating system's: it ends with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "lock", timeout=0):
            yield
    except filelock.Timeout:
        raise InputError(f"{folder} is in use by another process; wait for it to end, or choose another.") from None


@contextlib.contextmanager
def whole_folder(where: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `where` when the block ends well, and is deleted otherwise.

    A folder that was there is replaced; who has its files open or memory-mapped keeps reading them. What killed
    processes of this host left half filled is deleted first.
    """
    where.parent.mkdir(parents=True, exist_ok=True)
    host = platform.node()
    for leftover in where.parent.glob(f"{where.name}.*partial-*"):
        owner, _, pid = leftover.name.rpartition("partial-")[2].rpartition("-")
        if owner == host and not _alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)
    partial = where.with_name(f"{where.name}.partial-{host}-{os.getpid()}")
    stale = where.with_name(f"{where.name}.stale.partial-{host}-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _replace(where, partial, stale)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def _replace(where: Path, partial: Path, stale: Path) -> None:
    """Puts `partial` in the place of `where`, though another process may do the same at this moment."""
    for attempt in range(100):
        with contextlib.suppress(FileNotFoundError):
            where.rename(stale)
        try:
            partial.rename(where)
            return
        except OSError:
            if attempt == 99:
                raise
            shutil.rmtree(stale, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
