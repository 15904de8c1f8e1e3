"""Operating points of a streaming recogniser: named thresholds of the decoder with their measured error rates.

They are stored beside the parameters that they were measured with; other parameters have none. `python -m
experiments.streaming.evaluate real --curve --points` writes them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from audiojax.errors import InputError
from audiojax.io.files import read_json, write_text

FILE = "operating_points.json"
NAMES = ("low", "normal", "high")  # of sensitivities; one of them has the threshold of the config, the default


class Point(NamedTuple):
    """A threshold of the decoder with the error rates that were measured at it.

    `false_events_per_hour` counts words that are reported in speech without digits, in noise and in rooms.
    `digit_error_rate` is the number of errors per spoken digit: alone, in noise and in strings.
    """

    threshold: float
    false_events_per_hour: float  # in speech without digits, noise and rooms
    digit_error_rate: float  # of digits alone, in noise and in strings

    def __str__(self) -> str:
        """Returns the threshold and both error rates as text."""
        return (
            f"threshold {self.threshold:g}: {self.false_events_per_hour:.0f} false events per hour, "
            f"{self.digit_error_rate:.1%} digit errors"
        )


def digest(variables: Mapping[str, Any]) -> str:
    """Returns a hash, 16 hexadecimal digits, of the names and values of a network's variables."""
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    parts = (name.encode() + np.asarray(flat[name], np.float32).tobytes() for name in sorted(flat))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def read(folder: Path, variables: Mapping[str, Any] | None = None) -> dict[str, Point]:
    """Returns the operating points that are stored in `folder`, by name; {} if there are none.

    Also returns {} if they were measured with other variables of the network than `variables`; None skips this check.
    Raises InputError if the file is damaged.
    """
    path = folder / FILE
    try:
        saved = read_json(path)
        points = {name: Point(*(float(saved["points"][name][key]) for key in Point._fields)) for name in NAMES}
        return points if variables is None or saved["parameters"] == digest(variables) else {}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; delete it, or write it again with --curve --points.") from None


def write(folder: Path, variables: Mapping[str, Any], points: Mapping[str, Point], measured_on: str) -> None:
    """Writes operating points to `folder`, with a hash of the network's `variables` that they were measured with.

    `measured_on` describes the recordings.
    """
    content = {
        "measured_on": measured_on,
        "parameters": digest(variables),
        "points": {name: point._asdict() for name, point in points.items()},
    }
    write_text(folder / FILE, json.dumps(content, indent=2) + "\n")
