"""Terminal output: progress bars and lines that are updated in place."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from audiojax.io.progress import Progress

_DRAWINGS_PER_SECOND = 20


def _console(*, stderr: bool = False) -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True, stderr=stderr)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=not console.stderr,  # stdout may be a file
    )


@contextlib.contextmanager
def progress(description: str, unit: str = "files") -> Iterator[Progress]:
    """Provides a callback (done, total) that shows a progress bar on a terminal, and one line elsewhere.

    The output is on stderr, because the stdout of a command may be JSON. It begins with `description`; `unit` is what
    is counted.
    """
    console = _console(stderr=True)
    with _bar(console) as bar:
        task = bar.add_task(description, total=None, visible=False, note="")
        started = False

        def report(done: int, total: int) -> None:
            nonlocal started
            if not started:
                started = True
                if not console.is_terminal:
                    console.print(f"{description}: {total:,} {unit}")
            bar.update(task, completed=done, total=total, visible=True)

        yield report


def has_screen() -> bool:
    """Returns whether stdout is a terminal that can update lines and show Unicode."""
    console = _console()
    return sys.stdout.isatty() and not (console.is_dumb_terminal or console.options.ascii_only)


class Screen:
    """A context manager for lines at the bottom of a terminal that are updated in place."""

    def __init__(self) -> None:
        self._live = Live(console=_console(), refresh_per_second=_DRAWINGS_PER_SECOND)

    def __enter__(self) -> "Screen":
        """Starts to update the lines."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last lines on the terminal."""
        self._live.stop()

    @property
    def width(self) -> int:
        """Returns the width of the terminal in columns."""
        return self._live.console.width

    def say(self, text: str) -> None:
        """Prints a permanent line above those that are updated."""
        self._live.console.print(text)

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Replaces the lines at the bottom by `lines`, pairs of text and style as in ("87 %", "bold green")."""
        self._live.update(Text("\n", no_wrap=True, overflow="crop").join(Text(*line) for line in lines))
