"""Google's Speech Commands, versions 1 and 2 (Warden 2018, arXiv 1804.03209), and their usual tasks.

`WORD/SPEAKER_nohash_TAKE.wav`, the lists of validation and test files, and long recordings in `_background_noise_`.
"""

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np

from audiojax.data import labels, sources
from audiojax.data.clips import Clips, Speaker
from audiojax.data.download import Archive, fetch
from audiojax.data.listing import find_sounds, without_suffix
from audiojax.errors import InputError
from audiojax.schema import DIGITS

NOISE = "_background_noise_"  # the folder, and the label and the speaker of what is in it
SILENCE, UNKNOWN = "_silence_", "_unknown_"
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SHARE = 0.1  # of unknown words, and of silence, to commands in each part of the split, as in kws_streaming
SEED = 59185  # of the shuffling, also as in kws_streaming

_URL = "http://download.tensorflow.org/data/speech_commands_v0.0{}.tar.gz"
_NUM_SPEAKERS, _NUM_CLIPS = {1: 1881, 2: 2618}, {1: 64_721, 2: 105_829}  # of words, without the noises
_MEMBERS = r"[A-Za-z_]+/[^/]+\.wav|(validation|testing)_list\.txt"
_NUM_NOISES = 6


def read(root: Path | str, on_bad_file: str = "stop") -> sources.Recordings:
    """Lists the files of Speech Commands in `root`: those of words, and background noises, if any, with the last label.

    For a sound file outside of the folders of words, `on_bad_file` "stop" raises InputError, and "skip" leaves it out.
    """
    words = sources.folder(root, on_bad_file)
    folder, label = words.root / NOISE, len(words.label_names)
    found = find_sounds(words.root, folder, f"{NOISE}/*.wav").sounds if folder.is_dir() else []
    noises = [sources.Recording(label, NOISE, take, path, *stat) for take, (path, stat) in enumerate(found)]
    return dataclasses.replace(
        words,
        source="speech_commands",
        files=(*words.files, *noises),
        label_names=(*words.label_names, *[NOISE][: len(noises)]),
        speakers=words.speakers | dict.fromkeys([NOISE][: len(noises)], Speaker()),
        left_out={what: number for what, number in words.left_out.items() if "begins with _" not in what},
    )


def choose(clips: Clips, target: str) -> Clips:
    """Returns the labelled clips for a target: all words ("words35"), ten digits ("digit") or ten commands ("words12").

    "words12" also has the labels of unknown words and of silence, each with a tenth as many clips as the commands, in
    each part of the official split. As in kws_streaming, silence is a random second of a background noise at a random
    volume, and unknown words are a random sample of the other words. `noises` of the result are the background noises.
    Raises InputError if words, or noises that silence needs, are missing.
    """
    words = [name for name in clips.label_names if name != NOISE]
    clips = dataclasses.replace(clips, noises=_noises(clips))
    wanted = {"words35": tuple(words), "digit": DIGITS, "words12": COMMANDS}[target]
    if absent := sorted(set(wanted) - set(words)):
        raise InputError(
            f"config.data.target is {target!r}, but {clips.source} has no {', '.join(absent)}; choose "
            "--config.data.target=words35, which uses the words that are present."
        )
    names = np.asarray(clips.label_names)[clips.label]
    chosen = np.flatnonzero(np.isin(names, wanted))
    if target != "words12":
        return _labelled(labels.some(clips, chosen), tuple(names[chosen]), wanted, target)
    if NOISE not in clips.label_names:
        raise InputError(f"config.data.target is 'words12', but config.data.root has no {NOISE}; restore that folder.")
    rng, kept, silent = np.random.default_rng(SEED), [chosen], list[tuple[str, np.ndarray]]()
    for part, indices in _parts(clips).items():
        number = math.ceil(SHARE * np.isin(indices, chosen).sum())
        others = indices[~np.isin(names[indices], (*wanted, NOISE))]
        kept.append(rng.permutation(others)[:number])
        silent += [(f"{SILENCE}/{part}/{i}", sound) for i, sound in enumerate(_silence(clips, number, rng))]
    indices = np.sort(np.concatenate(kept))
    words_of = [name if name in wanted else UNKNOWN for name in names[indices]]
    made = Clips.unlabelled([sound for _, sound in silent], clips.rate_hz)
    made = dataclasses.replace(made, source=clips.source, path=tuple(path for path, _ in silent))
    both = labels.some(clips, indices).joined(dataclasses.replace(made, speaker=np.full(len(made), NOISE)))
    both = dataclasses.replace(both, key=clips.key, speakers=both.speakers | {NOISE: clips.speakers[NOISE]})
    task = _labelled(both, (*words_of, *[SILENCE] * len(made)), (*wanted, UNKNOWN, SILENCE), target)
    official = {
        part: stems | {path for path in made.path if f"/{part}/" in path} for part, stems in task.official.items()
    }
    return dataclasses.replace(task, official=official)


def _labelled(clips: Clips, words: tuple[str, ...], names: tuple[str, ...], target: str) -> Clips:
    """Returns `clips` with the labels `words`, of `names`, and the official lists of those clips."""
    stems = {without_suffix(path) for path in clips.path}
    return dataclasses.replace(
        clips,
        label=np.asarray([names.index(word) for word in words], np.int32),
        label_names=names,
        target=target,
        key=hashlib.sha256(f"{clips.key} {target}".encode()).hexdigest(),
        official={part: paths & stems for part, paths in clips.official.items()},
    )


def _parts(clips: Clips) -> dict[str, np.ndarray]:
    """Returns the indices of the words in each part of the official split; all are for training without its lists."""
    stems, parts = np.asarray([without_suffix(path) for path in clips.path]), {}
    rest = np.ones(len(clips), bool)
    for part, paths in clips.official.items():
        listed = np.isin(stems, list(paths))
        parts[part], rest = np.flatnonzero(listed), rest & ~listed
    return parts | {"train": np.flatnonzero(rest)}


def _noises(clips: Clips) -> tuple[np.ndarray, ...]:
    """Returns the background noises among the clips, i16[t] each."""
    return tuple(clips[index] for index in np.flatnonzero(clips.speaker == NOISE).tolist())


def _silence(clips: Clips, number: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns i16[rate_hz] of random background noises, each at a random volume; shorter where the noise is."""
    sounds = []
    for _ in range(number):
        noise = clips.noises[rng.integers(len(clips.noises))]
        start = rng.integers(max(len(noise) - clips.rate_hz, 0) + 1)
        sounds.append(np.rint(noise[start : start + clips.rate_hz] * rng.uniform()).astype(np.int16))
    return sounds


def download(root: Path, url: str | None = None) -> sources.Recordings:
    """Downloads Speech Commands into `root`, unless it exists, and returns its recordings.

    It is version 2, or version 1 if `url`, another URL of the archive, contains "v0.01".
    """
    version = 1 if url and "v0.01" in url else 2
    by_hand = f"download {_URL.format(version)}, and tar -xzf it in DIR"
    archive = Archive(
        "speech_commands",
        _URL.format(version),
        by_hand,
        _MEMBERS,
        _NUM_SPEAKERS[version] + 1,  # the speaker of the noises
        _NUM_CLIPS[version] + _NUM_NOISES,
        read,
    )
    return fetch(archive, root, url)
