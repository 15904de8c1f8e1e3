"""Lists the sound files below a folder, or in a table, and counts other files."""

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from audiojax.errors import InputError

# Formats that are usually not sound (Matlab) or that do not state their sampling rate.
_NOT_LISTED = {"raw", "mat4", "mat5"}
_OTHER_SUFFIXES = ["aif", "aifc", "au", "snd", "oga", "opus", "mp1", "mp2", "wave", "sph", "8svx", "iff", "sf"]
# Formats that libsndfile does not read: they are listed, so that reading them raises an error with the fix.
_UNREADABLE = [
    "m4a",
    "m4b",
    "mp4",
    "aac",
    "webm",
    "weba",
    "wma",
    "amr",
    "3gp",
    "3ga",
    "ape",
    "wv",
    "mka",
    "ac3",
    "spx",
    "ra",
    "tta",
    "dsf",
]
_READABLE = {name.lower() for name in soundfile.available_formats()} - _NOT_LISTED
SUFFIXES = frozenset(f".{name}" for name in (*_READABLE, *_OTHER_SUFFIXES, *_UNREADABLE))
# Files and folders of operating systems, archives, shells and notebooks; "." is for ._x.wav, .DS_Store,
# .ipynb_checkpoints, .Trashes and others.
_LEFT_BEHIND = re.compile(
    r"\..*|__MACOSX|(eh)?thumbs\w*\.db|desktop\.ini|icon\r|[@#](eaDir|tmp|recycle|recently-snapshot)|\$RECYCLE\.BIN"
    r"|System Volume Information|lost\+found|__pycache__|Network Trash Folder|Temporary Items|~.*|.*~|#.*#",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class Listing:
    """The sound files and subfolders of a folder. Paths are relative to the root of the data set, with "/"."""

    # (path, (size in bytes, modification time in ns)), sorted
    sounds: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)  # without links to a listed folder
    faults: list[str] = field(default_factory=list)  # a sentence, without full stop, for each invalid entry
    left_out: Counter[str] = field(default_factory=Counter)  # number of other entries by kind


def find_sounds(root: Path, where: Path, layout: str) -> Listing:
    """Lists the sound files below `where`, which are recognised by their suffix; follows links.

    Paths are relative to `root`. A folder with several links to it is listed once, by its own path if that is below
    `where`; links may form loops. Raises InputError, with `layout` as a description of the expected content, if there
    are no sound files.
    """
    if not where.is_dir():
        raise InputError(f"{where} is not a folder; set --config.data.root to the folder that has {layout}.")
    found, seen = Listing(), {str(above) for above in Path(os.path.realpath(where)).parents}
    folders, links = [str(where)], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(folder)) in seen:
            found.left_out["links to a folder that is listed already"] += 1
            continue
        seen.add(real)
        found.folders.append(_relative(folder, root))
        for entry in _entries(folder, found):
            if not entry.is_dir():
                _add_file(entry, root, found)
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                folders.append(entry.path)
        links.sort()
    if not found.sounds and not found.faults:
        raise InputError(f"{where} holds no sound files; set --config.data.root to the folder that has {layout}.")
    found.sounds.sort()
    return found


def is_sound(name: str) -> bool:
    """Returns whether the suffix of a name is that of a sound file."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def without_suffix(path: str) -> str:
    """Returns a path without its last suffix."""
    return os.path.splitext(path)[0]


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _entries(folder: str, found: Listing) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder without system files and broken links."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); change its permissions, or set another root."
        ) from None
    valid = []
    for entry in listed:
        if _LEFT_BEHIND.fullmatch(entry.name):
            found.left_out["hidden files and folders, or of a system or tool"] += 1
            continue
        try:
            entry.stat()
        except OSError as error:
            found.faults.append(
                f"{entry.path} cannot be followed ({error.strerror}); restore the target of the link, or remove it"
            )
            continue
        valid.append(entry)
    return valid


def _add_file(entry: os.DirEntry[str], root: Path, found: Listing) -> None:
    about = entry.stat()
    if not is_sound(entry.name):
        found.left_out["files that are not sound"] += 1
    elif not stat.S_ISREG(about.st_mode):
        found.faults.append(f"{entry.path} is not a regular file; remove it")
    elif _has_suffix_twice(entry.name):
        found.faults.append(f"{entry.path} has its suffix twice; rename it")
    else:
        found.sounds.append((_relative(entry.path, root), (about.st_size, about.st_mtime_ns)))


def _has_suffix_twice(name: str) -> bool:
    stem, last = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] == last


def read_table(path: Path, columns: Sequence[str], key: str) -> list[dict[str, str]]:
    """Returns the rows of a CSV file as {column: text}; the first of `columns` has the paths of sound files.

    Raises InputError if the file is missing or damaged; the message names `key`, the config key of its folder.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); see --config.{key}.") from None
    if not found or not set(columns) <= found[0].keys():
        raise InputError(f"{path} lacks some of the columns {', '.join(columns)}; restore the file.")
    for row in found:
        if None in row.values():
            raise InputError(f"{path} has too few columns in the row of {row[columns[0]]!r}; restore the file.")
    return found


def listed_stat(root: Path, name: str, table: str) -> tuple[int, int]:
    """Returns the size in bytes and the modification time in ns of the file `name`, which `table` lists.

    Raises InputError if it is missing.
    """
    try:
        found = (root / name).stat()
    except OSError:
        raise InputError(f"{root / name}, which {table} lists, is not there; restore it or remove its row.") from None
    return found.st_size, found.st_mtime_ns
