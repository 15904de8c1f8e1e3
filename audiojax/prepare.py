"""Builds the cache of a data set; training does the same if there is none.

All sound files of the source are read, resampled to config.data.rate_hz, grouped by label and written to one file below
config.data.cache.
"""

import sys
import time

from audiojax import cli
from audiojax.data import sources, splits
from audiojax.data.loading import _chosen, _recordings, _source


def main(argv: list[str]) -> None:
    """Builds the cache of a config's data set, and prints its numbers of clips, speakers, labels and minutes."""
    _, config = cli.parse_with_config(cli.parser("prepare", __doc__ or ""), argv)
    start = time.perf_counter()
    note = ""
    try:
        recordings = _source(config)
    except splits.Impossible as error:
        if not error.too_few:
            raise
        recordings, note = _recordings(config, "source", "root"), f"not sufficient for training yet: {error}"
    clips = _chosen(config, recordings)
    speakers = f"{len(clips.speakers)} speakers"
    if list(clips.speakers) == [sources.UNKNOWN_SPEAKER]:
        speakers = "1 unknown speaker"
    minutes = len(clips.samples) / clips.rate_hz / 60
    print(
        f"{clips.source}: {len(clips):,} clips of {speakers}, {len(clips.label_names)} labels, "
        f"{minutes:.1f} minutes at {clips.rate_hz} Hz ({time.perf_counter() - start:.1f} s) in {config.data.cache}"
    )
    for what, number in sorted(recordings.left_out.items()):
        print(f"left out: {number:,} {what}")
    if note:
        print(note, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
