"""The terminal: progress bars and lines that are redrawn."""

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
        redirect_stdout=not console.stderr,  # what is printed meanwhile belongs on stdout, a file perhaps
    )


@contextlib.contextmanager
def progress(description: str, unit: str = "files") -> Iterator[Progress]:
    """A callback (done, total) that draws a bar on a terminal, and elsewhere says one line once there is work.

    On stderr: a command's answer on stdout may be JSON.
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
    """Whether stdout is a terminal on which lines can be drawn anew, in more than ASCII."""
    console = _console()
    return sys.stdout.isatty() and not (console.is_dumb_terminal or console.options.ascii_only)


class Screen:
    """Lines at the foot of a terminal that are drawn anew, below those that stay; use it with `with`."""

    def __init__(self) -> None:
        self._live = Live(console=_console(), refresh_per_second=_DRAWINGS_PER_SECOND)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def width(self) -> int:
        """In columns."""
        return self._live.console.width

    def say(self, text: str) -> None:
        """A line that stays."""
        self._live.console.print(text)

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Replaces the lines at the foot by these, each with its style, as in ("87 %", "bold green")."""
        self._live.update(Text("\n", no_wrap=True, overflow="crop").join(Text(*line) for line in lines))
