"""Says which word a sound file holds: wav, flac, ogg, any sample rate, any length.

For a network of one length a longer clip is cut to its loudest part, and that is said. Bad files get a sentence on
stderr, and exit code 1 after the good ones were answered.
"""

import json
import sys
from pathlib import Path

import numpy as np

from audiojax import command
from audiojax.data.batches import padded_samples
from audiojax.data.phonemes import DIGITS
from audiojax.data.signal import fit_length, loudest_part
from audiojax.data.sources import read_sound
from audiojax.trained import Trained
from audiojax.types import InputError


def classify(run: Trained, path: str) -> dict:
    """The answer for one file, ready for JSON. Raises InputError with a sentence for a file that cannot be read."""
    rate_hz, train = run.config.data.rate_hz, run.config.train
    clip, length_samples = read_sound(path, rate_hz), train.length_samples
    if run.model.any_length:
        length_samples = padded_samples(len(clip), length_samples, train.bucket_samples)
    part = loudest_part(clip, length_samples)
    audio = np.zeros((1, length_samples), np.int16)
    length = np.asarray([fit_length(part, audio[0])], np.int32)
    logits = run.logits(audio, length)[0]
    probabilities = run.probabilities(logits)
    label = run.label_names[int(probabilities.argmax())]
    answer = {
        "file": path,
        "label": label,
        "trained_on": run.data["source"],
        "probability": float(probabilities.max()),
        "probabilities": probabilities.tolist(),
        "seconds": len(clip) / rate_hz,
        "cut": len(part) < len(clip),
    }
    if label in DIGITS:
        answer = {"file": path, "digit": DIGITS.index(label), **answer}
    return answer


def main(argv: list[str]) -> int:
    parser = command.parser("predict", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the folder that training printed")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file")
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args(argv)
    command.setup_jax()
    run = Trained.load(args.workdir, args.checkpoint)
    longest_seconds = run.config.train.length_samples / run.config.data.rate_hz
    if not args.json:
        print(f"trained on {run.data['source']}, {args.checkpoint} checkpoint (step {run.step})")
        print("word     probability  second best          file")
    bad = 0
    for path in args.files:
        try:
            answer = classify(run, path)
        except InputError as error:
            print(f"audiojax: {error}", file=sys.stderr)
            bad += 1
            continue
        if answer["cut"]:
            print(
                f"audiojax: {path} lasts {answer['seconds']:.2f} s; the loudest {longest_seconds:g} s is taken.",
                file=sys.stderr,
            )
        if args.json:
            print(json.dumps(answer), flush=True)
            continue
        order = np.argsort(answer["probabilities"])[::-1]
        second = f"{run.label_names[order[1]]} {answer['probabilities'][order[1]]:.1%}"
        print(f"{answer['label']:<8} {answer['probability']:>11.1%}  {second:<20} {path}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    command.run(main)
