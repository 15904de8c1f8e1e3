"""Lists the sound files of a data set, whose folders have a layout of their own."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiojax.data.clips import Clips, Speaker
from audiojax.data.listing import Listing, find_sounds, without_suffix
from audiojax.errors import InputError
from audiojax.schema import DIGITS

# Google's Speech Commands come with these lists of paths; all other clips are for training.
OFFICIAL_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}

UNKNOWN_SPEAKER = "unknown"  # of files whose name does not tell it


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
    empty: tuple[str, ...] = ()  # folders of words without a sound
    left_out: dict[str, int] = field(default_factory=dict)  # how many of what else, by kind
    official: dict[str, frozenset[str]] = field(default_factory=dict)  # see `Clips.official`

    def unread(self) -> Clips:
        """Returns the clips as far as their names tell, without sound: all that a split needs."""
        return Clips(
            source=self.source,
            rate_hz=0,
            samples=np.empty(0, np.int16),
            offsets=np.zeros(len(self.files) + 1, np.int64),
            label=np.asarray([file.label for file in self.files], np.int32),
            speaker=np.asarray([file.speaker for file in self.files]),
            take=np.asarray([file.take for file in self.files], np.int32),
            path=tuple(file.path for file in self.files),
            label_names=self.label_names,
            speakers=self.speakers,
            key="",
            official=self.official,
        )


class _Faults:
    """What is wrong with single files: the first one raises, or, where bad files are to be skipped, all are kept."""

    def __init__(self, on_bad_file: str):
        self.skip, self.sentences = on_bad_file == "skip", list[str]()

    def add(self, sentence: str) -> None:
        if not self.skip:
            raise InputError(f"{sentence}, or go on without it: --config.data.on_bad_file=skip.")
        self.sentences.append(sentence)

    def add_all(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self.add(sentence)


def audiomnist(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """AudioMNIST as its authors lay it out: `data/SS/D_SS_T.wav` and `data/audioMNIST_meta.txt`.

    Speakers are two-digit strings, "01" to "60". Those the metadata lacks (an early copy has no 17, 22 and 34) stay
    unknown; ages come as int, as string, and as "1234" (unknown). Source: github.com/soerenab/AudioMNIST.
    """
    root, faults = Path(root).expanduser(), _Faults(on_bad_file)
    name = re.compile(r"data/(?P<speaker>\d\d)/(?P<label>[0-9])_(?P=speaker)_(?P<take>\d{1,9})\.\w+")
    layout = "data/SS/D_SS_T.wav, as in data/01/0_01_0.wav"
    files, found = _digits(root, root / "data", name, layout, faults)
    speakers = _speakers(files, read_metadata(root / "data" / "audioMNIST_meta.txt"))
    skipped = tuple(faults.sentences)
    return Recordings("audiomnist", root, files, DIGITS, speakers, skipped, left_out=dict(found.left_out))


def fsdd(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """The Free Spoken Digit Dataset: `recordings/D_name_T.wav`.

    Source: github.com/Jakobovski/free-spoken-digit-dataset.
    """
    root, faults = Path(root).expanduser(), _Faults(on_bad_file)
    name = re.compile(r"recordings/(?P<label>[0-9])_(?P<speaker>[^/_]+)_(?P<take>\d{1,9})\.\w+")
    layout = "recordings/D_name_T.wav, as in recordings/0_jackson_0.wav"
    files, found = _digits(root, root / "recordings", name, layout, faults)
    accents = {"jackson": "USA", "theo": "USA", "nicolas": "Belgium, French", "george": "Greece"}
    accents |= {"yweweler": "Germany", "lucas": "Germany"}
    names = {file.speaker for file in files}
    table = {name: Speaker("male", accents[name.lower()]) for name in names if name.lower() in accents}
    speakers, skipped = _speakers(files, table), tuple(faults.sentences)
    return Recordings("fsdd", root, files, DIGITS, speakers, skipped, left_out=dict(found.left_out))


def folder(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """Any words: `WORD/*.wav`, or any other type that `sound_files` reads; a folder whose name begins with "_" or "."
    is no word.

    Speakers are known where files are named as in Google's Speech Commands, SPEAKER_nohash_TAKE.wav, whose lists of
    validation and test files are read where they are there.
    """
    root, faults = Path(root).expanduser(), _Faults(on_bad_file)
    layout = "WORD/*.wav, a folder for each word"
    listing = find_sounds(root, root, layout)
    faults.add_all(listing.faults)
    found = [item for item in listing.sounds if not item[0].startswith("_")]
    if no_words := len(listing.sounds) - len(found):
        listing.left_out["sounds in folders whose name begins with _"] = no_words
    name = re.compile(r"(?P<word>[^/]+)/(?:(?P<speaker>[^/]+)_nohash_(?P<take>\d{1,9})|[^/]+)\.\w+")
    takes: Counter[str] = Counter()
    words = sorted({path.partition("/")[0] for path, _ in found if path.count("/") == 1})
    folders = {path for path in listing.folders if path != "." and "/" not in path and not path.startswith("_")}
    empty = sorted(folders - set(words))
    if len(words) < 2:
        without = f" ({', '.join(empty)} without any)" if empty else ""
        raise InputError(
            f"{root} holds sounds of {len(words)} words{without}; it takes at least two folders, {layout}."
        )
    files = []
    for path, stat in found:
        match = name.fullmatch(path)
        if match is None:
            faults.add(f"{root / path} does not lie in the folder of a word, {layout}; move or remove it")
            continue
        take = int(match["take"]) if match["take"] else takes[match["word"]]
        takes[match["word"]] += not match["take"]
        files.append(Recording(words.index(match["word"]), match["speaker"] or UNKNOWN_SPEAKER, take, path, *stat))
    return Recordings(
        "folder", root, tuple(sorted(files)), tuple(words), _speakers(files, {}), tuple(faults.sentences),
        tuple(empty), dict(listing.left_out), _read_official(root),
    )  # fmt: skip


def _read_official(root: Path) -> dict[str, frozenset[str]]:
    """Returns the paths, without suffix, that each list of Speech Commands names; none where a list is absent."""
    official = {}
    for part, name in OFFICIAL_LISTS.items():
        try:
            lines = (root / name).read_text(encoding="utf-8-sig", errors="replace").split("\n")
        except OSError:
            continue
        paths = (line.strip().replace("\\", "/").removeprefix("./") for line in lines)
        official[part] = frozenset(without_suffix(path) for path in paths if path)
    return official


def _digits(
    root: Path, where: Path, name: re.Pattern[str], layout: str, faults: _Faults
) -> tuple[tuple[Recording, ...], Listing]:
    """Every sound below `where` whose relative path is a `name` with its label, speaker and take, sorted."""
    files: dict[tuple[Any, ...], Recording] = {}
    found = find_sounds(root, where, layout)
    faults.add_all(found.faults)
    for path, stat in found.sounds:
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
    return tuple(sorted(files.values())), found


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


def _speaker(entry: dict[str, Any]) -> Speaker:
    age = str(entry.get("age", ""))
    return Speaker(
        sex=str(entry.get("gender", "unknown")).lower(),
        accent=str(entry.get("accent", "unknown")).strip().capitalize() or "unknown",
        age=int(age) if re.fullmatch("[0-9]{1,3}", age) and int(age) < 120 else None,
    )
