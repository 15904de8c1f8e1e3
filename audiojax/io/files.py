"""Atomic writing of files and folders, and locking of folders."""

import contextlib
import errno
import glob
import json
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import filelock

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

from audiojax.errors import InputError

MARKER = ".audiojax.json"  # in each folder that `whole_folder` wrote: the list of its files


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises ValueError if it is not JSON, and OSError if it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def write_text(path: Path, text: str) -> None:
    """Replaces a file atomically: a reader finds either the old or the new text."""
    partial = _partial(path)
    try:
        write_bytes(partial, text.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to a file; an OSError, such as for a full disk, has the name of the file."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def check_room(folder: Path, num_bytes: int) -> None:
    """Raises OSError if the disk of `folder` has no room for `num_bytes`, or the file size limit is smaller."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
    room = min([shutil.disk_usage(folder).free, *([limit] if limit >= 0 else [])])
    if room < num_bytes:
        raise OSError(errno.ENOSPC, f"{num_bytes / 1e6:,.1f} MB are needed, {room / 1e6:,.1f} MB are free", str(folder))


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Locks `folder`, which is created if needed, during a `with` block. Raises InputError if it is locked already.

    The lock is one of the operating system, which releases it when the process ends for any reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "lock", timeout=0.2):  # longer than the lock of `in_use` lasts
            yield
    except filelock.Timeout:
        raise InputError(f"{folder} is in use by another process; wait for it to end, or choose another.") from None


def in_use(folder: Path) -> bool:
    """Returns whether a process has locked `folder` by `only_process`; True if that cannot be determined."""
    lock = folder / "lock"
    try:
        if lock.exists():
            with filelock.FileLock(lock, timeout=0):
                return False
    except OSError:  # Timeout is a subclass
        return True
    return False


@contextlib.contextmanager
def whole_folder(where: Path, known: Collection[str] = ()) -> Iterator[Path]:
    """Provides an empty folder, which is renamed to `where` when the block succeeds and is deleted otherwise.

    An existing folder is replaced; processes that have its files open or memory-mapped can still read them. If another
    process creates `where` while the block runs, that folder is kept. Incomplete folders of killed processes, which
    have an unlocked lock file, are deleted first.

    An existing folder is replaced only if audiojax has written all its files: each is listed in the folder's file
    MARKER, which an earlier call wrote, or is in `known`, for folders without that file. Otherwise InputError is
    raised.
    """
    where = where.resolve()  # a symbolic link stays, and its target is replaced
    _check_replaceable(where, known)
    where.parent.mkdir(parents=True, exist_ok=True)
    for leftover in where.parent.glob(f"{glob.escape(where.name)}.partial-*.lock"):
        if not re.search(r"\.partial-[0-9a-f]{12}\.lock$", leftover.name):
            continue  # not a name of this function
        with (
            contextlib.suppress(OSError),
            filelock.FileLock(leftover, timeout=0),
        ):  # raises Timeout, an OSError, if its process is alive
            _clear(leftover)
    partial, before = _partial(where), identity(where)
    lock = partial.with_name(f"{partial.name}.lock")
    with filelock.FileLock(lock):
        try:
            partial.mkdir()
            yield partial
            marker = {"made_by": "audiojax", "files": sorted(_content(partial))}
            (partial / MARKER).write_text(json.dumps(marker) + "\n")
            now = identity(where)
            if before and now and now[0] == before[0]:  # the same folder, which may have new files
                _check_replaceable(where, known)
            if before and now == before:
                with contextlib.suppress(FileNotFoundError):  # another process has just done so
                    where.rename(f"{partial}.stale")
            try:
                partial.rename(where)
            except OSError:
                if not where.exists():
                    raise
        finally:
            _clear(lock)


def _check_replaceable(where: Path, known: Collection[str]) -> None:
    """Raises InputError if `where` has anything that `whole_folder` did not write."""
    fault, before, now = "", None, identity(where)
    while now != before:  # again if another process has replaced the folder meanwhile
        before = now
        fault = _fault(where, known)
        now = identity(where)
    if now and fault:
        raise InputError(fault)


def _fault(where: Path, known: Collection[str]) -> str:
    """Returns why `where` cannot be replaced, or nothing."""
    if where.exists() and not where.is_dir():
        return f"{where} is a file, but a folder has to be written; give another path, or move it away."
    try:
        foreign = _content(where) - set(known) - _listed(where)
    except FileNotFoundError:
        return ""
    if not foreign:
        return ""
    what = f"{min(foreign)}{f' and {len(foreign) - 1:,} more' if len(foreign) > 1 else ''}"
    return (
        f"{where} has {what}, which audiojax did not write, and is not replaced; give another folder, or move its "
        "content away."
    )


def _content(folder: Path) -> set[str]:
    """Returns the relative paths of everything in `folder`; symbolic links are not followed."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _listed(folder: Path) -> set[str]:
    """Returns the files that `whole_folder` wrote into `folder`, with its marker; none without a valid marker."""
    try:
        marker = read_json(folder / MARKER)
        return {MARKER, *marker["files"]} if marker["made_by"] == "audiojax" else set()
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _partial(path: Path) -> Path:
    """Returns a unique name beside `path`, unique also among containers and threads."""
    return path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:12]}")


def identity(folder: Path) -> tuple[int, int] | None:
    """Returns (inode, change time in ns) of a folder, to tell whether it was replaced or changed; None if absent."""
    with contextlib.suppress(FileNotFoundError):
        stat = folder.stat()
        return stat.st_ino, stat.st_ctime_ns
    return None


def _clear(lock: Path) -> None:
    """Deletes the folders that `lock` protects, then the lock file."""
    for ending in ("", ".stale"):
        shutil.rmtree(f"{lock.with_suffix('')}{ending}", ignore_errors=True)
    with contextlib.suppress(OSError):  # on Windows, releasing it has deleted it
        lock.unlink()
