"""Random subsets of the clips of a split: of fewer speakers, or of fewer clips."""

import itertools

import numpy as np

from audiojax.data.clips import Clips
from audiojax.errors import InputError


def fewer_speakers(clips: Clips, train: np.ndarray, *, num_speakers: int, seed: int) -> np.ndarray:
    """Returns the indices of `train` whose speakers are the first `num_speakers` of a random order.

    The sexes alternate in that order while both have speakers. The speakers of a smaller number are a subset of those
    of a larger one with the same seed. Raises InputError if there are fewer speakers.
    """
    names = sorted(set(clips.speaker[train].tolist()))
    if num_speakers > len(names):
        raise InputError(f"config.split.num_speakers is {num_speakers}, more than the {len(names)} training speakers.")
    shuffled = np.random.default_rng([seed, 36]).permutation(names).tolist()
    sexes = sorted({clips.speakers[name].sex for name in shuffled}, key=[clips.speakers[n].sex for n in shuffled].index)
    lines = [[name for name in shuffled if clips.speakers[name].sex == sex] for sex in sexes]
    order = [name for turn in itertools.zip_longest(*lines) for name in turn if name is not None]
    return train[np.isin(clips.speaker[train], order[:num_speakers])]


def fewer_clips(clips: Clips, indices: np.ndarray, *, num_clips: int, seed: int) -> np.ndarray:
    """Samples at most `num_clips` of `indices`, balanced over the labels, and returns them in their order."""
    shuffled = np.random.default_rng([seed, 37]).permutation(indices)
    lines = [shuffled[clips.label[shuffled] == label] for label in np.unique(clips.label[shuffled])]
    order = [index for turn in itertools.zip_longest(*lines) for index in turn if index is not None]
    return indices[np.isin(indices, order[:num_clips])]
