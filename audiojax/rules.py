"""Rules for the value of a key: ranges, choices, tuples and text."""

import difflib
import math
import re
from typing import Any, NamedTuple

from audiojax.errors import InputError


class Range(NamedTuple):
    """Numbers from `low` to `high`, which belong to it unless that end is open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high < math.inf and not (self.open_low or self.open_high):
            return f"{number(self.low)} to {number(self.high)}"
        low = f"{'above' if self.open_low else 'at least'} {number(self.low)}"
        high = f"{'below' if self.open_high else 'at most'} {number(self.high)}"
        return low if self.high == math.inf else f"{low} and {high}"


class Items(NamedTuple):
    """Tuples of at least `num` items, each of which is one of `of`."""

    of: Range | tuple[str, ...]
    num: int = 0

    def __contains__(self, value: object) -> bool:
        return isinstance(value, list | tuple) and len(value) >= self.num and all(item in self.of for item in value)

    def __str__(self) -> str:
        each = str(self.of) if isinstance(self.of, Range) else f"one of {', '.join(self.of)}"
        return f"a tuple of {f'{self.num} or more' if self.num else 'any number of'} items, each {each}"


class Text(NamedTuple):
    """Text that matches `pattern` as a whole; `meaning` says it in words."""

    pattern: str
    meaning: str

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.meaning


Rule = Range | Items | Text | tuple[Any, ...]


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def one_of(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raises InputError where `value` is none of `choices`."""
    if value not in choices:
        nearest = difflib.get_close_matches(str(value), [choice for choice in choices if isinstance(choice, str)], 1)
        hint = f": did you mean {nearest[0]}?" if nearest and nearest[0] else "."
        named = ", ".join(repr(choice) if choice == "" else str(choice) for choice in choices)
        raise InputError(f"{name} is {value!r}; choose one of {named}{hint}")
