"""A folder that appears whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_folder(where: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `where` when the block ends well, and is deleted otherwise.

    A folder that was there is replaced; who has its files open or memory-mapped keeps reading them. What killed
    processes left half filled is deleted first.
    """
    where.parent.mkdir(parents=True, exist_ok=True)
    for leftover in where.parent.glob(f"{where.name}.*partial-*"):
        if not _alive(int(leftover.name.rpartition("-")[2])):
            shutil.rmtree(leftover, ignore_errors=True)
    partial = where.with_name(f"{where.name}.partial-{os.getpid()}")
    stale = where.with_name(f"{where.name}.stale.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        with contextlib.suppress(FileNotFoundError):
            where.rename(stale)
        partial.rename(where)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(stale, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
