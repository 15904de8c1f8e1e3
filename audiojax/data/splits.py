"""Splits into training, validation and test set, as index arrays."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from audiojax.data import subsets
from audiojax.data.clips import Clips, copies
from audiojax.data.listing import without_suffix
from audiojax.data.sources import OFFICIAL_LISTS, UNKNOWN_SPEAKER
from audiojax.errors import InputError
from audiojax.schema import SPLIT_NAMES

# Becker et al. 2018: the folds of preprocess_data.py in github.com/soerenab/AudioMNIST. For digits, a block has 12
# speakers; for the sex it has 6, half of them women.
AUDIOMNIST_BLOCKS = (
    (28, 56, 7, 19, 35, 1, 6, 16, 23, 34, 46, 53),
    (36, 57, 9, 24, 37, 2, 8, 17, 29, 39, 48, 54),
    (43, 58, 14, 25, 38, 3, 10, 20, 30, 40, 49, 55),
    (12, 47, 59, 15, 27, 41, 4, 11, 21, 31, 44, 50),
    (26, 52, 60, 18, 32, 42, 5, 13, 22, 33, 45, 51),
)
AUDIOMNIST_SEX_BLOCKS = (
    (36, 47, 56, 2, 44, 50),
    (26, 12, 57, 25, 37, 45),
    (43, 28, 52, 48, 53, 41),
    (58, 59, 60, 7, 23, 38),
)


_MIN_CLIPS = 3  # per label in the random split: one for each part


class Impossible(InputError):
    """Raised if clips cannot be split as requested; it has the fix, and whether more clips would help."""

    def __init__(self, sentence: str, fix: str, *, too_few: bool):
        super().__init__(sentence)
        self.fix = fix  # what to do
        self.too_few = too_few  # whether more clips would help


class Split(NamedTuple):
    """The indices i64[n] of the training, validation and test clips; no clip is in two parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make(clips: Clips, *, name: str, fold: int, seed: int, num_speakers: int = 0, num_clips: int = 0) -> Split:
    """Returns the split `name` of `clips` without training clips that are copies of validation or test clips.

    A published split, which is used to compare results, keeps such clips. "folds" and "speaker" use `fold`; "random"
    and the limits use `seed`. `num_speakers` limits the training speakers, `num_clips` the clips of each part; 0 is no
    limit.
    """
    split = choose(clips, name=name, fold=fold, seed=seed, num_speakers=num_speakers, num_clips=num_clips)
    return split if is_published(clips, name) else without_copies(clips, split, name)


def without_copies(clips: Clips, split: Split, name: str) -> Split:
    """Returns the split `name` without the training clips that are copies of validation or test clips.

    Raises InputError if a label then has no training clip.
    """
    train = split.train[~copies(clips, split.train, held_out(split))]
    if len(lost := np.setdiff1d(clips.label[split.train], clips.label[train])):
        raise InputError(
            f"every training clip of {clips.label_names[lost[0]]!r} in split={name} is a copy of one in validation or "
            "test; remove the copies and add other clips."
        )
    return split._replace(train=train)


def choose(clips: Clips, *, name: str, fold: int, seed: int, num_speakers: int = 0, num_clips: int = 0) -> Split:
    """Returns the split `name` of `clips`, whose samples are not read: "random", "official", "folds" or "speaker".

    "folds" and "speaker" use `fold`; "random" and the limits use `seed`. `num_speakers` limits the training speakers,
    `num_clips` the clips of each part; 0 is no limit. Raises InputError for an unknown name or fold, and if a part, or
    a label in the training set, would be empty.
    """
    try:
        split = _parts(clips, name, fold, seed)
        if num_speakers:
            split = split._replace(
                train=subsets.fewer_speakers(clips, split.train, num_speakers=num_speakers, seed=seed)
            )
        if num_clips:
            split = Split(*(subsets.fewer_clips(clips, part, num_clips=num_clips, seed=seed) for part in split))
        _check_parts(clips, split, name)
    except Impossible as error:
        others = [other for other in SPLIT_NAMES if other != name and _is_possible(clips, other, seed)]
        fix = " or ".join([error.fix, *([f"choose split={' or split='.join(others)}"] if others else [])])
        if error.too_few and list(clips.speakers) == [UNKNOWN_SPEAKER]:
            fix = f"all {len(clips):,} clips belong to one unknown speaker and cannot be split by speaker; {fix}"
        raise Impossible(f"{error}; {fix}.", fix, too_few=error.too_few) from None
    return split


