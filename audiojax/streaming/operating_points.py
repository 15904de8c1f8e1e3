"""Operating points of a streaming recogniser: named thresholds of the decoder with their measured rates.

They are stored beside the parameters that they were measured with; other parameters have none. `python -m
experiments.streaming_eval real --curve --points` writes them.
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
    """A threshold with the error rates measured at it."""

    threshold: float
    false_events_per_hour: float  # in speech without digits, noise and rooms
    digit_error_rate: float  # of digits alone, in noise and in strings

    def __str__(self) -> str:
        """Returns the point in words."""
        return (
            f"threshold {self.threshold:g}: {self.false_events_per_hour:.0f} false events per hour, "
            f"{self.digit_error_rate:.1%} digit errors"
        )


def digest(variables: Mapping[str, Any]) -> str:
    """Returns a hash of the variables of a network."""
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    parts = (name.encode() + np.asarray(flat[name], np.float32).tobytes() for name in sorted(flat))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def read(folder: Path, variables: Mapping[str, Any] | None = None) -> dict[str, Point]:
    """Returns the points in `folder` by name; none if there are none, or if they are of other `variables`.

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
    """Writes the points of a network with these `variables`, and a description of the recordings."""
    content = {
        "measured_on": measured_on,
        "parameters": digest(variables),
        "points": {name: point._asdict() for name, point in points.items()},
    }
    write_text(folder / FILE, json.dumps(content, indent=2) + "\n")
