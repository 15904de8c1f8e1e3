"""Recordings of digits, other speech, rooms and noise from several public corpora, listed in one `index.csv`.

The list has the columns file, use, kind, label, speaker, gain and source, one row for each sound file. Rows whose `use`
is "train" are for training and validation; those of "judge" are for a final evaluation alone.
"""

import csv
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiojax.data.clips import Clips, Speaker
from audiojax.data.sources import Recording, Recordings
from audiojax.errors import InputError
from audiojax.schema import DIGITS

KINDS = ("digit", "speech", "noise")
PARTS = ("train", "validation")
COLUMNS = ("file", "use", "kind", "label", "speaker", "gain", "source")
_HELD_OUT = 5  # one part in so many is for validation
UNSURE = Path(__file__).with_name("real_unsure.json")


@dataclass(frozen=True)
class RealSound:
    """The clips of one part of the corpora.

    A digit's label is its value; the label of speech and of noise is the corpus that it comes from.
    """

    digits: Clips
    digit_indices: np.ndarray  # i64[n], those of this part
    speech: Clips
    speech_indices: np.ndarray
    noise: Clips
    noise_indices: np.ndarray
    gain: dict[str, float]  # of a clip's path; the clip divided by it has the level of the recording
    unsure: dict[str, list[tuple[float, float]]]  # of a clip's path: seconds in which a digit may be spoken


def recordings(root: Path | str, kind: str, use: str = "train") -> Recordings:
    """Returns the files of one `kind` and `use` that `root`/index.csv lists, unread.

    Raises InputError where the list or a file is missing, or a row cannot be understood.
    """
    root = Path(root).expanduser()
    mine = [row for row in rows(root) if row["use"] == use and row["kind"] == kind]
    names = DIGITS if kind == "digit" else tuple(sorted({row["source"] for row in mine}))
    files = []
    for take, row in enumerate(mine):
        name = row["label"] if kind == "digit" else row["source"]
        path = root / row["file"]
        if name not in names:
            raise InputError(f"{root / 'index.csv'} gives {row['file']} the label {name!r}; a digit is zero to nine.")
        try:
            stat = path.stat()
        except OSError:
            raise InputError(f"{path}, which index.csv lists, is not there; restore it or remove its row.") from None
        speaker = row["speaker"].removeprefix("sc_") or f"unknown {row['source']}"
        files.append(Recording(names.index(name), speaker, take, row["file"], stat.st_size, stat.st_mtime_ns))
    if not files:
        raise InputError(f"{root / 'index.csv'} lists no {kind} for {use}; restore it, or set --config.streams.real=.")
    speakers = {file.speaker: Speaker() for file in files}
    return Recordings(f"real-{use}-{kind}", root, tuple(sorted(files)), names, dict(sorted(speakers.items())))


def rows(root: Path | str) -> list[dict[str, str]]:
    """Returns the rows of `root`/index.csv; raises InputError where it is missing or damaged."""
    path = Path(root).expanduser() / "index.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); see --config.streams.real.") from None
    if not found or not set(COLUMNS) <= found[0].keys():
        raise InputError(f"{path} has not the columns {', '.join(COLUMNS)}; restore it.")
    for row in found:
        if None in row.values():
            raise InputError(f"{path} has too few columns for {row['file']!r}; restore it.")
        try:
            understood = 0 < float(row["gain"] or 1) < float("inf")
        except ValueError:
            understood = False
        if not understood:
            raise InputError(f"{path} gives {row['file']} the gain {row['gain']!r}; give a number above 0, or nothing.")
    return found


def load(root: Path | str, part: str, cached: Callable[[Recordings], Clips]) -> RealSound:
    """Returns the clips of "train" or "validation"; `cached` turns recordings into clips."""
    sounds = {kind: cached(recordings(root, kind)) for kind in KINDS}
    chosen = {kind: split(clips)[PARTS.index(part)] for kind, clips in sounds.items()}
    gain = {row["file"]: float(row["gain"] or 1) for row in rows(root)}
    return RealSound(
        sounds["digit"], chosen["digit"], sounds["speech"], chosen["speech"], sounds["noise"], chosen["noise"],
        gain, read_unsure(),
    )  # fmt: skip


def split(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices for training and for validation, a fifth.

    A corpus with several speakers is split by speaker: a speaker's name alone decides the side, so that one who is in
    two corpora is on the same side in both. Another one holds out the last fifth of its files, of each label if it has
    digits.
    """
    held_out = np.zeros(len(clips), bool)
    for mine in by_corpus(clips, np.arange(len(clips))).values():
        if len(np.unique(clips.speaker[mine])) > 1:
            held_out[mine] = [zlib.crc32(speaker.encode()) % _HELD_OUT == 0 for speaker in clips.speaker[mine]]
            continue
        for label in np.unique(clips.label[mine]):
            files = sorted(mine[clips.label[mine] == label].tolist(), key=lambda index: clips.path[index])
            held_out[files[len(files) - -(-len(files) // _HELD_OUT) :]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def by_corpus(clips: Clips, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the `indices` of each corpus, sorted by its name, which is the first folder of a clip's path."""
    names = np.asarray([clips.path[index].partition("/")[0] for index in indices])
    return {str(name): indices[names == name] for name in np.unique(names)}


def read_unsure() -> dict[str, list[tuple[float, float]]]:
    """Returns the stretches of untranscribed reading in which a digit may be spoken, seconds by file name."""
    saved = json.loads(UNSURE.read_text()) if UNSURE.exists() else {}
    return {name: [(float(start), float(end)) for start, end in stretches] for name, stretches in saved.items()}


def recorded_level(sound: RealSound, clips: Clips, index: int) -> np.ndarray:
    """Returns clip `index` i16[t] at the level at which it was recorded."""
    return np.rint(clips[index] / sound.gain[clips.path[index]]).astype(np.int16)
