"""Readers of data sets: each lists the sound files in the layout of its data set."""

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

# Lists of paths in Google's Speech Commands; all other clips are for training.
OFFICIAL_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}

UNKNOWN_SPEAKER = "unknown"  # of files without a speaker in their name


@dataclass(frozen=True, order=True)
class Recording:
    """A sound file of a source, not yet read.

    It has the label (an index), the speaker, the take number, the path, the size in bytes, and the modification time in
    nanoseconds. It sorts by label first, because the cache groups clips by label.
    """

    label: int
    speaker: str
    take: int
    path: str  # relative to the root
    num_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Recordings:
    """The sorted files of a source, such as a data set, not yet read, with the names of their labels and speakers."""

    source: str
    root: Path
    files: tuple[Recording, ...]
    label_names: tuple[str, ...]
    speakers: dict[str, Speaker]
    skipped: tuple[str, ...] = ()  # a sentence for each bad file that was left out
    empty: tuple[str, ...] = ()  # folders of words without sounds
    left_out: dict[str, int] = field(default_factory=dict)  # number of other files by kind
    official: dict[str, frozenset[str]] = field(default_factory=dict)  # see `Clips.official`

    def unread(self) -> Clips:
        """Returns the files as clips without samples, which is sufficient for a split into training and test."""
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


class Faults:
    """The faults of single files: `on_bad_file` "stop" raises InputError at the first one, "skip" collects them.

    `sentences` has the collected ones.
    """

    def __init__(self, on_bad_file: str):
        self.skip, self.sentences = on_bad_file == "skip", list[str]()

    def add(self, sentence: str) -> None:
        """Adds a fault: a sentence without a full stop that names the file and the fix."""
        if not self.skip:
            raise InputError(f"{sentence}, or leave it out: --config.data.on_bad_file=skip.")
        self.sentences.append(sentence)

    def add_all(self, sentences: Iterable[str]) -> None:
        """Adds several faults, a sentence each."""
        for sentence in sentences:
            self.add(sentence)


def audiomnist(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """Lists the files of AudioMNIST, github.com/soerenab/AudioMNIST, in the folder `root`.

    They are `data/SS/D_SS_T.wav`, with speaker, digit and take, and the table of speakers `data/audioMNIST_meta.txt`.
    Speakers are two-digit strings, "01" to "60". The sex, accent and age of speakers who are not in the table (17, 22
    and 34 in an early copy) are unknown, as are ages that are not numbers below 120. For a file with another name,
    `on_bad_file` "stop" raises InputError, and "skip" leaves it out.
    """
    root, faults = Path(root).expanduser(), Faults(on_bad_file)
    name = re.compile(r"data/(?P<speaker>\d\d)/(?P<label>[0-9])_(?P=speaker)_(?P<take>\d{1,9})\.\w+")
    layout = "data/SS/D_SS_T.wav, as in data/01/0_01_0.wav"
    files, found = list_digits(root, root / "data", name, layout, faults)
    speakers = speakers_of(files, read_metadata(root / "data" / "audioMNIST_meta.txt"))
    skipped = tuple(faults.sentences)
    return Recordings("audiomnist", root, files, DIGITS, speakers, skipped, left_out=dict(found.left_out))


def fsdd(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """Lists the files of the Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset, in `root`.

    They are `recordings/D_name_T.wav`, with digit, speaker and take. For a file with another name, `on_bad_file` "stop"
    raises InputError, and "skip" leaves it out.
    """
    root, faults = Path(root).expanduser(), Faults(on_bad_file)
    name = re.compile(r"recordings/(?P<label>[0-9])_(?P<speaker>[^/_]+)_(?P<take>\d{1,9})\.\w+")
    layout = "recordings/D_name_T.wav, as in recordings/0_jackson_0.wav"
    files, found = list_digits(root, root / "recordings", name, layout, faults)
    accents = {"jackson": "USA", "theo": "USA", "nicolas": "Belgium, French", "george": "Greece"}
    accents |= {"yweweler": "Germany", "lucas": "Germany"}
    names = {file.speaker for file in files}
    table = {name: Speaker("male", accents[name.lower()]) for name in names if name.lower() in accents}
    speakers, skipped = speakers_of(files, table), tuple(faults.sentences)
    return Recordings("fsdd", root, files, DIGITS, speakers, skipped, left_out=dict(found.left_out))


def folder(root: Path | str, on_bad_file: str = "stop") -> Recordings:
    """Lists a folder of words, `WORD/*.wav` or other sound formats; names that begin with "_" or "." are ignored.

    Speakers are known if files are named as in Google's Speech Commands, SPEAKER_nohash_TAKE.wav. The lists of
    validation and test files that Speech Commands has are read if they exist. For a sound file outside of the folders
    of words, `on_bad_file` "stop" raises InputError, and "skip" leaves it out.
    """
    root, faults = Path(root).expanduser(), Faults(on_bad_file)
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
            f"{root} holds sounds of {len(words)} words{without}; it needs at least two folders, {layout}."
        )
    files = []
    for path, stat in found:
        match = name.fullmatch(path)
        if match is None:
            faults.add(f"{root / path} is not in the folder of a word, {layout}; move or remove it")
            continue
        take = int(match["take"]) if match["take"] else takes[match["word"]]
        takes[match["word"]] += not match["take"]
        files.append(Recording(words.index(match["word"]), match["speaker"] or UNKNOWN_SPEAKER, take, path, *stat))
    return Recordings(
        "folder", root, tuple(sorted(files)), tuple(words), speakers_of(files, {}), tuple(faults.sentences),
        tuple(empty), dict(listing.left_out), _read_official(root),
    )  # fmt: skip


def _read_official(root: Path) -> dict[str, frozenset[str]]:
    """Returns the paths, without suffix, in each list of Speech Commands that exists."""
    official = {}
    for part, name in OFFICIAL_LISTS.items():
        try:
            lines = (root / name).read_text(encoding="utf-8-sig", errors="replace").split("\n")
        except OSError:
            continue
        paths = (line.strip().replace("\\", "/").removeprefix("./") for line in lines)
        official[part] = frozenset(without_suffix(path) for path in paths if path)
    return official


def list_digits(
    root: Path, where: Path, name: re.Pattern[str], layout: str, faults: Faults
) -> tuple[tuple[Recording, ...], Listing]:
    """Lists the recordings of digits below `where`, a folder in `root`, whose names have label, speaker and take.

    Args:
        root: The folder of the data set.
        where: The folder to search, with its subfolders.
        name: Matches the whole path relative to `root`; its groups are label (0 to 9), speaker and take (a number).
        layout: The layout of the names, for messages.
        faults: Collects files with another name, and files with the label, speaker and take of another file.

    Returns:
        The sorted recordings, and the listing of `where`, whose `left_out` counts everything else in it.

    Raises:
        InputError: There is no such file, or `faults` stops at the first fault.
    """
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


def speakers_of(files: Iterable[Recording], table: dict[str, Speaker]) -> dict[str, Speaker]:
    """Returns {name: metadata} of the speakers of `files`, sorted; metadata are unknown for names not in `table`."""
    return {name: table.get(name, Speaker()) for name in sorted({file.speaker for file in files})}


def read_metadata(path: Path) -> dict[str, Speaker]:
    """Reads AudioMNIST's table of speakers as {name: metadata}; it is empty if the file does not exist."""
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
