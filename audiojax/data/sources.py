"""Where sound comes from: folders in a data set's own layout, listed; and the only reader of sound files."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from audiojax.data.phonemes import DIGITS
from audiojax.data.signal import prepare_clip
from audiojax.types import InputError, Speaker


@dataclass(frozen=True, order=True)
class Recording:
    """One sound file of a source, before it is read. Sorts by label first: that is how the cache groups clips."""

    label: int
    speaker: str
    take: int
    path: str  # relative to the root
    num_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Recordings:
    """What a source holds, sorted; nothing is read yet."""

    source: str
    root: Path
    files: tuple[Recording, ...]
    label_names: tuple[str, ...]
    speakers: dict[str, Speaker]


def read_sound(path: Path | str, rate_hz: int) -> np.ndarray:
    """i16[t] at `rate_hz`: any file that libsndfile reads, whatever its rate, channels and sample format.

    Raises InputError with a sentence that names the file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; give the path of a sound file (wav, flac, ogg).")
    try:
        audio, source_rate_hz = soundfile.read(path, dtype="float32")
        return prepare_clip(audio, source_rate_hz, rate_hz)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: raw samples without a header
        reason = str(getattr(error, "error_string", error)).strip(" .")
        raise InputError(f"{path} cannot be read as sound ({reason}).") from None
    except InputError as error:
        raise InputError(f"{path} {error}; replace or remove the file.") from None


def audiomnist(root: Path | str) -> Recordings:
    """AudioMNIST as its authors lay it out: `data/SS/D_SS_T.wav` and `data/audioMNIST_meta.txt`.

    Speakers are two-digit strings, "01" to "60". Those the metadata lacks (an early copy has no 17, 22 and 34) stay
    unknown; ages come as int, as string, and as "1234" (unknown). Source: github.com/soerenab/AudioMNIST.
    """
    root = Path(root).expanduser()
    name = re.compile(r"data/(\d\d)/(\d)_\1_(\d+)\.wav")
    files = [
        Recording(int(match[2]), match[1], int(match[3]), path, *stat)
        for path, match, stat in _matching(root, root / "data", name, "data/SS/D_SS_T.wav, as in data/01/0_01_0.wav")
    ]
    table = _read_metadata(root / "data" / "audioMNIST_meta.txt")
    return Recordings("audiomnist", root, tuple(sorted(files)), DIGITS, _speakers(files, table))


def fsdd(root: Path | str) -> Recordings:
    """The Free Spoken Digit Dataset: `recordings/D_name_T.wav`.

    Source: github.com/Jakobovski/free-spoken-digit-dataset.
    """
    root = Path(root).expanduser()
    name = re.compile(r"recordings/(\d)_([^/_]+)_(\d+)\.wav")
    files = [
        Recording(int(match[1]), match[2], int(match[3]), path, *stat)
        for path, match, stat in _matching(
            root, root / "recordings", name, "recordings/D_name_T.wav, as in recordings/0_jackson_0.wav"
        )
    ]
    accents = {"jackson": "USA", "theo": "USA", "nicolas": "Belgium, French", "george": "Greece"}
    accents |= {"yweweler": "Germany", "lucas": "Germany"}
    table = {speaker: Speaker("male", accent) for speaker, accent in accents.items()}
    return Recordings("fsdd", root, tuple(sorted(files)), DIGITS, _speakers(files, table))


def _matching(
    root: Path, folder: Path, name: re.Pattern, layout: str
) -> Iterator[tuple[str, re.Match, tuple[int, int]]]:
    """Yields (relative path, match, (bytes, modified)) of each .wav below `folder`; refuses names of another form."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; set --config.data.root to the folder that holds {layout}.")
    found = False
    for where, _, names in os.walk(folder):
        for entry in os.scandir(where) if any(n.endswith(".wav") for n in names) else ():
            if not entry.name.endswith(".wav"):
                continue
            path = Path(entry.path).relative_to(root).as_posix()
            match = name.fullmatch(path)
            if match is None:
                raise InputError(f"{entry.path} is not named like {layout}; rename or remove it.")
            found = True
            stat = entry.stat()
            yield path, match, (stat.st_size, stat.st_mtime_ns)
    if not found:
        raise InputError(f"{folder} holds no .wav files; set --config.data.root to the folder that holds {layout}.")


def _speakers(files: list[Recording], table: dict[str, Speaker]) -> dict[str, Speaker]:
    """Every speaker that is heard, in order, with what the table knows."""
    return {name: table.get(name, Speaker()) for name in sorted({file.speaker for file in files})}


def _read_metadata(path: Path) -> dict[str, Speaker]:
    """AudioMNIST's JSON of speakers; an absent file knows nobody."""
    if not path.exists():
        return {}
    try:
        meta = json.loads(path.read_text())
        return {name: _speaker(entry) for name, entry in meta.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not AudioMNIST's table of speakers ({error}); restore or remove it.") from None


def _speaker(entry: dict) -> Speaker:
    age = str(entry.get("age", ""))
    return Speaker(
        sex=str(entry.get("gender", "unknown")).lower(),
        accent=str(entry.get("accent", "unknown")).strip().capitalize() or "unknown",
        age=int(age) if age.isdigit() and int(age) < 120 else None,
    )
