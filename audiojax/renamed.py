"""Keys of the config that had other names in earlier versions, which flags and a saved config.json may still have."""

import functools
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """A config key whose name or values were different in earlier versions.

    `old` and `new` are names with their sections, as in "train.ema_decay".
    """

    old: str
    new: str
    values: tuple[tuple[Any, Any], ...] = ()  # pairs of an old and a new value, if values differ
    stays: bool = False  # the old key still exists, and the new key takes its value if it is absent


RENAMED = (
    Renamed("train.average_decay", "train.ema_decay"),
    Renamed("decoder.keep", "decoder.ema_decay"),
    Renamed("decoder.apart_steps", "decoder.refractory_steps"),
    Renamed("model.listens", "task", ((False, "clips"), (True, "streams"))),
    Renamed("data.also", "data.extra_source"),
    Renamed("data.also_root", "data.extra_root"),
    Renamed("streams.voices", "streams.synthetic_sources"),
    Renamed("streams.phrases", "streams.negative_sources"),
    Renamed("streams.alarm_hours", "streams.false_alarm_hours"),
    Renamed("seed", "split.seed", stays=True),  # one seed decided the split too
)


def migrate(config: dict[str, Any]) -> None:
    """Renames old keys in `config`, the content of a config.json, in place; prints one notice about them on stderr."""
    found = []
    for key in RENAMED:
        (section, _, old), (new_section, _, new) = key.old.rpartition("."), key.new.rpartition(".")
        theirs = config.get(section, {}) if section else config
        if old in theirs:
            value = theirs[old] if key.stays else theirs.pop(old)
            ours = config.setdefault(new_section, {}) if new_section else config
            ours.setdefault(new, dict(key.values)[value] if key.values else value)
            found.append(key)
    _notice(key for key in found if not key.stays)


def with_new_names(flags: Sequence[str]) -> list[str]:
    """Returns `--config.KEY=VALUE` flags with the current names of keys; prints one notice on stderr if any was old."""
    renamed = {key.old: key for key in RENAMED if not key.stays}
    found, replaced = [], list(flags)
    for i, flag in enumerate(flags):
        match = re.match(r"--(?P<no>no)?config\.(?P<key>[\w.]+)(?P<value>=.*)?$", flag, re.DOTALL)
        if match and (key := renamed.get(match["key"])):
            value = match["value"] or ""
            if key.values:
                value = f"={dict(key.values)[not match['no'] and value.lower() in ('', '=true', '=1')]}"
            replaced[i] = f"--config.{key.new}{value}"
            found.append(key)
    _notice(found)
    return replaced


def _notice(found: Iterable[Renamed]) -> None:
    if names := ", ".join(f"config.{key.old} is now config.{key.new}" for key in found):
        _print_once(f"audiojax: notice: {names}.")


@functools.cache
def _print_once(text: str) -> None:
    print(text, file=sys.stderr)