def _parts(clips: Clips, name: str, fold: int, seed: int) -> Split:
    if name not in SPLIT_NAMES:
        raise InputError(f"config.split.name is {name!r}; choose random, official, folds or speaker.")
    if fold and name in ("random", "official"):
        raise Impossible(f"config.split.fold is {fold}, but split={name} has no folds", "set it to 0", too_few=False)
    if name == "random":
        return random(clips, seed=seed)
    if name == "official":
        return official(clips)
    return folds(clips, fold=fold) if name == "folds" else speaker(clips, fold=fold)


def _check_parts(clips: Clips, split: Split, name: str) -> None:
    """Raises Impossible if a part is empty, or if the training set lacks a label that has clips."""
    for part, indices in split._asdict().items():
        if not len(indices):
            raise Impossible(
                f"split={name} leaves no clip for {part} in {clips.source}", "add clips for it", too_few=True
            )
    number = np.bincount(clips.label, minlength=len(clips.label_names))
    lacking = np.setdiff1d(clips.label, clips.label[split.train])
    if len(lacking):
        raise Impossible(
            f"{_counted(clips, lacking, number)}, none of which split={name} leaves for training, where each label "
            "needs at least 1",
            "add clips",
            too_few=True,
        )


def _counted(clips: Clips, labels: Iterable[int], number: np.ndarray) -> str:
    """Returns the names of labels with their numbers of clips, the first ten of them."""
    labels = list(labels)
    counts = [f"{clips.label_names[i]!r} has {number[i]:,} clip{'s' if number[i] != 1 else ''}" for i in labels[:10]]
    return ", ".join(counts) + (f" and {len(labels) - 10:,} more have too few" if len(labels) > 10 else "")


def _is_possible(clips: Clips, name: str, seed: int) -> bool:
    try:
        _check_parts(clips, _parts(clips, name, 0, seed), name)
    except InputError:
        return False
    return True


def is_published(clips: Clips, name: str) -> bool:
    """Returns whether the split `name` of these clips is a published one, used to compare results."""
    return name == "official" or (name == "folds" and clips.source == "audiomnist")


def held_out(split: Split) -> np.ndarray:
    """Returns the indices i64[n] of the validation and test clips."""
    return np.concatenate([split.validation, split.test])


def random(clips: Clips, *, seed: int) -> Split:
    """Returns a random split of the clips of each label: 72 % for training, 8 % for validation, 20 % for test.

    All parts have the same speakers, so that the accuracy is not an estimate for unseen speakers.
    """
    number = np.bincount(clips.label, minlength=len(clips.label_names))
    few = np.flatnonzero((number > 0) & (number < _MIN_CLIPS))
    if len(few):
        raise Impossible(
            f"{_counted(clips, few, number)}, and split=random needs {_MIN_CLIPS} of each label",
            "add clips",
            too_few=True,
        )
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in Split._fields}
    for label in range(len(clips.label_names)):
        indices = rng.permutation(np.flatnonzero(clips.label == label))
        num_test = round(0.2 * len(indices))
        num_validation = max(round(0.1 * (len(indices) - num_test)), min(1, len(indices)))
        parts["test"].append(indices[:num_test])
        parts["validation"].append(indices[num_test : num_test + num_validation])
        parts["train"].append(indices[num_test + num_validation :])
    return Split(*(rng.permutation(np.concatenate(part)) for part in parts.values()))


def official(clips: Clips) -> Split:
    """Returns the official split: of FSDD, takes 0-4 for test, 5-9 for validation, the others for training.

    Other sources have lists of their validation and test files, as Speech Commands has.
    """
    if clips.source == "fsdd":
        return Split(
            np.flatnonzero(clips.take >= 10),
            np.flatnonzero((clips.take >= 5) & (clips.take < 10)),
            np.flatnonzero(clips.take < 5),
        )
    if clips.source == "folder" or clips.official:
        return _by_lists(clips)
    raise Impossible(
        f"split=official belongs to fsdd and to sources with lists of files, not to {clips.source}",
        "choose another source",
        too_few=False,
    )


