"""Recordings of several words each, with start and end times of the words, listed in `strings.csv`.

The list has the columns file, speaker and words, and a row for each sound file. "words" has LABEL:START:END for each
word to be recognised, in seconds, separated by spaces; for the label "?" see `UNSURE`. LABEL*2 is a word that counts
twice, as in "double five", and LABEL*3 three times. A row may have no words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiojax.data.clips import Clips, Speaker
from audiojax.data.listing import listed_stat, read_table
from audiojax.data.sources import Recording, Recordings
from audiojax.errors import InputError

LIST, COLUMNS = "strings.csv", ("file", "speaker", "words")
UNSURE = "?"  # the label of a word that may or may not be one of the labels; the loss ignores it

Timed = tuple[str, float, float, int]  # label, start and end of a word in seconds, and how many times it counts


@dataclass(frozen=True)
class StringRecordings:
    """Clips with several words each; `words` maps the path of a clip to its words with their times, sorted by end."""

    clips: Clips
    words: dict[str, tuple[Timed, ...]]


def load(root: Path | str, label_names: Sequence[str], cached: Callable[[Recordings], Clips]) -> StringRecordings:
    """Returns the recordings of several words that `root`/strings.csv lists.

    `label_names` are the labels that words may have; `cached` reads the files and returns their clips. Raises
    InputError if the list or a file is missing, or if a row is invalid.
    """
    root = Path(root).expanduser()
    words, files = {}, []
    for take, row in enumerate(read_table(root / LIST, COLUMNS, "streams.strings")):
        words[row["file"]] = _timed(row, root / LIST, (*label_names, UNSURE))
        files.append(Recording(0, row["speaker"], take, row["file"], *listed_stat(root, row["file"], LIST)))
    speakers = {name: Speaker() for name in sorted({file.speaker for file in files})}
    recordings = Recordings("strings", root, tuple(sorted(files)), ("string",), speakers)
    return StringRecordings(cached(recordings), words)


def _timed(row: dict[str, str], path: Path, names: Sequence[str]) -> tuple[Timed, ...]:
    """Returns the words of a row, sorted by their end."""
    words = []
    for word in row["words"].split():
        try:
            label, start, end = word.split(":")
            label, mark, count = label.partition("*")
            timed = label, float(start), float(end), int(count) if mark else 1
        except ValueError:
            timed = "", 0.0, 0.0, 0
        if timed[0] not in names or not 0 <= timed[1] < timed[2] < float("inf") or timed[3] not in (1, 2, 3):
            raise InputError(
                f"{path} has the invalid word {word!r} for {row['file']}; write LABEL:START:END, or "
                'LABEL*2:START:END for a word that counts twice, as in "double five"; START and END in seconds, '
                f"LABEL one of {', '.join(names)}."
            )
        words.append(timed)
    return tuple(sorted(words, key=lambda word: word[2]))
