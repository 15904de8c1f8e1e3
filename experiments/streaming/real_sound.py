"""Evaluates a streaming recogniser on real recordings of people and rooms, see `audiojax.data.real`.

  python -m experiments.streaming.evaluate real --root DIR [--audiomnist DIR]   held-out part of the training corpora
  python -m experiments.streaming.evaluate real --root DIR --curve --decoder ema_decay=0.6 ema_decay=0.7
  python -m experiments.streaming.evaluate real --root DIR --part judge   the final evaluation, logged; not for tuning
  python -m experiments.streaming.evaluate unsure --root DIR   lists possible digits in reading without transcripts

Without --workdir it evaluates the packaged recogniser. Words of AudioMNIST are those of its validation speakers.
"""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from audiojax import cli
from audiojax import config as configs
from audiojax.data import loading, real, strings
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.inference import PACKAGED, Trained
from audiojax.io.files import write_text
from audiojax.streaming import scoring
from audiojax.streaming.decoder import Decoder, Event
from audiojax.streaming.report import StreamEvaluator
from audiojax.streaming.scenes import Word
from audiojax.synthesis.phonemes import DIGITS
from audiojax.training import environment
from experiments.protocols.records import RESULTS
from experiments.streaming import choose_points, real_scenes
from experiments.streaming.evaluate import load, opened
from experiments.streaming.real_scenes import RATE_HZ, Row

LOG = RESULTS / "judge.md"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
WARM_SECONDS = 2.0
UNSURE_PROBABILITY, UNSURE_MARGIN_SECONDS = 0.8, 0.15


def cached(recordings: real.Recordings) -> Clips:
    """Returns the clips of `recordings` with the default config, from the cache or from the files."""
    return loading.cached(configs.base(configs.parse_arg("")), recordings)


def network_outputs(evaluator: StreamEvaluator, rows: Sequence[Row]) -> list[list[np.ndarray]]:
    """Returns the outputs of the network for the sounds of each row, computed in common batches."""
    flat = iter(evaluator.outputs([sound for row in rows for sound in row.sounds]))
    return [[next(flat) for _ in row.sounds] for row in rows]


def score(
    evaluator: StreamEvaluator, rows: Sequence[Row], outputs: Sequence[Sequence[np.ndarray]], decoder: Decoder
) -> dict[str, dict[str, Any]]:
    """Returns the counts of each row, by name, from the `outputs` that `network_outputs` returned."""
    flat = [part for row in outputs for part in row]
    order = np.argsort([len(part) for part in flat], kind="stable")  # batches of similar length
    found: list[list[Event]] = [[]] * len(flat)
    for place, events in zip(order, evaluator.events([flat[place] for place in order], decoder), strict=True):
        found[place] = events
    events_of = iter(found)
    return {row.name: _counted(row, [next(events_of) for _ in row.sounds]) for row in rows}


def _counted(row: Row, events: Sequence[Sequence[Event]]) -> dict[str, Any]:
    seconds = sum(length for _, length in row.clips)
    result: dict[str, Any] = {"clips": len(row.clips), "minutes": seconds / 60}
    labels = [[event.label for event in found] for found in events]
    answers = [[DIGITS[digit] for digit in digits] for digits in row.digits]
    if row.kind == "events":
        return result | rate(sum(map(len, labels)), seconds / 3600) | {"events": _listed(row, events)}
    if row.kind == "errors":
        scenes = [[Word(digit, 0, 0) for digit in digits] for digits in row.digits]
        pairs = zip(scenes, events, strict=True)
        errors = scoring.errors_of(
            scoring.confusion_of(
                [match for words, found in pairs for match in scoring.match(words, found, DIGITS)], DIGITS
            )
        )
        count = errors.substitutions + errors.deletions + errors.insertions
        exact = sum(mine == right for mine, right in zip(labels, answers, strict=True))
        return result | _share(count, errors.words) | errors._asdict() | {"exact": exact}
    if row.kind == "first":
        labels = [found[:1] for found in labels]
    right = sum(mine == answer for mine, answer in zip(labels, answers, strict=True))
    return result | _share(right, len(answers)) | {"none": labels.count([])}


def _listed(row: Row, events: Sequence[Sequence[Event]]) -> list[tuple[str, float, str, float]]:
    """Returns, for each event, its clip, the end of the word in the clip in seconds, its label and probability."""
    starts, listed = np.cumsum([0.0, *(seconds for _, seconds in row.clips[:-1])]), []
    for place, found in enumerate(events):
        for event in found:
            clip = place
            if len(row.sounds) < len(row.clips):  # one stream of all clips
                clip = int(np.searchsorted(starts, event.end_seconds, "right")) - 1
            since = event.end_seconds - (starts[clip] if len(row.sounds) < len(row.clips) else 0.0)
            listed.append((row.clips[clip][0], round(float(since), 3), event.label, round(event.probability, 3)))
    return listed


