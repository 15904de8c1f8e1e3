"""Rules for the values of config keys: ranges, choices, tuples and text, and rules between several keys."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from audiojax.errors import InputError


class Range(NamedTuple):
    """A rule for numbers: from `low` to `high`, both included unless that end is open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        """Returns whether `value` is a finite number in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        """Returns the range in words."""
        if self.high < math.inf and not (self.open_low or self.open_high):
            return f"{number(self.low)} to {number(self.high)}"
        low = f"{'above' if self.open_low else 'at least'} {number(self.low)}"
        high = f"{'below' if self.open_high else 'at most'} {number(self.high)}"
        return low if self.high == math.inf else f"{low} and {high}"


class Items(NamedTuple):
    """A rule for tuples: at least `num` items, each in the range or the choices `of`."""

    of: Range | tuple[str, ...]
    num: int = 0

    def __contains__(self, value: object) -> bool:
        """Returns whether `value` is a tuple that meets the rule, or such a list, as in JSON."""
        return isinstance(value, list | tuple) and len(value) >= self.num and all(item in self.of for item in value)

    def __str__(self) -> str:
        """Returns the rule in words."""
        each = str(self.of) if isinstance(self.of, Range) else f"one of {', '.join(self.of)}"
        return f"a tuple of {f'{self.num} or more' if self.num else 'any number of'} items, each {each}"


class Text(NamedTuple):
    """A rule for text: all of it matches the regular expression `pattern`, which `meaning` describes in words."""

    pattern: str
    meaning: str

    def __contains__(self, value: object) -> bool:
        """Returns whether `value` is text that matches the pattern."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        """Returns the rule in words."""
        return self.meaning


Rule = Range | Items | Text | tuple[Any, ...]


def number(value: float) -> str:
    """Returns a number as text for a message: an int with thousands separators, a float with six digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def one_of(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raises InputError if `value` is not one of `choices`; the message calls it `name` and lists them."""
    if value not in choices:
        nearest = difflib.get_close_matches(str(value), [choice for choice in choices if isinstance(choice, str)], 1)
        hint = f": did you mean {nearest[0]}?" if nearest and nearest[0] else "."
        named = ", ".join(repr(choice) if choice == "" else str(choice) for choice in choices)
        raise InputError(f"{name} is {value!r}; choose one of {named}{hint}")


def check_together(flat: Mapping[str, Any]) -> None:
    """Raises InputError for the first key of a config {"section.key": value} whose value contradicts another one."""
    _check_train(flat)
    _check_model(flat)
    _check_streams(flat)


def _check_train(flat: Mapping[str, Any]) -> None:
    longest = flat["train.length_samples"]
    if any(length >= longest or not isinstance(length, int) for length in flat["train.bucket_samples"]):
        raise InputError(
            f"config.train.bucket_samples is {tuple(flat['train.bucket_samples'])}; give whole numbers below "
            f"length_samples, {longest}."
        )
    for key in ("augment.noise_snr_db", "streams.snr_db"):
        pair = flat[key]
        if len(pair) != 2 or pair[0] > pair[1]:
            raise InputError(f"config.{key} is {tuple(pair)}; give two numbers in dB, the lower first.")
    low_db, high_db = flat["augment.noise_snr_db"]
    if (share := flat["augment.recorded_noise"]) and low_db == high_db:
        raise InputError(
            f"config.augment.recorded_noise is {share:g}, but no noise is added; choose 0, or give a range, "
            "config.augment.noise_snr_db."
        )
    number, count = flat["mesh.process_id"], flat["mesh.num_processes"]
    if number >= count and flat["mesh.coordinator"] != "auto":
        raise InputError(f"config.mesh.process_id is {number}; with num_processes={count} choose 0 to {count - 1}.")


def _check_model(flat: Mapping[str, Any]) -> None:
    if any(not isinstance(size, int) for size in flat.get("model.channels", ())):
        raise InputError(f"config.model.channels is {tuple(flat['model.channels'])}; give whole numbers.")
    window, hop = (flat.get(f"model.{name}_samples", 1) for name in ("window", "hop"))
    if window < hop and flat.get("model.frontend") != "raw":
        raise InputError(f"config.model.window_samples is {window}, less than hop_samples, {hop}; choose a longer one.")


def _check_streams(flat: Mapping[str, Any]) -> None:
    """Raises InputError if `task` and the section `streams` contradict each other."""
    steps = flat["streams.steps_per_epoch"]
    if flat["task"] == "clips":
        if steps:
            raise InputError(
                f"config.streams.steps_per_epoch is {steps}, but config.task is 'clips'; choose 0, or use "
                "--config configs/listen.py."
            )
        return
    for key, rule in (
        ("streams.steps_per_epoch", Range(1, 1_000_000)),
        ("streams.num_strings", Range(2, 100_000)),  # clean and with noise in turn
        ("streams.false_alarm_hours", Range(0.001, 1000)),
    ):
        if flat[key] not in rule:
            raise InputError(f"config.{key} is {number(flat[key])}; for config.task='streams' choose {rule}.")
    shares = flat["streams.shares"]
    if len(shares) != 4 or not sum(shares):
        raise InputError(f"config.streams.shares is {tuple(shares)}; give four shares, of which one is above 0.")
    if flat["model.readout"] != "last":
        raise InputError(f"config.model.readout is {flat['model.readout']!r}; config.task='streams' needs 'last'.")
