"""Lists the sound files of a data set, whose folders have a layout of their own."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audiojax.data.phonemes import DIGITS
from audiojax.data.sound_files import EXTENSIONS
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
    skipped: tuple[str, ...] = ()  # one sentence for each file that was left out


class _Faults:
    """What is wrong with single files: the first one raises, or, where bad files are to be skipped, all are kept."""

    def __init__(self, on_bad_file: str):
        self.skip, self.sentences = on_bad_file == "skip", list[str]()

    def add(self, sentence: str) -> None:
        if not self.skip:
            raise InputError(f"{sentence}, or go on without it: --config.data.on_bad_file=skip.")
        self.sentences.append(sentence)


def audiomnist(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """AudioMNIST as its authors lay it out: `data/SS/D_SS_T.wav` and `data/audioMNIST_meta.txt`.

    Speakers are two-digit strings, "01" to "60". Those the metadata lacks (an early copy has no 17, 22 and 34) stay
    unknown; ages come as int, as string, and as "1234" (unknown). Source: github.com/soerenab/AudioMNIST.
    """
    root, faults = Path(root).expanduser(), _Faults(on_bad_file)
    name = re.compile(r"data/(?P<speaker>\d\d)/(?P<label>[0-9])_(?P=speaker)_(?P<take>\d{1,9})\.wav")
    files = _digits(root, root / "data", name, "data/SS/D_SS_T.wav, as in data/01/0_01_0.wav", faults)
    speakers = _speakers(files, read_metadata(root / "data" / "audioMNIST_meta.txt"))
    return Recordings("audiomnist", root, files, DIGITS, speakers, tuple(faults.sentences))


def fsdd(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """The Free Spoken Digit Dataset: `recordings/D_name_T.wav`.

    Source: github.com/Jakobovski/free-spoken-digit-dataset.
    """
    root, faults = Path(root).expanduser(), _Faults(on_bad_file)
    name = re.compile(r"recordings/(?P<label>[0-9])_(?P<speaker>[^/_]+)_(?P<take>\d{1,9})\.wav")
    layout = "recordings/D_name_T.wav, as in recordings/0_jackson_0.wav"
    files = _digits(root, root / "recordings", name, layout, faults)
    accents = {"jackson": "USA", "theo": "USA", "nicolas": "Belgium, French", "george": "Greece"}
    accents |= {"yweweler": "Germany", "lucas": "Germany"}
    table = {speaker: Speaker("male", accent) for speaker, accent in accents.items()}
    return Recordings("fsdd", root, files, DIGITS, _speakers(files, table), tuple(faults.sentences))


def folder(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """Any words: `WORD/*.wav` (or flac, ogg); a folder whose name begins with "_" or "." is no word.

    Speakers are known where files are named as in Google's Speech Commands, SPEAKER_nohash_TAKE.wav.
    """
    root, faults = Path(root).expanduser(), _Faults(on_bad_file)
    layout = "WORD/*.wav, a folder for each word"
    found = [item for item in _sounds(root, root, layout) if not item[0].startswith(("_", "."))]
    name = re.compile(r"(?P<word>[^/]+)/(?:(?P<speaker>[^/]+)_nohash_(?P<take>\d{1,9})|[^/]+)\.\w+")
    takes: Counter[str] = Counter()
    words = sorted({path.partition("/")[0] for path, _ in found if path.count("/") == 1})
    if len(words) < 2:
        raise InputError(f"{root} holds sounds of {len(words)} words; it takes at least two folders, {layout}.")
    files = []
    for path, stat in found:
        match = name.fullmatch(path)
        if match is None:
            faults.add(f"{root / path} does not lie in the folder of a word, {layout}; move or remove it")
            continue
        take = int(match["take"]) if match["take"] else takes[match["word"]]
        takes[match["word"]] += not match["take"]
        files.append(Recording(words.index(match["word"]), match["speaker"] or "unknown", take, path, *stat))
    return Recordings("folder", root, tuple(sorted(files)), tuple(words), _speakers(files, {}), tuple(faults.sentences))


SOURCES = {"audiomnist": audiomnist, "fsdd": fsdd, "folder": folder}


def _digits(root: Path, where: Path, name: re.Pattern, layout: str, faults: _Faults) -> tuple[Recording, ...]:
    """Every sound below `where` whose relative path is a `name` with its label, speaker and take, sorted."""
    files: dict[tuple, Recording] = {}
    for path, stat in _sounds(root, where, layout):
        match = name.fullmatch(path)
        if match is None:
            faults.add(f"{root / path} is not named like {layout}, with a digit 0 to 9; rename or remove it")
            continue
        file = Recording(int(match["label"]), match["speaker"], int(match["take"]), path, *stat)
        known = files.setdefault((file.label, file.speaker, file.take), file)
        if known is not file:
            faults.add(f"{root / path} is the same take as {root / known.path}; remove one of them")
    if not files:
        raise InputError(f"{where} holds no file named like {layout}; see --config.data.root.")
    return tuple(sorted(files.values()))


def _sounds(root: Path, where: Path, layout: str) -> list[tuple[str, tuple[int, int]]]:
    """(relative path, (bytes, modified)) of each sound file below `where`, sorted by path."""
    if not where.is_dir():
        raise InputError(f"{where} is not a folder; set --config.data.root to the folder that holds {layout}.")

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}); set its rights, or another root.")

    found = []
    for folder_path, _, names in os.walk(where, onerror=refuse):
        for entry in os.scandir(folder_path) if any(n.lower().endswith(EXTENSIONS) for n in names) else ():
            if entry.name.lower().endswith(EXTENSIONS) and entry.is_file():
                stat = entry.stat()
                path = Path(entry.path).relative_to(root).as_posix()
                found.append((path, (stat.st_size, stat.st_mtime_ns)))
    if not found:
        raise InputError(f"{where} holds no sound files; set --config.data.root to the folder that holds {layout}.")
    return sorted(found)


def _speakers(files: Iterable[Recording], table: dict[str, Speaker]) -> dict[str, Speaker]:
    """Every speaker that is heard, in order, with what the table knows."""
    return {name: table.get(name, Speaker()) for name in sorted({file.speaker for file in files})}


def read_metadata(path: Path) -> dict[str, Speaker]:
    """AudioMNIST's JSON of speakers; an absent file knows nobody."""
    if not path.exists():
        return {}
    try:
        meta = json.loads(path.read_text())
        return {name: _speaker(entry) for name, entry in meta.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is not AudioMNIST's table of speakers ({reason}); restore or remove it.") from None


def _speaker(entry: dict) -> Speaker:
    age = str(entry.get("age", ""))
    return Speaker(
        sex=str(entry.get("gender", "unknown")).lower(),
        accent=str(entry.get("accent", "unknown")).strip().capitalize() or "unknown",
        age=int(age) if re.fullmatch("[0-9]{1,3}", age) and int(age) < 120 else None,
    )
