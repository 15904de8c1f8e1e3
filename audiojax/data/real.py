"""Recordings of digits, other speech, room noise and other noise from several public corpora, listed in `index.csv`.

The list has the columns file, use, kind, label, speaker, gain and source, and a row for each sound file. Rows with
`use` "train" are for training and validation, those with "judge" for a final evaluation.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audiojax.data.clips import Clips, Speaker
from audiojax.data.listing import listed_stat, read_table
from audiojax.data.sources import Recording, Recordings
from audiojax.errors import InputError
from audiojax.schema import DIGITS

KINDS = ("digit", "speech", "noise")
PARTS = ("train", "validation")
ROOMS = "rooms"  # the corpus of rooms before speech begins
COLUMNS = ("file", "use", "kind", "label", "speaker", "gain", "source")
_HELD_OUT = 5  # one fifth is for validation
UNSURE = Path(__file__).with_name("real_unsure.json")
# Files with a digit's label in which no word can be seen in the spectrogram, and what is there instead.
WITHOUT_WORD = Path(__file__).with_name("real_without_word.json")


@dataclass(frozen=True)
class RealSound:
    """Real recordings for one part, training or validation: digits, other speech, and noise.

    For each kind it has the clips of both parts, and the indices of the clips of this part. The label of a digit is its
    value, the label of speech and noise is the corpus.
    """

    digits: Clips
    digit_indices: np.ndarray  # i64[n], of this part
    speech: Clips
    speech_indices: np.ndarray
    noise: Clips
    noise_indices: np.ndarray
    gain: dict[str, float]  # by path; a clip divided by its gain has the level of the original recording
    unsure: dict[str, list[tuple[float, float]]]  # by path: segments in seconds that may contain a digit
    text: dict[str, str]  # by path: the label in index.csv, which is the word in a clip of one word


def recordings(root: Path | str, kind: str, use: str = "train") -> Recordings:
    """Returns the files of one kind and use that `root`/index.csv lists, without reading them.

    `kind` is "digit", "speech" or "noise"; `use` is "train" (and validation) or "judge" (a final evaluation).
    Raises InputError if the list or a file is missing, or if a row is invalid.
    """
    root = Path(root).expanduser()
    mine = [row for row in rows(root) if row["use"] == use and row["kind"] == kind]
    names = DIGITS if kind == "digit" else tuple(sorted({row["source"] for row in mine}))
    files = []
    for take, row in enumerate(mine):
        name = row["label"] if kind == "digit" else row["source"]
        if name not in names:
            raise InputError(
                f"{root / 'index.csv'} has the invalid label {name!r} for {row['file']}; write a digit, zero to nine."
            )
        speaker = row["speaker"].removeprefix("sc_") or f"unknown {row['source']}"
        files.append(
            Recording(names.index(name), speaker, take, row["file"], *listed_stat(root, row["file"], "index.csv"))
        )
    if not files:
        raise InputError(
            f"{root / 'index.csv'} lists no {kind} for {use}; restore the file, or train without real recordings: set "
            '--config.streams.real=""'
        )
    speakers = {file.speaker: Speaker() for file in files}
    return Recordings(f"real-{use}-{kind}", root, tuple(sorted(files)), names, dict(sorted(speakers.items())))


def rows(root: Path | str) -> list[dict[str, str]]:
    """Returns the rows of `root`/index.csv as {column: text}. Raises InputError if it is missing or damaged."""
    path = Path(root).expanduser() / "index.csv"
    found = read_table(path, COLUMNS, "streams.real")
    for row in found:
        try:
            valid = 0 < float(row["gain"] or 1) < float("inf")
        except ValueError:
            valid = False
        if not valid:
            raise InputError(
                f"{path} has the invalid gain {row['gain']!r} for {row['file']}; write a number above 0, or nothing."
            )
    return found


def load(root: Path | str, part: str, cached: Callable[[Recordings], Clips], rooms: str = "train") -> RealSound:
    """Returns the real recordings that `root`/index.csv lists, for the part "train" or "validation".

    Recordings that are labelled as a digit but contain no word are left out.

    Args:
        root: The folder of the recordings.
        part: "train" or "validation".
        cached: Reads the files of recordings and returns their clips.
        rooms: Which recordings of rooms without speech are used for training: "train" is four fifths of them, "none" is
            none, "first" and "second" are the halves. All others are for validation.
    """
    sounds = {kind: cached(recordings(root, kind)) for kind in KINDS}
    chosen = {kind: split(clips, rooms)[PARTS.index(part)] for kind, clips in sounds.items()}
    empty, path = json.loads(WITHOUT_WORD.read_text()), sounds["digit"].path
    chosen["digit"] = chosen["digit"][[path[index] not in empty for index in chosen["digit"]]]
    listed = rows(root)
    gain = {row["file"]: float(row["gain"] or 1) for row in listed}
    text = {row["file"]: row["label"] for row in listed}
    return RealSound(
        sounds["digit"], chosen["digit"], sounds["speech"], chosen["speech"], sounds["noise"], chosen["noise"],
        gain, read_unsure(), text,
    )  # fmt: skip


def split(clips: Clips, rooms: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Splits recordings; returns the indices for training and for validation, which is about a fifth.

    A corpus with several speakers is split by a hash of the speaker's name, so that a speaker of two corpora is in the
    same part of both. In other corpora the last fifth of the files of each label is for validation.

    `rooms` changes this for the corpus `ROOMS`, recordings of rooms without speech, unless it is "train": training has
    "none" of its files, or their "first" or "second" half, and all others are for validation.
    """
    held_out = np.zeros(len(clips), bool)
    for name, mine in by_corpus(clips, np.arange(len(clips))).items():
        if len(np.unique(clips.speaker[mine])) > 1:
            held_out[mine] = [zlib.crc32(speaker.encode()) % _HELD_OUT == 0 for speaker in clips.speaker[mine]]
            continue
        for label in np.unique(clips.label[mine]):
            files = sorted(mine[clips.label[mine] == label].tolist(), key=lambda index: clips.path[index])
            kept = slice(len(files) - -(-len(files) // _HELD_OUT))
            if name == ROOMS and rooms != "train":
                half = len(files) // 2
                kept = {"none": slice(0), "first": slice(half), "second": slice(half, None)}[rooms]
            held_out[sorted(set(files) - set(files[kept]))] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def by_corpus(clips: Clips, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `indices` by corpus, {name: i64[n]}, sorted by name, which is the first folder of a clip's path."""
    names = np.asarray([clips.path[index].partition("/")[0] for index in indices])
    return {str(name): indices[names == name] for name in np.unique(names)}


def read_unsure() -> dict[str, list[tuple[float, float]]]:
    """Returns the segments of recordings of speech without transcripts that may contain a digit.

    The result is {path: segments}, where a segment is (start, end) in seconds.
    """
    saved = json.loads(UNSURE.read_text()) if UNSURE.exists() else {}
    return {name: [(float(start), float(end)) for start, end in segments] for name, segments in saved.items()}


def recorded_level(sound: RealSound, clips: Clips, index: int) -> np.ndarray:
    """Returns the clip at `index` i16[t] divided by its gain in `sound`, so that it has its original level."""
    return np.rint(clips[index] / sound.gain[clips.path[index]]).astype(np.int16)
