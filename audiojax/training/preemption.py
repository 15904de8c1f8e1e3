"""Stops training between two steps after Ctrl-C, SIGTERM or a deadline; a second signal ends the process at once."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """Training was asked to stop, by a signal or a deadline, before it was finished; the message is one sentence."""

    def __init__(self, sentence: str, signal_number: int):
        super().__init__(sentence)
        self.signal_number = signal_number


class Interrupt:
    """A context manager under which Ctrl-C, SIGTERM or a deadline stop training between two items of `guard`.

    A second signal ends the process at once. `deadline` is in seconds of `time.monotonic`. `alone` is whether the run
    has one process; otherwise this does nothing, because several processes have to stop at the same step. Signals are
    handled on the main thread only, the deadline on any thread.
    """

    def __init__(self, *, alone: bool = True, deadline: float = math.inf) -> None:
        self.signal_number, self._numbers = 0, (signal.SIGINT, signal.SIGTERM) if alone else ()
        self._deadline = deadline if alone else math.inf
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        """Installs the signal handlers."""
        for number in self._numbers:
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, _: object) -> None:
        if self.signal_number:
            os.write(2, b"\x1b[?25h\n" if sys.stderr.isatty() else b"")  # shows the cursor, which a progress bar hides
            os._exit(128 + number)
        self.signal_number = number

    def guard(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the `items` until a signal has been received or the deadline has passed, then raises Stopped."""
        for item in items:
            if self.signal_number:
                raise Stopped("asked to stop", self.signal_number)
            if time.monotonic() >= self._deadline:
                raise Stopped("out of time", signal.SIGTERM)
            yield item
