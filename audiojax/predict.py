"""Says which word a sound file holds: wav, flac, ogg, mp3, any sample rate, any length.

For a network trained on one length a longer clip is cut to its loudest part, and that is said. A listener, which is
what comes with the package, answers with the first word that it hears, or with nothing. Bad files get a sentence on
stderr, and exit code 1 after the good ones were answered.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from audiojax import command, hearing
from audiojax.data.batches import prefetch
from audiojax.data.phonemes import named
from audiojax.data.signal import loudest_part
from audiojax.data.sound_files import Warn, read_sound, shortened
from audiojax.decoder import FLUSH_SECONDS, Decoder
from audiojax.trained import Trained
from audiojax.types import Clips, InputError

FILES_AT_ONCE = 500  # their answers come together


def classify(
    run: Trained, paths: Sequence[str | Path], warn: Warn = lambda sentence: None
) -> Iterator[dict | InputError]:
    """The answer for each file, in their order and ready for JSON; a sentence for one that cannot be read."""
    groups = (paths[i : i + FILES_AT_ONCE] for i in range(0, len(paths), FILES_AT_ONCE))
    rate_hz, train = run.config.data.rate_hz, run.config.train
    for group in prefetch(([(path, _read(path, rate_hz, warn)) for path in group] for group in groups), size=1):
        sounds = [sound for _, sound in group if isinstance(sound, np.ndarray)]
        if run.listens:
            answers = iter(_first_words(run, sounds))
            yield from (
                sound if isinstance(sound, InputError) else {"file": str(path)} | next(answers) for path, sound in group
            )
            continue
        if not (run.model.any_length and train.bucket_samples):
            sounds = [loudest_part(sound, train.length_samples) for sound in sounds]
        clips = Clips.unlabelled(sounds, rate_hz)
        probabilities = iter(run.probabilities(run.logits_of(clips, np.arange(len(clips)))) if sounds else ())
        lengths = iter(clips.length)
        for path, sound in group:
            if isinstance(sound, InputError):
                yield sound
            else:
                cut = next(lengths) < len(sound)
                yield _answer(run, path, next(probabilities)) | {"seconds": len(sound) / rate_hz, "cut": bool(cut)}


def _first_words(run: Trained, sounds: Sequence[np.ndarray]) -> Iterator[dict]:
    """What a listener answers to each sound i16[t]: the first event, or nothing."""
    rate_hz, silence = run.config.data.rate_hz, np.zeros(round(FLUSH_SECONDS * run.config.data.rate_hz), np.int16)
    said = hearing.hear(run.model, run.variables, [np.concatenate([sound, silence]) for sound in sounds])
    step_seconds = run.model.step_samples / rate_hz
    for sound, events in zip(
        sounds, hearing.events(Decoder(**run.config.decoder), said, run.label_names, step_seconds), strict=True
    ):
        about = {"trained_on": run.data["source"], "seconds": len(sound) / rate_hz, "cut": False}
        if events:
            yield named(events[0].label) | events[0]._asdict() | about
        else:
            yield {"label": None, "probability": None} | about


def _read(path: str | Path, rate_hz: int, warn: Warn) -> np.ndarray | InputError:
    try:
        return read_sound(path, rate_hz, warn=warn)
    except InputError as error:
        return error


def _answer(run: Trained, path: str | Path, probabilities: np.ndarray) -> dict:
    label = run.label_names[int(probabilities.argmax())]
    return {
        "file": str(path),
        **named(label),
        "trained_on": run.data["source"],
        "probability": float(probabilities.max()),
        "probabilities": probabilities.tolist(),
    }


def _line(answer: dict, label_names: Sequence[str]) -> str:
    if answer["label"] is None:
        return f"{'nothing':<8} {'':>11}  {'':<20} {answer['file']}"
    if "probabilities" in answer:
        order = np.argsort(answer["probabilities"])[::-1]
        beside = f"{label_names[order[1]]} {answer['probabilities'][order[1]]:.1%}"
    else:
        beside = f"{answer['start_seconds']:.2f} - {answer['end_seconds']:.2f} s"
    return f"{answer['label']:<8} {answer['probability']:>11.1%}  {beside:<20} {answer['file']}"


def main(argv: list[str]) -> int:
    parser = command.parser("predict", __doc__ or "")
    parser.add_argument(
        "--workdir", type=Path, help="the folder that training printed (default: the packaged listener)"
    )
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file")
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args(argv)
    command.setup_jax()
    run = Trained.load(args.workdir, args.checkpoint) if args.workdir else Trained.packaged()
    longest_seconds = run.config.train.length_samples / run.config.data.rate_hz
    if not args.json:
        print(f"trained on {run.data['source']}, {args.checkpoint} checkpoint (step {run.step})")
        print(f"word     probability  {'from - to' if run.listens else 'second best':<20} file")
    bad, shorter = 0, list[str]()
    for answer in classify(run, args.files, shorter.append):
        if isinstance(answer, InputError):
            print(f"audiojax: {answer}", file=sys.stderr)
            bad += 1
            continue
        if answer["cut"]:
            taken = f"lasts {answer['seconds']:.2f} s; the loudest {longest_seconds:g} s is taken."
            print(f"audiojax: {answer['file']} {taken}", file=sys.stderr)
        if args.json:
            print(json.dumps(answer), flush=True)
            continue
        print(_line(answer, run.label_names), flush=True)
    if shorter:
        print(f"audiojax: {shortened(shorter, len(args.files))}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    command.run(main)
