"""Files and folders that appear whole or not at all, and a folder that one process at a time may use."""

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

MARKER = ".audiojax.json"  # in each folder that `whole_folder` made: what it wrote there


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file. Raises ValueError for whatever is not JSON, and OSError as reading does."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def write_text(path: Path, text: str) -> None:
    """Replaces `path`: whoever reads it finds the old text or the new."""
    partial = _partial(path)
    try:
        write_bytes(partial, text.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file; the OSError of a full disk names it."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


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
def whole_folder(where: Path, known: Collection[str] = ()) -> Iterator[Path]:
    """An empty folder to fill, which becomes `where` when the block ends well, and is deleted otherwise.

    A folder that was there is replaced; who has its files open or memory-mapped keeps reading them. One that another
    process puts there while the block runs is kept instead of this one: of two first makers the first is believed. What
    killed processes left half filled is deleted before: its lock, beside it, ended with them.

    Nothing is replaced but an empty folder, or one that holds only what an earlier call wrote there, as its MARKER
    lists it, or what is in `known`: names that folders from before there were markers may hold. Raises InputError for
    any other.
    """
    where = where.resolve()  # a symbolic link stays, and what it points to is replaced
    _check_replaceable(where, known)
    where.parent.mkdir(parents=True, exist_ok=True)
    for leftover in where.parent.glob(f"{glob.escape(where.name)}.partial-*.lock"):
        if not re.search(r"\.partial-[0-9a-f]{12}\.lock$", leftover.name):
            continue  # not a name made here
        with contextlib.suppress(OSError), filelock.FileLock(leftover, timeout=0):  # Timeout is an OSError: it lives
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
            if before and now and now[0] == before[0]:  # the same folder, to which somebody may have added something
                _check_replaceable(where, known)
            if before and now == before:
                with contextlib.suppress(FileNotFoundError):  # another process did it at this moment
                    where.rename(f"{partial}.stale")
            try:
                partial.rename(where)
            except OSError:
                if not where.exists():
                    raise
        finally:
            _clear(lock)


def _check_replaceable(where: Path, known: Collection[str]) -> None:
    """Raises InputError where `where` holds anything that `whole_folder` did not write."""
    if where.exists() and not where.is_dir():
        raise InputError(f"{where} is a file, where a folder is to be written; give another path, or move it away.")
    content = _content(where)
    if foreign := content - set(known) - _listed(where):
        what = f"{min(foreign)}{f' and {len(foreign) - 1:,} more' if len(foreign) > 1 else ''}"
        raise InputError(
            f"{where} holds {what}, not written there by audiojax, and is not replaced; give another folder, or move "
            "what is in it away."
        )


def _content(folder: Path) -> set[str]:
    """The paths of all that `folder` holds, relative to it; symbolic links are not followed."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _listed(folder: Path) -> set[str]:
    """What `whole_folder` wrote into `folder`, its marker included; nothing where there is no whole marker."""
    try:
        marker = read_json(folder / MARKER)
        return {MARKER, *marker["files"]} if marker["made_by"] == "audiojax" else set()
    except (OSError, ValueError, LookupError, TypeError):
        return set()


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
