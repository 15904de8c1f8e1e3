"""Evaluates a trained run: accuracy, loss and calibration; accuracy by digit, speaker, sex and accent; worst errors.

All settings come from the workdir; the checkpoint is the best by validation accuracy unless --checkpoint=last. The
temperature is fitted on the validation clips and saved in the workdir for predict. report.html there has all results
with plots and sounds, in one file. If the workdir is read-only, the scores are printed only.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from audiojax import cli
from audiojax.data import loading, splits
from audiojax.errors import one_line
from audiojax.evaluation import classify
from audiojax.inference import Trained
from audiojax.io import console
from audiojax.streaming import report

T = TypeVar("T")


def _try(write: Callable[..., T], workdir: Path, *args: Any) -> T | None:
    """Returns the result of `write`, or, with a message on stderr, None if `workdir` cannot be written."""
    try:
        return write(workdir, *args)
    except OSError as error:
        what = one_line(error.strerror or error)
        print(f"audiojax: {error.filename or workdir}: {what}; the results are not saved there.", file=sys.stderr)
        return None


def _print(result: dict[str, Any], names: tuple[str, ...]) -> None:
    low, high = result["interval"]
    print(f"accuracy {result['accuracy']:.2%}  [{low:.1%}, {high:.1%}]   loss {result['loss']:.4f}   ", end="")
    calibration = result["calibration"]
    print(
        f"{result['clips']:,} clips\ncalibration error {calibration['error']:.1%} at temperature "
        f"{calibration['temperature']:.2f} ({calibration['error_uncalibrated']:.1%} without)\n"
    )
    width = max(map(len, names)) + 2
    print("true\\pred.".ljust(width + 4) + "".join(name[:5].rjust(6) for name in names) + "  accuracy")
    for name, row in zip(names, result["confusion"], strict=True):
        known = result["accuracy_by_label"].get(name)
        accuracy = f"{known['accuracy']:10.1%}" if known else "         -"
        print(name.ljust(width + 4) + "".join((str(n) if n else "·").rjust(6) for n in row) + accuracy)
    for kind in ("speaker", "sex", "accent"):
        groups = result[f"accuracy_by_{kind}"]
        if len(groups) < 2:
            continue
        width = max(map(len, [kind, *groups])) + 2
        print(f"\n{kind.ljust(width)} accuracy   95 % interval   clips")
        for name, of in groups.items():
            low, high = of["interval"]
            print(f"{name.ljust(width)} {of['accuracy']:8.1%}  {low:6.1%} - {high:6.1%}  {of['clips']:6,}")


def main(argv: list[str]) -> None:
    """Evaluates a trained run on a part of its data, prints the scores, and writes report.html to its workdir."""
    parser = cli.parser("evaluate", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the folder that training printed")
    parser.add_argument(
        "--split", choices=splits.Split._fields, default="test", help="part to evaluate (default: test)"
    )
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--root", help="folder of the data set, if it has moved since the training")
    parser.add_argument("--strings", type=int, default=500, help="streams: number of strings of words (default: 500)")
    parser.add_argument("--hours", type=float, default=0.5, help="streams: hours of each sound without words (0.5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    cli.setup_jax()
    run = Trained.load(args.workdir, args.checkpoint, args.root)
    clips = loading.load_clips(run.config)
    run.check_clips(clips)
    split = splits.make(clips, **run.config.split)
    if run.streams:
        amount = {"num_strings": args.strings, "hours": args.hours}
        with console.progress("evaluating", unit="tests") as report_progress:
            result = report.evaluate(run, clips, split, args.split, args.workdir, **amount, progress=report_progress)
        written = _try(report.write, args.workdir, run.label_names, result)
        if args.json:
            print(json.dumps(result))
            return
        print(f"{args.workdir}, {args.checkpoint} checkpoint (step {run.step}), {clips.source}'s {args.split} clips")
        print(report.show(result))
        if written:
            print(f"\nWith plots: {written}")
        return
    result = classify.evaluate(run, clips, split, args.split, args.workdir)
    written = _try(classify.write, args.workdir, clips, result)
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.workdir}, {args.checkpoint} checkpoint (step {run.step}), on {clips.source}'s {args.split} clips")
    _print(result, run.label_names)
    if written:
        print(f"\nWith plots and sounds: {written}")


if __name__ == "__main__":
    cli.run(main)
