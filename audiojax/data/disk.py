"""Files and folders that appear whole or not at all, and a folder that one process at a time may use."""

import contextlib
import errno
import glob
import shutil
import uuid
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
    partial = _partial(path)
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
        with filelock.FileLock(folder / "lock", timeout=0.2):  # longer than `in_use` holds it
            yield
    except filelock.Timeout:
        raise InputError(f"{folder} is in use by another process; wait for it to end, or choose another.") from None


def in_use(folder: Path) -> bool:
    """Whether a process holds `folder` by `only_process`; where that cannot be found out, whether one may."""
    lock = folder / "lock"
    try:
        if lock.exists():
            with filelock.FileLock(lock, timeout=0):
                return False
    except OSError:  # of which Timeout is one
        return True
    return False


@contextlib.contextmanager
def whole_folder(where: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `where` when the block ends well, and is deleted otherwise.

    A folder that was there is replaced; who has its files open or memory-mapped keeps reading them. One that another
    process puts there while the block runs is kept instead of this one: of two first makers the first is believed. What
    killed processes left half filled is deleted before: its lock, beside it, ended with them.
    """
    where.parent.mkdir(parents=True, exist_ok=True)
    for leftover in where.parent.glob(f"{glob.escape(where.name)}.partial-*.lock"):
        with contextlib.suppress(OSError), filelock.FileLock(leftover, timeout=0):  # Timeout is an OSError: it lives
            _clear(leftover)
    partial, before = _partial(where), identity(where)
    lock = partial.with_name(f"{partial.name}.lock")
    with filelock.FileLock(lock):
        try:
            partial.mkdir()
            yield partial
            if before and identity(where) == before:
                with contextlib.suppress(FileNotFoundError):  # another process did it at this moment
                    where.rename(f"{partial}.stale")
            try:
                partial.rename(where)
            except OSError:
                if not where.exists():
                    raise
        finally:
            _clear(lock)


def _partial(path: Path) -> Path:
    """A name beside `path` that nobody else takes, in no other container or thread either."""
    return path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:12]}")


def identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one of its name; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        stat = folder.stat()
        return stat.st_ino, stat.st_ctime_ns
    return None


def _clear(lock: Path) -> None:
    """Deletes what lies beside `lock` under its name, and then the lock itself."""
    for ending in ("", ".stale"):
        shutil.rmtree(f"{lock.with_suffix('')}{ending}", ignore_errors=True)
    with contextlib.suppress(OSError):  # Windows deletes it with its release
        lock.unlink()
