"""Builds the training batches of a streaming recogniser from its config."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from audiojax.data import real, strings
from audiojax.data.clips import Clips
from audiojax.data.loading import cached, load_phrases, synthesised
from audiojax.errors import InputError
from audiojax.streaming.mixture import Mixture
from audiojax.streaming.pools import Pool, Real
from audiojax.streaming.sampler import StreamBatches
from audiojax.streaming.strings import Strings


def load_pools(config: ConfigDict, clips: Clips, indices: np.ndarray) -> tuple[list[Pool], list[Pool]]:
    """Returns the clips for training streams, as pools of words to recognise and pools of other speech.

    The first pool of words has the `clips` at `indices`, the others have synthetic voices. All other speech is
    synthetic. Raises InputError if the synthetic voices speak other words than `clips`.
    """
    voices = [cached(config, synthesised(config, source)) for source in config.streams.synthetic_sources]
    others = [load_phrases(config, source, "train") for source in config.streams.negative_sources]
    for synthetic in voices:
        if synthetic.label_names != clips.label_names:
            raise InputError(
                f"config.streams.synthetic_sources includes {synthetic.source!r}, which has only digits, but the "
                f"labels of {clips.source} are not the ten digits; remove {synthetic.source!r} from the list."
            )
    # A folder may have recordings with background noise.
    own = Pool.of(clips, indices, in_rooms=config.data.source == "folder")
    pools = [own, *(Pool.of(synthetic, np.arange(len(synthetic))) for synthetic in voices)]
    return pools, [Pool.of(other, np.arange(len(other))) for other in others]


def load_real(config: ConfigDict, label_names: Sequence[str]) -> Real | None:
    """Returns the training part of the real recordings in the folder `config.streams.real`; None if that key is empty.

    `label_names` are the words to recognise. If these are the digits, the recorded digits are used as such; otherwise
    the recorded digits are used as speech without words to recognise.
    """
    if not config.streams.real:
        return None
    streams = config.streams
    sound = real.load(streams.real, "train", lambda recordings: cached(config, recordings), streams.real_rooms)
    return Real(sound, label_names)


def load_strings(config: ConfigDict, label_names: Sequence[str]) -> Strings | None:
    """Returns the recordings of several words in the folder `config.streams.strings`; None if that key is empty.

    `label_names` are the words that the recordings may have.
    """
    if not config.streams.strings:
        return None
    return Strings(
        strings.load(config.streams.strings, label_names, lambda recordings: cached(config, recordings)), label_names
    )


def stream_batches(config: ConfigDict, clips: Clips, indices: np.ndarray, rows: slice) -> StreamBatches:
    """Returns the training batches of a config: segments of streams that are composed of clips and other sound.

    Args:
        config: The config of the run.
        clips: The clips of the data set.
        indices: Which of the clips are for training.
        rows: Which streams of each batch are computed.
    """
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
        real=load_real(config, clips.label_names),
        strings=load_strings(config, clips.label_names),
    )
