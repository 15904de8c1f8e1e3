"""What endless streams are made of."""

import numpy as np
from ml_collections import ConfigDict

from audiojax.data import real
from audiojax.data.clips import Clips
from audiojax.data.loading import cached, load_phrases, synthesised
from audiojax.errors import InputError
from audiojax.streaming.pools import Pool, Real
from audiojax.streaming.sampler import Endless, Mixture


def load_pools(config: ConfigDict, clips: Clips, indices: np.ndarray) -> tuple[list[Pool], list[Pool]]:
    """Returns the pools of words of `config.streams`, the `clips` at `indices` and synthetic voices, and those of other
    speech. Raises InputError where the synthetic voices have other words."""
    voices = [cached(config, synthesised(config, maker)) for maker in config.streams.voices]
    others = [load_phrases(config, maker, "train") for maker in config.streams.phrases]
    for made in voices:
        if made.label_names != clips.label_names:
            raise InputError(
                f"config.streams.voices has {made.source!r}, which has digits; {clips.source} has other words."
            )
    pools = [Pool.of(clips, indices), *(Pool.of(made, np.arange(len(made))) for made in voices)]
    return pools, [Pool.of(other, np.arange(len(other))) for other in others]


def load_real(config: ConfigDict) -> Real | None:
    """Returns the real recordings of `config.streams.real` for training; None where there are none."""
    if not config.streams.real:
        return None
    return Real(real.load(config.streams.real, "train", lambda recordings: cached(config, recordings)))


def endless(config: ConfigDict, clips: Clips, indices: np.ndarray, rows: slice) -> Endless:
    """Returns the batches of endless streams that `config` is trained on, of each only `rows`."""
    pools, others = load_pools(config, clips, indices)
    return Endless(
        pools,
        others,
        batch_size=config.train.batch_size,
        segment_samples=config.train.length_samples,
        step_samples=config.model.hop_samples * config.model.stack_frames,
        num_steps=config.streams.steps_per_epoch,
        rows=rows,
        seed=config.seed,
        mixture=Mixture(**{name: config.streams[name] for name in Mixture._fields}),
        real=load_real(config),
    )
