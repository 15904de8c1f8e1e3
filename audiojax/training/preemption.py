"""Ctrl-C, SIGTERM and a deadline as a wish that is granted between two steps; a second signal is obeyed at once."""

import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """Training was asked to stop and has saved what it did. Its text is one sentence for the person who asked."""

    def __init__(self, sentence: str, signal_number: int):
        super().__init__(sentence)
        self.signal_number = signal_number


class Interrupt:
    """Catches the first signal while the block runs. Outside a process's main thread it catches nothing, nor where the
    run has several processes (`alone` False), which must agree on a step first: see `mesh.preempted`.

    From `deadline` on, in seconds of `time.monotonic`, it asks as SIGTERM does, on any thread."""

    def __init__(self, *, alone: bool = True, deadline: float = math.inf) -> None:
        self.signal_number, self._numbers = 0, (signal.SIGINT, signal.SIGTERM) if alone else ()
        self._deadline = deadline if alone else math.inf
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        for number in self._numbers:
            try:
                self._previous[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, _: object) -> None:
        if self.signal_number:
            os.write(2, b"\x1b[?25h\n" if sys.stderr.isatty() else b"")  # a progress bar has hidden the cursor
            os._exit(128 + number)
        self.signal_number = number

    def guard(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, until somebody asks: then raises Stopped."""
        for item in items:
            if self.signal_number:
                raise Stopped("asked to stop", self.signal_number)
            if time.monotonic() >= self._deadline:
                raise Stopped("out of time", signal.SIGTERM)
            yield item