def rate(count: int, hours: float) -> dict[str, Any]:
    """Returns a count and its rate per hour with its 95 % interval (Poisson)."""
    low, high = scipy.stats.chi2.ppf((0.025, 0.975), (2 * count, 2 * count + 2)) / 2 / hours
    return {"count": count, "rate": count / hours, "low": float(np.nan_to_num(low)), "high": float(high)}


def _share(count: int, number: int) -> dict[str, Any]:
    """Returns a count and its share of `number` with its 95 % interval (Wilson)."""
    interval = scipy.stats.binomtest(min(count, number), number).proportion_ci(method="wilson")
    return {"count": count, "of": number, "rate": count / number, "low": interval.low, "high": interval.high}


def show(result: dict[str, dict[str, Any]]) -> str:
    """Returns the table as Markdown."""
    lines = ["| | clips | minutes | counts | rate | 95 % |", "|---|---|---|---|---|---|"]
    for name, of in result.items():
        if "events" in of:
            counts, rates = f"{of['count']:,} events", [f"{of[key]:,.0f}" for key in ("rate", "low", "high")]
            rates[0] += " an hour"
        else:
            rates = [f"{of[key]:.1%}".replace("%", " %") for key in ("rate", "low", "high")]
            counts = f"{of['count']} of {of['of']} right, {of.get('none')} none"
            if "words" in of:
                kinds = " ".join(f"{name[0]} {of[name]}" for name in ("substitutions", "deletions", "insertions"))
                counts = f"{of['count']} errors of {of['of']} ({kinds}), {of['exact']} exact"
        lines.append(
            f"| {name} | {of['clips']:,} | {of['minutes']:.1f} | {counts} | {rates[0]} | {rates[1]} to {rates[2]} |"
        )
    return "\n".join(lines)


