"""Who learns and who is asked: seeded index arrays, always train, validation and test."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from audiojax.data.listing import without_suffix
from audiojax.data.sources import OFFICIAL_LISTS
from audiojax.types import Clips, InputError

# Becker et al. 2018: the folds of preprocess_data.py in github.com/soerenab/AudioMNIST. For digits 12 speakers a block;
# for the sex 6, of which half are women.
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


class Split(NamedTuple):
    """Indices into Clips, i64 each, that do not overlap."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def make(clips: Clips, *, name: str, fold: int, seed: int, num_speakers: int = 0) -> Split:
    """The split `name` of `clips`. `fold` is read by `folds` and `speaker`, `seed` by `random`.

    With `num_speakers` only that many of the training speakers, drawn by `seed`, are learnt from: see `fewer_speakers`.

    Raises InputError for a name or fold that does not exist, and where a part would be empty.
    """
    if fold and name in ("random", "official"):
        raise InputError(f"config.split.fold is {fold}, but split={name} has no folds; choose folds or speaker.")
    if name == "random":
        split = random(clips, seed=seed)
    elif name == "official":
        split = official(clips)
    elif name == "folds":
        split = folds(clips, fold=fold)
    elif name == "speaker":
        split = speaker(clips, fold=fold)
    else:
        raise InputError(f"config.split.name is {name!r}; choose random, official, folds or speaker.")
    if num_speakers:
        split = split._replace(train=fewer_speakers(clips, split.train, num_speakers=num_speakers, seed=seed))
    for part, indices in split._asdict().items():
        if not len(indices):
            raise InputError(f"split {name!r} leaves no clip for {part} in {clips.source}; choose another split.")
    return split


def random(clips: Clips, *, seed: int) -> Split:
    """80/20 inside each label, then both shuffled, as the seed project did; a tenth of the 80 is for validation.

    Speakers are on all sides: never quote it for a speaker who was not heard in training.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {part: [] for part in Split._fields}
    for label in range(len(clips.label_names)):
        indices = rng.permutation(np.flatnonzero(clips.label == label))
        num_test = round(0.2 * len(indices))
        num_validation = round(0.1 * (len(indices) - num_test))
        parts["test"].append(indices[:num_test])
        parts["validation"].append(indices[num_test : num_test + num_validation])
        parts["train"].append(indices[num_test + num_validation :])
    return Split(*(rng.permutation(np.concatenate(part)) for part in parts.values()))


def official(clips: Clips) -> Split:
    """FSDD's own: takes 0-4 are the test set. Takes 5-9 are for validation, the others for training.

    That of a folder of words is in the lists that Speech Commands comes with.
    """
    if clips.source == "folder":
        return _by_lists(clips)
    if clips.source != "fsdd":
        raise InputError(f"split=official belongs to fsdd, not to {clips.source}; choose folds, speaker or random.")
    return Split(
        np.flatnonzero(clips.take >= 10),
        np.flatnonzero((clips.take >= 5) & (clips.take < 10)),
        np.flatnonzero(clips.take < 5),
    )


def _by_lists(clips: Clips) -> Split:
    """Returns the split whose validation and test clips are those that `clips.official` names."""
    if absent := [name for part, name in OFFICIAL_LISTS.items() if part not in clips.official]:
        raise InputError(
            f"split=official reads {' and '.join(OFFICIAL_LISTS.values())} in config.data.root, where "
            f"{' and '.join(absent)} cannot be found; add what is missing, or choose folds, speaker or random."
        )
    validation, test = clips.official["validation"], clips.official["test"]
    if both := sorted(validation & test):
        raise InputError(
            f"{both[0]} is named by {' and by '.join(OFFICIAL_LISTS.values())} in config.data.root, as "
            f"{len(both) - 1:,} others are; remove it from one of them."
        )
    stems = [without_suffix(path) for path in clips.path]
    in_validation = np.asarray([stem in validation for stem in stems])
    in_test = np.asarray([stem in test for stem in stems])
    return Split(*(np.flatnonzero(part) for part in (~in_validation & ~in_test, in_validation, in_test)))


def folds(clips: Clips, *, fold: int) -> Split:
    """Five blocks of speakers, three to train, one to validate, one to test; fold 0 is ABC/D/E, fold 1 is BCD/E/A.
    Where the sex is learnt there are four: fold 0 is ab/c/d.

    AudioMNIST has the blocks its authors published, which for the sex are of 24 speakers; another source deals its
    speakers out in turn, in order of name, and where the sex is learnt one sex after the other.
    """
    of_sex = clips.target == "sex"
    num_blocks = 4 if of_sex else 5
    _check_fold("folds", fold, num_blocks)
    if clips.source == "audiomnist":
        numbers = AUDIOMNIST_SEX_BLOCKS if of_sex else AUDIOMNIST_BLOCKS
        blocks = [[f"{number:02d}" for number in block] for block in numbers]
        wanted = set(itertools.chain(*blocks))
        if missing := sorted(wanted - set(clips.speakers)):
            raise InputError(
                f"split=folds needs all {len(wanted)} speakers, and {', '.join(missing)} are absent below "
                "config.data.root; complete the data or use split=speaker."
            )
    else:
        names = sorted(clips.speakers, key=lambda name: (clips.speakers[name].sex if of_sex else "", name))
        blocks = [names[start::num_blocks] for start in range(num_blocks)]
    *train, validation, test = blocks[fold:] + blocks[:fold]
    return Split(_spoken_by(clips, itertools.chain(*train)), _spoken_by(clips, validation), _spoken_by(clips, test))


def speaker(clips: Clips, *, fold: int) -> Split:
    """Leave one speaker out: number `fold` in order of name is the test, the next one the validation."""
    names = sorted(clips.speakers)
    _check_fold("speaker", fold, len(names))
    test, validation = names[fold], names[(fold + 1) % len(names)]
    rest = [name for name in names if name not in (test, validation)]
    return Split(_spoken_by(clips, rest), _spoken_by(clips, [validation]), _spoken_by(clips, [test]))


def fewer_speakers(clips: Clips, train: np.ndarray, *, num_speakers: int, seed: int) -> np.ndarray:
    """Those of the indices `train` whose speakers are the first `num_speakers` of an order drawn by `seed`.

    The sexes take turns in that order until one of them ends, so that few speakers are balanced where they can be, and
    a larger number of the same seed holds the smaller. Raises InputError where there are fewer speakers.
    """
    there = sorted(set(clips.speaker[train].tolist()))
    if num_speakers > len(there):
        raise InputError(f"config.split.num_speakers is {num_speakers}, more than the {len(there)} who train.")
    drawn = np.random.default_rng([seed, 36]).permutation(there).tolist()
    sexes = sorted({clips.speakers[name].sex for name in drawn}, key=[clips.speakers[n].sex for n in drawn].index)
    lines = [[name for name in drawn if clips.speakers[name].sex == sex] for sex in sexes]
    order = [name for turn in itertools.zip_longest(*lines) for name in turn if name is not None]
    return train[np.isin(clips.speaker[train], order[:num_speakers])]


def _check_fold(name: str, fold: int, num_folds: int) -> None:
    if not 0 <= fold < num_folds:
        raise InputError(f"config.split.fold is {fold}; split={name} has folds 0 to {num_folds - 1}.")


def _spoken_by(clips: Clips, names: Iterable[str]) -> np.ndarray:
    return np.flatnonzero(np.isin(clips.speaker, list(names)))
