"""Chooses the operating points of a streaming recogniser from its curve over thresholds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.streaming import operating_points
from audiojax.streaming.operating_points import Point

FEWER = {"normal": 1 / 2, "low": 1 / 8}  # at most so many of the false events of "high"
Rows = Mapping[str, Mapping[str, Any]]  # what `real_sound.score` returns


def point(threshold: float, rows: Rows) -> Point:
    """Returns the rates at a threshold: of all sound without digits, one stream a corpus, and of all digits."""
    without = [row for name, row in rows.items() if name.endswith(", stream")]
    hours = sum(row["minutes"] for row in without) / 60
    digits = [row for row in rows.values() if "of" in row]
    wrong = sum(row["count"] if "words" in row else row["of"] - row["count"] for row in digits)
    number = sum(row["of"] for row in digits)
    return Point(threshold, round(sum(row["count"] for row in without) / hours, 1), round(wrong / number, 4))


def choose(curve: Mapping[float, Rows], threshold: float) -> dict[str, Point]:
    """Returns three points of a curve by name.

    "high" is the point at the config's `threshold`, the default. "normal" and "low" are the lowest thresholds above it
    with at most `FEWER` of its false events. Raises InputError if the curve has no such points.
    """
    points = [point(t, rows) for t, rows in sorted(curve.items())]
    chosen = [p for p in points if p.threshold == threshold]
    for share in FEWER.values() if chosen else ():
        events = share * chosen[0].false_events_per_hour
        chosen += [p for p in points if p > chosen[-1] and p.false_events_per_hour <= events][:1]
    if len(chosen) < len(operating_points.NAMES):
        known = ", ".join(f"{p.threshold:g}" for p in points)
        raise InputError(
            f"the curve has no three operating points from config.decoder.threshold, {threshold:g}, on; measure more "
            f"than {known}."
        )
    return dict(zip(operating_points.NAMES, reversed(chosen), strict=True))


def write(folder: Path, run: Trained, curve: Mapping[float, Rows]) -> None:
    """Writes the points of a curve of `run` beside its parameters in `folder`, and prints them."""
    points = choose(curve, run.config.decoder.threshold)
    rows = next(iter(curve.values()))
    names = [name for name, row in rows.items() if name.endswith(", stream") or "of" in row]
    operating_points.write(folder, run.variables, points, f"held-out recordings: {'; '.join(names)}")
    print("\n".join(f"{name}: {of}" for name, of in points.items()))