def show_curve(points: dict[float, dict[str, dict[str, Any]]]) -> str:
    """Returns a table by threshold: shares in per cent, and events per hour of one stream / from the initial state."""
    names = list(next(iter(points.values())))
    columns = [name for name in names if not name.endswith(", fresh")]
    titles = ["threshold", *(name.removesuffix(", stream") for name in columns)]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for threshold, result in points.items():
        cells = [f"{threshold:g}"]
        for name in columns:
            if name.endswith(", stream"):
                both = [result[f"{name.removesuffix('stream')}{start}"]["rate"] for start in ("stream", "fresh")]
                cells.append(" / ".join(f"{rate:.0f}" for rate in both))
            else:
                cells.append(f"{100 * result[name]['rate']:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def decoder_of(decoder: Decoder, text: str) -> Decoder:
    """Returns `decoder` with the settings of `text`, as in "threshold=0.3,ema_decay=0.6"."""
    changes = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            changes[name] = type(getattr(decoder, name))(value) if name in Decoder._fields else None
        except ValueError:
            changes[name] = None
        if changes[name] is None:
            raise InputError(f"--decoder {part} is not a setting; give NAME=VALUE of {', '.join(Decoder._fields)}.")
    return decoder._replace(**changes)


def validation_rows(root: Path, audiomnist: str | None, synthetic: Path | None = None) -> list[Row]:
    """Returns the rows of the validation part, with AudioMNIST's words and synthetic strings if given their folders."""
    words = None
    if audiomnist:
        clips, split = load("audiomnist", audiomnist)
        words = clips, split.validation
    rows = real_scenes.validation(real.load(root, "validation", cached), words)
    return rows + (real_scenes.synthetic(strings.load(synthetic, DIGITS, cached)) if synthetic else [])


def judge_rows(root: Path) -> list[Row]:
    """Returns the rows of the judge part."""
    kinds = ("digit", "string", "speech")
    return real_scenes.judge(root, {kind: cached(real.recordings(root, kind, "judge")) for kind in kinds})


def log_judge(path: Path, model: str, decoder: Decoder, table: str) -> None:
    """Appends an evaluation of the judge part to the log."""
    known = path.read_text() if path.exists() else "# Evaluations of the judge part\n\nNot used for tuning.\n"
    now, settings = datetime.datetime.now(), ", ".join(f"{name} {value:g}" for name, value in decoder._asdict().items())
    title = f"{known.count(chr(10) + '## ') + 1}: {now:%Y-%m-%d %H:%M}, {model}"
    revision = environment.describe(1)["revision"] or "no revision"
    write_text(path, f"{known}\n## {title}\n\nRevision {revision}; decoder: {settings}.\n\n{table}\n")


def warmed(evaluator: StreamEvaluator, clips: Clips, indices: np.ndarray) -> list[np.ndarray]:
    """Returns the outputs of the network for each clip, after `WARM_SECONDS` of the previous clip."""
    num_warm = round(WARM_SECONDS * clips.rate_hz)
    sounds = [clips[index] for index in indices]
    before = [np.resize(sounds[place - 1][-num_warm:], num_warm) for place in range(len(sounds))]
    outputs = evaluator.outputs([np.concatenate(pair) for pair in zip(before, sounds, strict=True)])
    num_steps = num_warm // evaluator.run.model.step_samples
    return [part[num_steps:] for part in outputs]


def unsure(evaluator: StreamEvaluator, clips: Clips, corpus: str = "librispeech") -> dict[str, list[list[float]]]:
    """Returns the stretches of each file of `corpus` that may have a digit: events of high probability."""
    if corpus not in clips.label_names:
        raise InputError(f"there is no {corpus} among the speech; restore it in index.csv.")
    indices = np.flatnonzero(clips.label == clips.label_names.index(corpus))
    found = {}
    for index, events in zip(indices, evaluator.events(warmed(evaluator, clips, indices)), strict=True):
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


def write_unsure(evaluator: StreamEvaluator, root: Path, path: Path) -> None:
    """Writes the result of `unsure`, one line per file."""
    stretches = unsure(evaluator, cached(real.recordings(root, "speech")))
    rows = [f"{json.dumps(name)}: {json.dumps(parts)}" for name, parts in stretches.items()]
    write_text(path, "{\n" + ",\n".join(rows) + "\n}\n")
    seconds = sum(end - start for parts in stretches.values() for start, end in parts)
    print(f"{sum(map(len, stretches.values()))} stretches, {seconds:.0f} s, in {len(stretches)} files")


def main(argv: list[str]) -> None:
    """Prints the table of the evaluation, or writes the possible digits in speech."""
    parser = cli.parser("experiments.streaming.evaluate", __doc__ or "")
    parser.add_argument("what", choices=("real", "unsure"))
    parser.add_argument("--root", type=Path, required=True, help="the folder of index.csv")
    parser.add_argument("--workdir", type=Path, nargs="+", help="run; the parameters of several runs are averaged")
    parser.add_argument("--part", choices=("validation", "judge"), default="validation")
    parser.add_argument("--audiomnist", help="folder of AudioMNIST; adds its validation speakers to scenes and strings")
    parser.add_argument("--strings", type=Path, help="folder of experiments.streaming.connected_speech; adds its rows")
    parser.add_argument(
        "--decoder", nargs="+", default=[""], help="decoder settings, as in threshold=0.3,ema_decay=0.6; each is scored"
    )
    parser.add_argument("--curve", action="store_true", help="score all thresholds; validation part only")
    parser.add_argument(
        "--points", action="store_true", help="with --curve: write operating points beside the parameters"
    )
    parser.add_argument("--json", type=Path, help="output file for all numbers and events")
    parser.add_argument("--log", type=Path, default=LOG, help="file to which evaluations of the judge part are added")
    parser.add_argument("--unsure", type=Path, default=real.UNSURE, help="output file of the command unsure")
    args = parser.parse_args(argv)
    if args.curve and args.part == "judge":
        raise InputError("--curve is not for --part judge, which is not for tuning; use --part validation.")
    cli.setup_jax()
    if args.points and (not args.curve or args.decoder != [""] or len(args.workdir or ()) > 1):
        raise InputError("--points needs --curve, the run's own decoder and one --workdir, or none; give these.")
    run = opened(args.workdir) if args.workdir else Trained.packaged()
    if args.points and args.workdir:  # the parameters that commands use
        run = Trained.load(args.workdir[0])
    if run.label_names != DIGITS or run.config.data.rate_hz != RATE_HZ:
        raise InputError(f"{args.workdir} does not recognise the ten digits at {RATE_HZ} Hz; give another --workdir.")
    evaluator = StreamEvaluator(run)
    if args.what == "unsure":
        write_unsure(evaluator, args.root, args.unsure)
        return
    decoders = [decoder_of(evaluator.decoder, text) for text in args.decoder]
    rows = judge_rows(args.root) if args.part == "judge" else validation_rows(args.root, args.audiomnist, args.strings)
    outputs = network_outputs(evaluator, rows)
    everything = []
    for decoder in decoders:
        thresholds = THRESHOLDS if args.curve else (decoder.threshold,)
        points = {float(t): score(evaluator, rows, outputs, decoder._replace(threshold=t)) for t in thresholds}
        everything += [{"decoder": decoder._replace(threshold=t)._asdict(), "rows": of} for t, of in points.items()]
        table = show_curve(points) if args.curve else show(points[decoder.threshold])
        print(f"{decoder}\n{table}", flush=True)
        if args.part == "judge":
            log_judge(args.log, " ".join(path.name for path in args.workdir or [Path("packaged")]), decoder, table)
        if args.points:
            choose_points.write(args.workdir[0] if args.workdir else PACKAGED, run, points)
    if args.json:
        write_text(args.json, json.dumps(everything, indent=1) + "\n")
