"""Makes the cache of a data set's clips, which training does too when it is missing.

Reads every sound file of the source, resamples it to config.data.rate_hz, groups the clips by label and keeps them
in one file below config.data.cache.
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from audiojax import command, runlog
from audiojax.data import cache, espeak, phrases, real, sources, synthetic, targets
from audiojax.data.pools import Pool, Real
from audiojax.types import Clips, InputError

MADE = {
    "synthetic": (synthetic.write_synthetic, synthetic.VERSION),
    "espeak": (espeak.write_espeak, espeak.VERSION),
}


def load_clips(config: ConfigDict) -> Clips:
    """The clips of `config.data` with the labels of its target, from the cache or made now, with a progress bar."""
    return _load(config, "source", "root")


def _load(config: ConfigDict, of: str, at: str) -> Clips:
    """The clips of the source config.data.`of`, whose root is config.data.`at`."""
    source, root = config.data[of], config.data[at]
    if source in MADE:
        recordings = _made(config, source)
    elif source in sources.SOURCES:
        if not root:
            raise InputError(f"config.data.{at} is empty; set --config.data.{at}=DIR to the folder of {source}.")
        recordings = sources.SOURCES[source](root, config.data.on_bad_file)
    else:
        raise InputError(f"config.data.{of} is {source!r}; choose one of {', '.join([*MADE, *sources.SOURCES])}.")
    clips = _cached(config, recordings)
    chosen = targets.choose(clips, config.data.target)
    if left_out := len(clips) - len(chosen):
        print(
            f"{left_out:,} of {len(clips):,} clips of {source} are left out: their {chosen.target} is not known.",
            file=sys.stderr,
        )
    return chosen


def load_also(config: ConfigDict, clips: Clips) -> Clips | None:
    """The clips of `config.data.also`, which are learnt beside `clips`; None where there are none.

    Raises InputError where their labels are others, or the source is the same.
    """
    if not config.data.also:
        return None
    also = _load(config, "also", "also_root")
    if also.key == clips.key:
        raise InputError(
            f"config.data.also is {config.data.also!r} with the clips that config.data.source has, and all of them "
            "would be learnt; choose another source."
        )
    if also.label_names != clips.label_names:
        raise InputError(
            f"config.data.also is {config.data.also!r}, whose labels are not those of {clips.source}; choose a source "
            "of the same words."
        )
    return also


def load_pools(config: ConfigDict, clips: Clips, indices: np.ndarray) -> tuple[list[Pool], list[Pool]]:
    """Who speaks in the endless streams of `config.streams`: the `clips` at `indices` and made voices say the words,
    other made voices what is none of them."""
    voices = [_cached(config, _made(config, maker)) for maker in config.streams.voices]
    others = [load_phrases(config, maker, "train") for maker in config.streams.phrases]
    for made in voices:
        if made.label_names != clips.label_names:
            raise InputError(
                f"config.streams.voices has {made.source!r}, which says digits; {clips.source} has other words."
            )
    pools = [Pool.of(clips, indices), *(Pool.of(made, np.arange(len(made))) for made in voices)]
    return pools, [Pool.of(other, np.arange(len(other))) for other in others]


def load_real(config: ConfigDict) -> Real | None:
    """Returns the real recordings of `config.streams.real` for training; None where there are none."""
    if not config.streams.real:
        return None
    return Real(real.load(config.streams.real, "train", lambda recordings: _cached(config, recordings)))


def _cached(config: ConfigDict, recordings: sources.Recordings) -> Clips:
    source = recordings.source
    with runlog.progress(f"preparing {source}") as report:
        clips, skipped = cache.load_or_build(
            recordings,
            rate_hz=config.data.rate_hz,
            on_bad_file=config.data.on_bad_file,
            folder=_folder(config),
            progress=report,
        )
    if skipped:
        print(f"{len(skipped):,} of {len(clips) + len(skipped):,} files of {source} are left out:", file=sys.stderr)
        print(*(f"  {sentence}" for sentence in skipped), sep="\n", file=sys.stderr)
    return clips


def _made(config: ConfigDict, source: str) -> sources.Recordings:
    """Voices that are made, not recorded: written once as AudioMNIST is laid out, and read by its reader."""
    if source not in MADE:
        raise InputError(f"config.streams.voices has {source!r}; choose from {', '.join(MADE)}.")
    write, version = MADE[source]
    parameters = dict(config.synthetic)
    name = "-".join(f"{key.removeprefix('num_')}{value}" for key, value in sorted(parameters.items()))
    root = _folder(config) / f"{source}-v{version}-{name}"
    if not root.exists():
        with runlog.progress(f"speaking {source} digits") as report:
            write(root, **parameters, progress=report)
    return dataclasses.replace(sources.audiomnist(root), source=source)


def _phrases(config: ConfigDict, maker: str, part: str) -> sources.Recordings:
    """What made voices say that is no digit, as a folder of words."""
    versions = {name: version for name, (_, version) in MADE.items()} | {"letters": espeak.VERSION}
    if maker not in versions:
        raise InputError(f"config.streams.phrases has {maker!r}; choose from {', '.join(versions)}.")
    voices, seed = config.synthetic.num_voices, config.synthetic.seed
    version = f"{phrases.VERSION}.{versions[maker]}"
    root = _folder(config) / f"phrases-{maker}-{part}-v{version}-seed{seed}-voices{voices}"
    if not root.exists():
        with runlog.progress(f"speaking {maker} phrases") as report:
            phrases.write_phrases(root, maker=maker, part=part, num_voices=voices, seed=seed, progress=report)
    return dataclasses.replace(sources.folder(root), source=f"phrases-{maker}-{part}")


def load_phrases(config: ConfigDict, maker: str, part: str) -> Clips:
    """Words and sentences without a digit, by the made voices `maker`, for "train" or "test"."""
    return _cached(config, _phrases(config, maker, part))


def _folder(config: ConfigDict) -> Path:
    return Path(config.data.cache).expanduser().resolve()


def main(argv: list[str]) -> None:
    _, config = command.parse_with_config(command.parser("prepare", __doc__ or ""), argv)
    start = time.perf_counter()
    clips = load_clips(config)
    minutes = len(clips.samples) / clips.rate_hz / 60
    print(
        f"{clips.source}: {len(clips):,} clips of {len(clips.speakers)} speakers, {len(clips.label_names)} labels, "
        f"{minutes:.1f} minutes at {clips.rate_hz} Hz ({time.perf_counter() - start:.1f} s) in {config.data.cache}"
    )


if __name__ == "__main__":
    command.run(main)