def _by_lists(clips: Clips) -> Split:
    """Returns the split whose validation and test clips are those in `clips.official`."""
    if absent := [name for part, name in OFFICIAL_LISTS.items() if part not in clips.official]:
        raise Impossible(
            f"split=official reads {' and '.join(OFFICIAL_LISTS.values())} in config.data.root, where "
            f"{' and '.join(absent)} cannot be found",
            "add what is missing",
            too_few=False,
        )
    validation, test = clips.official["validation"], clips.official["test"]
    if both := sorted(validation & test):
        raise InputError(
            f"{both[0]} and {len(both) - 1:,} other files are in both {' and '.join(OFFICIAL_LISTS.values())} in "
            "config.data.root; remove each of them from one list."
        )
    stems = [without_suffix(path) for path in clips.path]
    in_validation = np.asarray([stem in validation for stem in stems])
    in_test = np.asarray([stem in test for stem in stems])
    return Split(*(np.flatnonzero(part) for part in (~in_validation & ~in_test, in_validation, in_test)))


def folds(clips: Clips, *, fold: int) -> Split:
    """Returns a fold of five blocks of speakers: three for training, one for validation, one for test.

    With blocks A to E, fold 0 trains on A, B, C, validates on D and tests on E; fold 1 begins at B. If the label is the
    sex, there are four blocks, two for training. AudioMNIST has the blocks of its authors, for the sex of 24 speakers.
    The speakers of other sources are assigned to the blocks in turn, in order of name, or in order of sex and name.
    """
    of_sex = clips.target == "sex"
    num_blocks = 4 if of_sex else 5
    _check_fold("folds", fold, num_blocks)
    if clips.source == "audiomnist":
        numbers = AUDIOMNIST_SEX_BLOCKS if of_sex else AUDIOMNIST_BLOCKS
        blocks = [[f"{number:02d}" for number in block] for block in numbers]
        needed = set(itertools.chain(*blocks))
        if missing := sorted(needed - set(clips.speakers)):
            raise Impossible(
                f"split=folds needs all {len(needed)} speakers, and {', '.join(missing)} are absent below "
                "config.data.root",
                "complete the data",
                too_few=True,
            )
    else:
        _check_speakers(clips, "folds", num_blocks)
        names = sorted(clips.speakers, key=lambda name: (clips.speakers[name].sex if of_sex else "", name))
        blocks = [names[start::num_blocks] for start in range(num_blocks)]
    *train, validation, test = blocks[fold:] + blocks[:fold]
    return Split(_spoken_by(clips, itertools.chain(*train)), _spoken_by(clips, validation), _spoken_by(clips, test))


def speaker(clips: Clips, *, fold: int) -> Split:
    """Returns a leave-one-speaker-out split: number `fold` of the sorted speakers for test, the next for validation."""
    names = sorted(clips.speakers)
    _check_speakers(clips, "speaker", 3)
    _check_fold("speaker", fold, len(names))
    test, validation = names[fold], names[(fold + 1) % len(names)]
    rest = [name for name in names if name not in (test, validation)]
    return Split(_spoken_by(clips, rest), _spoken_by(clips, [validation]), _spoken_by(clips, [test]))


def _check_speakers(clips: Clips, name: str, number: int) -> None:
    if len(clips.speakers) >= number:
        return
    fix = "name the files SPEAKER_nohash_TAKE.wav" if clips.source == "folder" else "add speakers"
    about = f"{clips.source} has clips of {len(clips.speakers)} speakers, and split={name} needs {number}"
    raise Impossible(f"{about}: it leaves no clip for train, validation or test", fix, too_few=True)


def _check_fold(name: str, fold: int, num_folds: int) -> None:
    if not 0 <= fold < num_folds:
        raise InputError(f"config.split.fold is {fold}; split={name} has folds 0 to {num_folds - 1}.")


def _spoken_by(clips: Clips, names: Iterable[str]) -> np.ndarray:
    return np.flatnonzero(np.isin(clips.speaker, list(names)))
