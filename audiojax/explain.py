"""Shows what a network listened to, as a picture and as sound: the relevance of every sample, or bin of a spectrogram.

METHOD is one of
  integrated       integrated gradients, from silence: the default, the most faithful one wherever it was measured
  gradient         gradient times input, of the logit of the answer
  lrp-epsilon      layer-wise relevance propagation: each input has the share of its product in the sum
  lrp-z+           likewise, only of what pulls the way the sum went: nothing speaks against the answer
  lrp-alpha2beta1  likewise, twice that, less what pulls against; not for recurrent networks

For each FILE it writes a picture and a sound in which only what spoke for the answer is left, as loud as it counted.
--faithfulness instead silences the most relevant samples or bins of test clips, and draws how fast accuracy falls.
A clip too long for a network of one length is cut to its loudest part, as in predict.
"""

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from audiojax import anatomy, audible, command, faithfulness, plots, prepare, relevance, runlog
from audiojax import config as configs
from audiojax.data import batches, splits
from audiojax.data.disk import write_text
from audiojax.data.signal import loudest_part, wav_file
from audiojax.data.sound_files import read_sound, shortened
from audiojax.trained import Trained
from audiojax.types import Clips, InputError

DEFAULT = "integrated"


class Explanation(NamedTuple):
    """What spoke for `label`, and against it."""

    label: str
    probability: float
    sound: np.ndarray  # i16[t], what was heard
    features: np.ndarray  # f32[t] or f32[frames, bands], behind the front end; 0 is silence
    relevance: np.ndarray  # as features; of the logit


def explain(run: Trained, sound: np.ndarray, method: str = DEFAULT, label: str | None = None) -> Explanation:
    """Why `run` hears `label`, or what it hears most probably, in `sound` i16[t]. Raises InputError as `check` does."""
    check(run, method, label)
    shape = configs.batch_shape(run.config) | {"batch_size": 1}
    if not (run.model.any_length and run.config.train.bucket_samples):
        sound = loudest_part(sound, run.config.train.length_samples)
    clips = Clips.unlabelled([sound], run.config.data.rate_hz)
    [batch] = batches.evaluation(clips, np.arange(1), **shape)
    audio, length = batch["audio"], batch["length"]
    sound = audio[0, : length[0]]  # with the silence that random placement puts before it, as predict does
    probabilities = run.probabilities(run.logits(audio, length))[0]
    number = run.label_names.index(label) if label else int(probabilities.argmax())
    features, heard, shares = jax.device_get(
        _shares(run.model, run.variables, audio, length, np.asarray([number], np.int32), method)
    )
    kept = heard[0] if features.ndim == 2 else heard[0, :, 0]
    return Explanation(run.label_names[number], float(probabilities[number]), sound, features[0][kept], shares[0][kept])


def check(run: Trained, method: str, label: str | None = None) -> None:
    """Raises InputError for a network, method or label that cannot be explained."""
    seam = anatomy.seam(run.model)
    if method not in _methods(seam):
        raise InputError("--method lrp-alpha2beta1 grows threefold with every step of a recurrence; choose lrp-z+.")
    if label is not None and label not in run.label_names:
        raise InputError(f"--label {label!r} is not known to this network; choose one of {', '.join(run.label_names)}.")


def _methods(seam: anatomy.Seam) -> list[str]:
    return [name for name in relevance.METHODS if not (seam.recurrent and name == "lrp-alpha2beta1")]


