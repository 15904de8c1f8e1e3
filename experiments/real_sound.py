"""Scores the streaming recogniser on recordings of real people and real rooms.

  python -m experiments.real_sound unsure --root DIR      lists where a digit may be spoken in untranscribed reading

Without --workdir the recogniser is the packaged one.
"""

import json
from pathlib import Path

import numpy as np

from audiojax import command, runlog
from audiojax.data import cache, real
from audiojax.data.disk import write_text
from audiojax.listener_report import Ear
from audiojax.trained import Trained
from audiojax.types import Clips, InputError
from experiments.listener import opened

WARM_SECONDS = 2.0
UNSURE_PROBABILITY, UNSURE_MARGIN_SECONDS = 0.8, 0.15


def cached(recordings: real.Recordings) -> Clips:
    """Returns the clips of `recordings` at 8 kHz, from the cache or read now."""
    with runlog.progress(f"preparing {recordings.source}") as report:
        clips, _ = cache.load_or_build(
            recordings,
            rate_hz=8000,
            on_bad_file="stop",
            folder=Path("~/.cache/audiojax").expanduser().resolve(),
            progress=report,
        )
    return clips


def warmed(ear: Ear, clips: Clips, indices: np.ndarray) -> list[np.ndarray]:
    """Returns the network's outputs for each clip, with `WARM_SECONDS` of the clips before it in front, dropped."""
    num_warm, outputs = round(WARM_SECONDS * clips.rate_hz), []
    sounds = [clips[index] for index in indices]
    before = [np.resize(sounds[place - 1][-num_warm:], num_warm) for place in range(len(sounds))]
    outputs = ear.said([np.concatenate(pair) for pair in zip(before, sounds, strict=True)])
    num_steps = num_warm // ear.run.model.step_samples
    return [part[num_steps:] for part in outputs]


def unsure(ear: Ear, clips: Clips, corpus: str = "librispeech") -> dict[str, list[list[float]]]:
    """Returns the seconds of each file of `corpus` in which a digit may be spoken: events of high probability."""
    if corpus not in clips.label_names:
        raise InputError(f"there is no {corpus} among the speech; restore it in index.csv.")
    indices = np.flatnonzero(clips.label == clips.label_names.index(corpus))
    found = {}
    for index, events in zip(indices, ear.events(warmed(ear, clips, indices)), strict=True):
        stretches = [
            [
                round(max(0.0, event.start_seconds - UNSURE_MARGIN_SECONDS), 2),
                round(event.end_seconds + UNSURE_MARGIN_SECONDS, 2),
            ]
            for event in events
            if event.probability >= UNSURE_PROBABILITY
        ]
        if stretches:
            found[clips.path[index]] = stretches
    return dict(sorted(found.items()))


def main(argv: list[str]) -> None:
    parser = command.parser("real_sound", __doc__ or "")
    parser.add_argument("what", choices=("unsure",))
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, nargs="+", help="of several runs the mean of their parameters")
    args = parser.parse_args(argv)
    command.setup_jax()
    ear = Ear(opened(args.workdir) if args.workdir else Trained.packaged())
    if args.what == "unsure":
        stretches = unsure(ear, cached(real.recordings(args.root, "speech")))
        rows = [f"{json.dumps(name)}: {json.dumps(parts)}" for name, parts in stretches.items()]
        write_text(real.UNSURE, "{\n" + ",\n".join(rows) + "\n}\n")
        seconds = sum(end - start for parts in stretches.values() for start, end in parts)
        print(f"{sum(map(len, stretches.values()))} stretches, {seconds:.0f} s, in {len(stretches)} files")


if __name__ == "__main__":
    command.run(main)
