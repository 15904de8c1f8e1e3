"""Finds the sound files below a folder, and counts what else lies there."""

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from audiojax.errors import InputError

# Formats that are no sound for most who have such files (Matlab's), or that say nothing of their rate.
_NOT_LISTED = {"raw", "mat4", "mat5"}
_OTHER_SUFFIXES = ["aif", "aifc", "au", "snd", "oga", "opus", "mp1", "mp2", "wave", "sph", "8svx", "iff", "sf"]
# Sounds that libsndfile does not read: they are listed, so that its reader says what to do about them.
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
# Files and folders that operating systems, archives, shells and notebooks leave behind; "." begins ._x.wav, .DS_Store,
# .ipynb_checkpoints, .Trashes and others.
_LEFT_BEHIND = re.compile(
    r"\..*|__MACOSX|(eh)?thumbs\w*\.db|desktop\.ini|icon\r|[@#](eaDir|tmp|recycle|recently-snapshot)|\$RECYCLE\.BIN"
    r"|System Volume Information|lost\+found|__pycache__|Network Trash Folder|Temporary Items|~.*|.*~|#.*#",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class Listing:
    """What lies below a folder. Paths are relative to the data set's root, with "/"."""

    sounds: list[tuple[str, tuple[int, int]]] = field(default_factory=list)  # (path, (bytes, modified)), sorted
    folders: list[str] = field(default_factory=list)  # that are no link to one which is listed already
    faults: list[str] = field(default_factory=list)  # a sentence, without its full stop, for each broken entry
    left_out: Counter[str] = field(default_factory=Counter)  # how many of what kind


def find_sounds(root: Path, where: Path, layout: str) -> Listing:
    """Lists every sound file below `where`, by its suffix in any case, through links too.

    A folder that several links lead to is listed once, under its own path where it lies below `where` itself, so that
    links may form loops, also with a folder above. `layout` describes what should be there, for messages.
    """
    if not where.is_dir():
        raise InputError(f"{where} is not a folder; set --config.data.root to the folder that holds {layout}.")
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
        raise InputError(f"{where} holds no sound files; set --config.data.root to the folder that holds {layout}.")
    found.sounds.sort()
    return found


def is_sound(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def without_suffix(path: str) -> str:
    return os.path.splitext(path)[0]


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix()


def _entries(folder: str, found: Listing) -> list[os.DirEntry[str]]:
    """Returns what a folder holds, without what is left behind there and what cannot be followed."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}); set its rights, or another root."
        ) from None
    there = []
    for entry in listed:
        if _LEFT_BEHIND.fullmatch(entry.name):
            found.left_out["hidden files and folders, or left behind by a system or tool"] += 1
            continue
        try:
            entry.stat()
        except OSError as error:
            found.faults.append(
                f"{entry.path} cannot be followed ({error.strerror}); restore what it links to, or remove it"
            )
            continue
        there.append(entry)
    return there


def _add_file(entry: os.DirEntry[str], root: Path, found: Listing) -> None:
    about = entry.stat()
    if not is_sound(entry.name):
        found.left_out["files that are no sound"] += 1
    elif not stat.S_ISREG(about.st_mode):
        found.faults.append(f"{entry.path} is not a regular file; remove it")
    elif _has_suffix_twice(entry.name):
        found.faults.append(f"{entry.path} has its suffix twice, so that its name does not say what it is; rename it")
    else:
        found.sounds.append((_relative(entry.path, root), (about.st_size, about.st_mtime_ns)))


def _has_suffix_twice(name: str) -> bool:
    stem, last = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] == last
