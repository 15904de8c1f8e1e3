"""Predicts the word in a sound file: wav, flac, ogg, mp3, any sampling rate, any length.

For a network of fixed length, a longer clip is truncated to its loudest part, with a message. A streaming recogniser,
which the packaged network is, prints a line for each word; its JSON has the first word, and all of them as "words". Bad
files cause a message on stderr and exit code 1 after the others.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiojax import cli
from audiojax.audio.signal import loudest_part
from audiojax.audio.sound_files import Warn, read_sound, shortened
from audiojax.data.batches import prefetch
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.streaming import scoring
from audiojax.streaming.decoder import FLUSH_SECONDS, Decoder
from audiojax.synthesis.phonemes import named

FILES_AT_ONCE = 500  # files per group, whose predictions are computed together


def classify(
    run: Trained, paths: Sequence[str | Path], warn: Warn = lambda sentence: None
) -> Iterator[dict[str, Any] | InputError]:
    """Yields the prediction for each file of `paths`, in order, as a dict of JSON values.

    It has the file, the label, its probability, the seconds of sound, and "cut", whether only the loudest part was
    used. A classifier adds the probabilities of all labels. A streaming recogniser adds "words", a list of all words
    with their times; the label is that of the first word, or None if there is no word.

    For a file that cannot be read, an InputError is yielded and not raised. `warn` is called with a sentence for each
    file that is shorter than its header states.
    """
    groups = (paths[i : i + FILES_AT_ONCE] for i in range(0, len(paths), FILES_AT_ONCE))
    rate_hz, train = run.config.data.rate_hz, run.config.train
    for group in prefetch(([(path, _read(path, rate_hz, warn)) for path in group] for group in groups), size=1):
        sounds = [sound for _, sound in group if isinstance(sound, np.ndarray)]
        if run.streams:
            answers = iter(_words(run, sounds))
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


def _words(run: Trained, sounds: Sequence[np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yields the prediction of a streaming recogniser for each sound i16[t]: the first event, and all as "words"."""
    rate_hz, silence = run.config.data.rate_hz, np.zeros(round(FLUSH_SECONDS * run.config.data.rate_hz), np.int16)
    outputs = scoring.network_outputs(run.model, run.variables, [np.concatenate([sound, silence]) for sound in sounds])
    step_seconds = run.model.step_samples / rate_hz
    for sound, events in zip(
        sounds, scoring.events(Decoder(**run.config.decoder), outputs, run.label_names, step_seconds), strict=True
    ):
        about = {"trained_on": run.data["source"], "seconds": len(sound) / rate_hz, "cut": False}
        words = [named(event.label) | event._asdict() for event in events]
        yield (words[0] if words else {"label": None, "probability": None}) | about | {"words": words}


def _read(path: str | Path, rate_hz: int, warn: Warn) -> np.ndarray | InputError:
    try:
        return read_sound(path, rate_hz, warn=warn)
    except InputError as error:
        return error


def _answer(run: Trained, path: str | Path, probabilities: np.ndarray) -> dict[str, Any]:
    label = run.label_names[int(probabilities.argmax())]
    return {
        "file": str(path),
        **named(label),
        "trained_on": run.data["source"],
        "probability": float(probabilities.max()),
        "probabilities": probabilities.tolist(),
    }


def _lines(answer: dict[str, Any], label_names: Sequence[str]) -> Iterator[str]:
    """Yields the rows of the table for one file: one per word of a streaming recogniser, otherwise one."""
    if answer["label"] is None:
        yield f"{'nothing':<8} {'':>11}  {'':<20} {answer['file']}"
        return
    for word in answer.get("words", [answer]):
        if "probabilities" in word:
            order = np.argsort(word["probabilities"])[::-1]
            beside = f"{label_names[order[1]]} {word['probabilities'][order[1]]:.1%}"
        else:
            beside = f"{word['start_seconds']:.2f} - {word['end_seconds']:.2f} s"
        yield f"{word['label']:<8} {word['probability']:>11.1%}  {beside:<20} {answer['file']}"


def main(argv: list[str]) -> int:
    """Prints the prediction for each file; returns the exit code, which is 1 if a file could not be read."""
    parser = cli.parser("predict", __doc__ or "")
    parser.add_argument("--workdir", type=Path, help="folder of a run (default: the packaged streaming recogniser)")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file")
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args(argv)
    cli.setup_jax()
    run = Trained.load(args.workdir, args.checkpoint) if args.workdir else Trained.packaged()
    longest_seconds = run.config.train.length_samples / run.config.data.rate_hz
    if not args.json:
        print(f"trained on {run.data['source']}, {args.checkpoint} checkpoint (step {run.step})")
        print(f"word     probability  {'from - to' if run.streams else 'second best':<20} file")
    bad, shorter = 0, list[str]()
    for answer in classify(run, args.files, shorter.append):
        if isinstance(answer, InputError):
            print(f"audiojax: {answer}", file=sys.stderr)
            bad += 1
            continue
        if answer["cut"]:
            taken = f"lasts {answer['seconds']:.2f} s; the loudest {longest_seconds:g} s are used."
            print(f"audiojax: {answer['file']} {taken}", file=sys.stderr)
        if args.json:
            print(json.dumps(answer), flush=True)
            continue
        for line in _lines(answer, run.label_names):
            print(line, flush=True)
    if shorter:
        print(f"audiojax: {shortened(shorter, len(args.files))}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    cli.run(main)
