"""Builds the training streams of a config."""

import numpy as np
from ml_collections import ConfigDict

from audiojax.data import real
from audiojax.data.clips import Clips
from audiojax.data.loading import cached, load_phrases, synthesised
from audiojax.errors import InputError
from audiojax.streaming.pools import Pool, Real
from audiojax.streaming.sampler import Mixture, StreamBatches


def load_pools(config: ConfigDict, clips: Clips, indices: np.ndarray) -> tuple[list[Pool], list[Pool]]:
    """Returns the pools of words (the `clips` at `indices` and synthetic voices), and the pools of other speech.

    Raises InputError if the synthetic voices have other words than `clips`.
    """
    voices = [cached(config, synthesised(config, source)) for source in config.streams.voices]
    others = [load_phrases(config, source, "train") for source in config.streams.phrases]
    for synthetic in voices:
        if synthetic.label_names != clips.label_names:
            raise InputError(
                f"config.streams.voices has {synthetic.source!r}, which has digits; {clips.source} has other words."
            )
    pools = [Pool.of(clips, indices), *(Pool.of(synthetic, np.arange(len(synthetic))) for synthetic in voices)]
    return pools, [Pool.of(other, np.arange(len(other))) for other in others]


def load_real(config: ConfigDict) -> Real | None:
    """Returns the real recordings of `config.streams.real` for training; None if that key is empty."""
    if not config.streams.real:
        return None
    return Real(real.load(config.streams.real, "train", lambda recordings: cached(config, recordings)))


def stream_batches(config: ConfigDict, clips: Clips, indices: np.ndarray, rows: slice) -> StreamBatches:
    """Returns the training batches of `config`; of each batch only `rows` are computed."""
    pools, others = load_pools(config, clips, indices)
    return StreamBatches(
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
