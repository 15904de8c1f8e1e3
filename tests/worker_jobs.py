"""Jobs of worker processes in tests, in a module of their own: the workers import it, and with most others jax."""

import os
import signal
from pathlib import Path

from audiojax.io.files import whole_folder


def make_many(job: tuple[Path, int]) -> None:
    """Makes one folder again and again, with files that hold a number."""
    folder, number = job
    for _ in range(50):
        with whole_folder(folder) as partial:
            for name in ("file", "other"):
                (partial / name).write_text(str(number))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
