"""Clips that tests build from folders of sound files."""

import numpy as np

from audiojax.data import cache, sources
from audiojax.data.clips import Clips, Speaker
from audiojax.synthesis.phonemes import DIGITS


def build(
    root, folder, rate_hz=8000, read=sources.audiomnist, progress=lambda done, total: None, on_bad_file="stop"
) -> Clips:
    """The clips that the reader `read` lists in `root`, cached in `folder`."""
    read_all = dict(rate_hz=rate_hz, on_bad_file=on_bad_file, folder=folder, progress=progress)
    return cache.load_or_build(read(root, on_bad_file), **read_all)[0]


def clips_of(speakers, takes=10, source="audiomnist", labels=10) -> Clips:
    """Clips of one sample each, no two the same: all that a split looks at."""
    rows = [(label, speaker, take) for label in range(labels) for speaker in speakers for take in range(takes)]
    label, speaker, take = (np.asarray(column) for column in zip(*rows, strict=True))
    return Clips(
        source=source, rate_hz=8000, samples=np.arange(len(rows)).astype(np.int16), offsets=np.arange(len(rows) + 1),
        label=label, speaker=speaker, take=take, path=("",) * len(rows), label_names=DIGITS,
        speakers={name: Speaker() for name in speakers}, key="",
    )  # fmt: skip