@functools.partial(jax.jit, static_argnames=("model", "method"))
def _shares(
    model: nn.Module, variables: dict, audio: jax.Array, length: jax.Array, label: jax.Array, method: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features, which of them are no padding, and their relevance."""
    seam = anatomy.seam(model)
    x = seam.features(audio, length)
    return x, seam.heard(x, length), relevance.METHODS[method](seam.layers(variables, length), x, label)


def heatmap(run: Trained, of: Explanation) -> np.ndarray:
    """i16[t]: the sound of what spoke for the answer."""
    bins = anatomy.seam(run.model).bins
    if bins is None:
        return audible.of_samples(of.sound, of.relevance, run.config.data.rate_hz)
    size = {name: getattr(bins, name) for name in ("window_samples", "hop_samples", "before_samples")}
    return audible.of_bins(of.sound, of.relevance, bins.bands, **size)


def draw(run: Trained, of: Explanation, title: str, path: Path) -> Path:
    """The picture of an explanation."""
    rate_hz, bins = run.config.data.rate_hz, anatomy.seam(run.model).bins
    if bins is None:
        return plots.relevance_of_samples(of.sound, of.relevance, rate_hz, title, path)
    middle_hz = bins.bands.argmax(axis=0) * rate_hz / (2 * (len(bins.bands) - 1))
    # A frame is drawn as one hop in the middle of its window.
    start = (bins.window_samples - bins.hop_samples) / 2 - bins.before_samples
    seconds = (start + np.asarray([0, len(of.features)]) * bins.hop_samples) / rate_hz
    return plots.relevance_of_bins(of.sound, of.features, of.relevance, middle_hz, rate_hz, seconds, title, path)


def _explain_files(run: Trained, files: Sequence[str], method: str, label: str | None, out: Path) -> int:
    """Writes and prints; returns how many files could not be read."""
    print(f"word     probability  {'picture and sound':<40} file")
    bad, rate_hz, shorter = 0, run.config.data.rate_hz, list[str]()
    for file, stem in zip(files, _stems(files), strict=True):
        try:
            sound = read_sound(file, rate_hz, warn=shorter.append)
        except InputError as error:
            print(f"audiojax: {error}", file=sys.stderr)
            bad += 1
            continue
        of = explain(run, sound, method, label)
        if len(of.sound) < len(sound):
            taken = f"lasts {len(sound) / rate_hz:.2f} s; the loudest {len(of.sound) / rate_hz:g} s is taken."
            print(f"audiojax: {file} {taken}", file=sys.stderr)
        title = f"{Path(file).name}: “{of.label}” {of.probability:.1%}, {method}"
        picture = draw(run, of, title, out / f"{stem}.relevance.png")
        picture.with_suffix(".wav").write_bytes(wav_file(heatmap(run, of), rate_hz))
        written = f"{picture.with_suffix('')}.png, .wav"
        print(f"{of.label:<8} {of.probability:>11.1%}  {written:<40} {file}", flush=True)
    if shorter:
        print(f"audiojax: {shortened(shorter, len(files))}", file=sys.stderr)
    return bad


def _stems(files: Sequence[str]) -> list[str]:
    """Names for what is written, no two alike."""
    stems: list[str] = []
    for file in files:
        stem, number = Path(file).stem, 1
        while (name := stem if number == 1 else f"{stem}-{number}") in stems:
            number += 1
        stems.append(name)
    return stems


def _faithfulness(run: Trained, part: str, num_clips: int, workdir: Path, out: Path) -> None:
    clips = prepare.load_clips(run.config)
    if clips.key != run.data["key"]:
        raise InputError(f"the clips of config.data are not those that {workdir} was trained on; restore them.")
    indices = getattr(splits.make(clips, **run.config.split), part)
    if num_clips < 1:
        raise InputError(f"--num-clips is {num_clips}; give at least 1.")
    indices = np.sort(np.random.default_rng(0).permutation(indices)[:num_clips])
    seam = anatomy.seam(run.model)
    with runlog.progress("silencing", unit="batches") as progress:
        accuracy = faithfulness.curves(run, clips, indices, _methods(seam), progress)
    what = seam.bins.what if seam.bins else "samples"
    about = {"workdir": str(workdir), "step": run.step, "source": clips.source, "part": part, "clips": len(indices)}
    result = about | {"silenced": what, "shares": faithfulness.SHARES, "accuracy": accuracy}
    write_text(out / "faithfulness.json", json.dumps(result, indent=2) + "\n")
    title = f"{len(indices):,} {part} clips of {clips.source}"
    picture = plots.faithfulness(faithfulness.SHARES, accuracy, what, title, out / "faithfulness.png")
    print(f"accuracy, % of {what} silenced: " + "".join(f"{share:7.0%}" for share in faithfulness.SHARES))
    for order, values in accuracy.items():
        print(f"{order:<{len(what) + 31}}" + "".join(f"{value:7.1%}" for value in values))
    print(f"{picture}, .json")


def main(argv: list[str]) -> int:
    parser = command.parser("explain", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the folder that training printed")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--method", choices=tuple(relevance.METHODS), default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument("--label", help="explain this word instead of the most probable one")
    parser.add_argument("--out", type=Path, help="where to write (default: WORKDIR/explanations)")
    parser.add_argument("--faithfulness", action="store_true", help="compare all methods on clips of the data set")
    parser.add_argument("--part", choices=splits.Split._fields, default="test", help="on which of them (default: test)")
    parser.add_argument("--num-clips", type=int, default=200, help="on how many of them (default: 200)")
    parser.add_argument("--root", help="where the data set lies now, if not where it was trained from")
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_args(argv)
    if args.faithfulness == bool(args.files):
        parser.error("give one FILE or more, or --faithfulness")
    command.setup_jax()
    run, out = Trained.load(args.workdir, args.checkpoint), args.out or args.workdir / "explanations"
    check(run, args.method, args.label)
    out.mkdir(parents=True, exist_ok=True)
    if args.faithfulness:
        if args.root:
            run.config.data.root = args.root
        _faithfulness(run, args.part, args.num_clips, args.workdir, out)
        return 0
    return 1 if _explain_files(run, args.files, args.method, args.label, out) else 0


if __name__ == "__main__":
    command.run(main)
