"""Plots and sonifies the relevance of each sample, or of each bin of a spectrogram, for a prediction.

METHOD is one of
  integrated       integrated gradients with silence as the baseline (default), the most faithful one in measurements
  gradient         gradient of the logit times input
  lrp-epsilon      layer-wise relevance propagation: relevance in proportion to each input's part of the sum
  lrp-z+           likewise, for the terms with the sign of the sum only
  lrp-alpha2beta1  likewise, twice those terms minus the others; not for recurrent networks

For each FILE it writes a plot, and a sound weighted by its positive relevance. --faithfulness instead silences the most
relevant samples or bins of test clips and plots the accuracy. A clip that is too long for a network of fixed length is
truncated to its loudest part, as in predict.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiojax import cli
from audiojax.attribution import deletion, lrp_layers, methods
from audiojax.attribution.explanation import DEFAULT, _methods, check, draw, explain, heatmap
from audiojax.audio.signal import wav_file
from audiojax.audio.sound_files import read_sound, shortened
from audiojax.data import loading, splits
from audiojax.errors import InputError
from audiojax.evaluation import plots
from audiojax.inference import Trained
from audiojax.io import console
from audiojax.io.files import write_text


def _explain_files(run: Trained, files: Sequence[str], method: str, label: str | None, out: Path) -> int:
    """Explains each file and returns the number of files that could not be read."""
    print(f"word     probability  {'plot and sound':<40} file")
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
            taken = f"lasts {len(sound) / rate_hz:.2f} s; the loudest {len(of.sound) / rate_hz:g} s are used."
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
    """Returns unique names of the output files."""
    stems: list[str] = []
    for file in files:
        stem, number = Path(file).stem, 1
        while (name := stem if number == 1 else f"{stem}-{number}") in stems:
            number += 1
        stems.append(name)
    return stems


def _faithfulness(run: Trained, part: str, num_clips: int, workdir: Path, out: Path) -> None:
    clips = loading.load_clips(run.config)
    run.check_clips(clips)
    indices = getattr(splits.make(clips, **run.config.split), part)
    if num_clips < 1:
        raise InputError(f"--num-clips is {num_clips}; give at least 1.")
    indices = np.sort(np.random.default_rng(0).permutation(indices)[:num_clips])
    seam = lrp_layers.seam(run.model)
    with console.progress("silencing", unit="batches") as progress:
        accuracy = deletion.curves(run, clips, indices, _methods(seam), progress)
    what = seam.bins.what if seam.bins else "samples"
    about = {"workdir": str(workdir), "step": run.step, "source": clips.source, "part": part, "clips": len(indices)}
    result = about | {"silenced": what, "shares": deletion.SHARES, "accuracy": accuracy}
    write_text(out / "faithfulness.json", json.dumps(result, indent=2) + "\n")
    title = f"{len(indices):,} {part} clips of {clips.source}"
    picture = plots.faithfulness(deletion.SHARES, accuracy, what, title, out / "faithfulness.png")
    print(f"accuracy, % of {what} silenced: " + "".join(f"{share:7.0%}" for share in deletion.SHARES))
    for order, values in accuracy.items():
        print(f"{order:<{len(what) + 31}}" + "".join(f"{value:7.1%}" for value in values))
    print(f"{picture}, .json")


def main(argv: list[str]) -> int:
    """Explains the predictions for sound files, or measures the faithfulness of all methods on clips of the data set.

    Returns the exit code, which is 1 if a file could not be read.
    """
    parser = cli.parser("explain", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the folder that training printed")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--method", choices=tuple(methods.METHODS), default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument("--label", help="label to explain (default: the predicted one)")
    parser.add_argument("--out", type=Path, help="output folder (default: WORKDIR/explanations)")
    parser.add_argument("--faithfulness", action="store_true", help="compare all methods on clips of the data set")
    parser.add_argument(
        "--part", choices=splits.Split._fields, default="test", help="part of these clips (default: test)"
    )
    parser.add_argument("--num-clips", type=int, default=200, help="number of these clips (default: 200)")
    parser.add_argument("--root", help="folder of the data set, if it has moved since the training")
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_args(argv)
    if args.faithfulness == bool(args.files):
        parser.error("give one FILE or more, or --faithfulness")
    cli.setup_jax()
    run, out = Trained.load(args.workdir, args.checkpoint, args.root), args.out or args.workdir / "explanations"
    check(run, args.method, args.label)
    out.mkdir(parents=True, exist_ok=True)
    if args.faithfulness:
        _faithfulness(run, args.part, args.num_clips, args.workdir, out)
        return 0
    return 1 if _explain_files(run, args.files, args.method, args.label, out) else 0


if __name__ == "__main__":
    cli.run(main)
