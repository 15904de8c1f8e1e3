"""The speakers of splits, which several tests compare."""

import itertools

import numpy as np

from audiojax.data.clips import Clips, Speaker


def speakers_of(number: int, num_women: int, takes: int = 1) -> Clips:
    """A clip of each digit and take by every speaker, in AudioMNIST's names; seeded noise of 0.1 s."""
    names = [f"{i:02d}" for i in range(1, number + 1)]
    label, speaker, take = np.array(list(itertools.product(range(10), range(number), range(takes)))).T
    table = {name: Speaker("female" if i < num_women else "male", "German") for i, name in enumerate(names)}
    rng, size = np.random.default_rng(0), 800
    samples = (rng.standard_normal(size * len(label)) * 1000).astype(np.int16)
    offsets, paths = np.arange(len(label) + 1) * size, tuple(map(str, range(len(label))))
    words, who = tuple("0123456789"), np.array(names)[speaker]
    return Clips(
        "audiomnist",
        8000,
        samples,
        offsets,
        label.astype(np.int32),
        who,
        take.astype(np.int32),
        paths,
        words,
        table,
        "k",
    )
