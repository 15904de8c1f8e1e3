"""Scores a trained run: accuracy, loss, calibration, by digit, speaker, sex and accent, and its worst errors.

Everything comes from the workdir; the checkpoint is the best by validation accuracy unless --checkpoint=last.
The temperature is fitted on the validation clips and kept in the workdir, where predict finds it; report.html there
holds all of it with pictures and sounds, in one file. Where the workdir cannot be written, the scores are printed and
nothing is kept.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax import analysis, command, hearing, listener_report, page, prepare, runlog, trained
from audiojax.data import batches, splits, streams
from audiojax.decoder import Decoder
from audiojax.mesh import Mesh, shard_batch
from audiojax.metrics import Metrics
from audiojax.state import EvalStep, listens, make_eval_step
from audiojax.trained import Trained
from audiojax.types import Batch, Clips, InputError, one_line

T = TypeVar("T")
NUM_WORST = 8
_sums = jax.jit(Metrics.of)


def score(eval_step: EvalStep, variables: dict, parts: Iterable[Batch], num_labels: int, mesh: Mesh) -> Metrics:
    """The sums over all batches, on the devices until the last is added."""
    metrics = Metrics.zero(num_labels)
    for batch in batches.prefetch(shard_batch(part, mesh) for part in parts):
        metrics = metrics + eval_step(variables, batch)
    return metrics


def make_score(
    config: ConfigDict, model: nn.Module, clips: Clips, split: splits.Split, mesh: Mesh, shape: dict
) -> Callable[..., Metrics]:
    """(variables, part, guard) -> the sums over a part of the split; `guard` lets Ctrl-C through between two batches.

    A network that listens is scored by its events on strings of the part's words, clean and at 10 dB in turn.
    """
    if not listens(model):
        eval_step, num_labels = make_eval_step(model), len(clips.label_names)

        def score_clips(variables: dict, part: str, guard: Callable) -> Metrics:
            indices = getattr(split, part)
            rows = guard(batches.evaluation(clips, indices[batches.by_length(clips, indices)], **shape))
            return score(eval_step, variables, rows, num_labels, mesh)

        return score_clips
    strings = {
        part: hearing.strings(clips, getattr(split, part), config.streams.num_strings) for part in split._fields[1:]
    }
    rendered: dict[str, list[streams.Scene]] = {}  # the same in every epoch

    def score_strings(variables: dict, part: str, guard: Callable) -> Metrics:
        if part not in rendered:
            rendered[part] = [streams.render(plan, clips) for plan in guard(strings[part])]
        scenes = list(guard(rendered[part]))
        return hearing.score(model, variables, Decoder(**config.decoder), scenes, clips.label_names, clips.rate_hz)

    return score_strings


def calibrate(run: Trained, clips: Clips, validation: np.ndarray) -> Trained:
    """The same run with the temperature that fits its validation clips."""
    temperature = analysis.fit_temperature(run.logits_of(clips, validation), clips.label[validation])
    return dataclasses.replace(run, temperature=temperature)


def report(run: Trained, clips: Clips, indices: np.ndarray) -> dict:
    """All that is known of a run on the clips at `indices`, ready for JSON; the confusion is [true][predicted]."""
    logits, label = run.logits_of(clips, indices), clips.label[indices]
    probabilities = run.probabilities(logits)
    guess, whole = probabilities.argmax(axis=1), _sums(logits, label, np.ones(len(indices), np.float32))
    speakers = [str(name) for name in clips.speaker[indices]]
    about = [clips.speakers[name] for name in speakers]
    groups = {
        "label": [run.label_names[number] for number in label],
        "speaker": speakers,
        "sex": [speaker.sex for speaker in about],
        "accent": [speaker.accent for speaker in about],
    }
    curve, raw = analysis.reliability(probabilities, label), analysis.reliability(analysis.softmax(logits), label)
    wrong = np.flatnonzero(guess != label)
    worst = wrong[np.argsort(-probabilities[wrong, guess[wrong]], kind="stable")][:NUM_WORST]
    return {
        **whole.summary(),
        "clips": len(indices),
        "interval": analysis.wilson(int((guess == label).sum()), len(indices)),
        "calibration": {
            "temperature": run.temperature,
            "error": curve.error,
            "error_uncalibrated": raw.error,
            "loss": analysis.cross_entropy(logits, label, run.temperature),
            **{name: [None if np.isnan(x) else x for x in bins.tolist()] for name, bins in vars(curve).items()},
        },
        **{f"accuracy_by_{name}": _by_group(np.asarray(of), guess == label) for name, of in groups.items()},
        "confusion": np.asarray(whole.confusion).tolist(),
        "worst": [
            {
                "index": int(indices[i]),
                "path": clips.path[indices[i]],
                "said": run.label_names[label[i]],
                "heard": run.label_names[guess[i]],
                "probability": float(probabilities[i, guess[i]]),
            }
            for i in worst
        ],
    }


def tell(run: Trained, clips: Clips, split: splits.Split, part: str, workdir: Path) -> dict:
    """Calibrates and scores `part` of the split; returns what `report` says, and what that is of."""
    run = calibrate(run, clips, split.validation)
    about = {"workdir": str(workdir), "source": clips.source, "split": part, "step": run.step}
    return about | report(run, clips, getattr(split, part))


def keep(workdir: Path, clips: Clips, result: dict) -> Path:
    """Writes what `tell` returned into `workdir`: the temperature, the pictures and the page, whose path it returns."""
    trained.write_temperature(workdir, result["step"], result["calibration"]["temperature"])
    return page.write(workdir, clips, result)


def _try(write: Callable[..., T], workdir: Path, *args: Any) -> T | None:
    """What `write` returns; where `workdir` cannot be written, a sentence on stderr and None."""
    try:
        return write(workdir, *args)
    except OSError as error:
        what = one_line(error.strerror or error)
        print(f"audiojax: {error.filename or workdir}: {what}; what is to be kept there is left out.", file=sys.stderr)
        return None


def _by_group(group: np.ndarray, right: np.ndarray) -> dict[str, dict]:
    """{name: accuracy, its interval, clips}, the lowest accuracy first."""
    found: dict[str, dict[str, Any]] = {}
    for name in np.unique(group):
        mine = right[group == name]
        found[str(name)] = {
            "accuracy": float(mine.mean()),
            "interval": analysis.wilson(int(mine.sum()), len(mine)),
            "clips": len(mine),
        }
    return dict(sorted(found.items(), key=lambda item: item[1]["accuracy"]))


def _print(result: dict, names: tuple[str, ...]) -> None:
    low, high = result["interval"]
    print(f"accuracy {result['accuracy']:.2%}  [{low:.1%}, {high:.1%}]   loss {result['loss']:.4f}   ", end="")
    calibration = result["calibration"]
    print(
        f"{result['clips']:,} clips\ncalibration error {calibration['error']:.1%} at temperature "
        f"{calibration['temperature']:.2f} ({calibration['error_uncalibrated']:.1%} without)\n"
    )
    width = max(map(len, names)) + 2
    print("said \\ heard".ljust(width + 4) + "".join(name[:5].rjust(6) for name in names) + "  accuracy")
    for name, row in zip(names, result["confusion"], strict=True):
        known = result["accuracy_by_label"].get(name)
        accuracy = f"{known['accuracy']:10.1%}" if known else "         -"
        print(name.ljust(width + 4) + "".join((str(n) if n else "·").rjust(6) for n in row) + accuracy)
    for kind in ("speaker", "sex", "accent"):
        groups = result[f"accuracy_by_{kind}"]
        width = max(map(len, [kind, *groups])) + 2
        print(f"\n{kind.ljust(width)} accuracy   95 % interval   clips")
        for name, of in groups.items():
            low, high = of["interval"]
            print(f"{name.ljust(width)} {of['accuracy']:8.1%}  {low:6.1%} - {high:6.1%}  {of['clips']:6,}")


def main(argv: list[str]) -> None:
    parser = command.parser("evaluate", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the folder that training printed")
    parser.add_argument("--split", choices=splits.Split._fields, default="test", help="what to score (default: test)")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--root", help="where the data set lies now, if not where it was trained from")
    parser.add_argument("--strings", type=int, default=500, help="for a listener: strings of words (default: 500)")
    parser.add_argument("--hours", type=float, default=0.5, help="for a listener: of each sound without a word (0.5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    command.setup_jax()
    run = Trained.load(args.workdir, args.checkpoint)
    if args.root:
        run.config.data.root = args.root
    clips = prepare.load_clips(run.config)
    if clips.key != run.data["key"]:
        raise InputError(f"the clips of config.data are not those that {args.workdir} was trained on; restore them.")
    split = splits.make(clips, **run.config.split)
    if run.listens:
        amount = {"num_strings": args.strings, "hours": args.hours}
        with runlog.progress("listening", unit="tests") as report_progress:
            result = listener_report.tell(
                run, clips, split, args.split, args.workdir, **amount, progress=report_progress
            )
        _try(listener_report.keep, args.workdir, result)
        if args.json:
            print(json.dumps(result))
            return
        print(f"{args.workdir}, {args.checkpoint} checkpoint (step {run.step}), {clips.source}'s {args.split} clips")
        print(listener_report.show(result))
        return
    result = tell(run, clips, split, args.split, args.workdir)
    written = _try(keep, args.workdir, clips, result)
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.workdir}, {args.checkpoint} checkpoint (step {run.step}), on {clips.source}'s {args.split} clips")
    _print(result, run.label_names)
    if written:
        print(f"\nWith pictures and sounds: {written}")


if __name__ == "__main__":
    command.run(main)
