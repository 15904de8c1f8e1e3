"""Makes the cache of a data set's clips, which training does too when it is missing.

Reads every sound file of the source, resamples it to config.data.rate_hz, groups the clips by label and keeps them
in one file below config.data.cache.
"""

import dataclasses
import sys
import time
from pathlib import Path

from ml_collections import ConfigDict

from audiojax import command, runlog
from audiojax.data import cache, espeak, sources, synthetic
from audiojax.types import Clips, InputError

MADE = {
    "synthetic": (synthetic.write_synthetic, synthetic.VERSION),
    "espeak": (espeak.write_espeak, espeak.VERSION),
}


def load_clips(config: ConfigDict) -> Clips:
    """The clips of `config.data`, from the cache or made now, with a progress bar."""
    folder = Path(config.data.cache).expanduser().resolve()
    source = config.data.source
    if source in MADE:
        recordings = _made(source, folder, **config.synthetic)
    elif source in sources.SOURCES:
        if not config.data.root:
            raise InputError(f"config.data.root is empty; set --config.data.root=DIR to the folder of {source}.")
        recordings = sources.SOURCES[source](config.data.root, config.data.on_bad_file)
    else:
        raise InputError(f"config.data.source is {source!r}; choose one of {', '.join([*MADE, *sources.SOURCES])}.")
    with runlog.progress(f"preparing {source}") as report:
        clips, skipped = cache.load_or_build(
            recordings,
            rate_hz=config.data.rate_hz,
            on_bad_file=config.data.on_bad_file,
            folder=folder,
            progress=report,
        )
    if skipped:
        print(f"{len(skipped):,} of {len(clips) + len(skipped):,} files of {source} are left out:", file=sys.stderr)
        print(*(f"  {sentence}" for sentence in skipped), sep="\n", file=sys.stderr)
    return clips


def _made(source: str, folder: Path, **parameters: int) -> sources.Recordings:
    """Voices that are made, not recorded: written once as AudioMNIST is laid out, and read by its reader."""
    write, version = MADE[source]
    name = "-".join(f"{key.removeprefix('num_')}{value}" for key, value in sorted(parameters.items()))
    root = folder / f"{source}-v{version}-{name}"
    if not root.exists():
        with runlog.progress(f"speaking {source} digits") as report:
            write(root, **parameters, progress=report)
    return dataclasses.replace(sources.audiomnist(root), source=source)


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
