"""Evaluation of a streaming recogniser: digit error rate, delay, false alarms per hour, and their trade-off."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special

from audiojax.data import loading, splits
from audiojax.data.clips import Clips
from audiojax.data.loading import Data
from audiojax.evaluation.summary import epochs_of
from audiojax.inference import Trained
from audiojax.io import console
from audiojax.io.files import write_text
from audiojax.io.progress import Progress
from audiojax.streaming import html_report, scoring
from audiojax.streaming import scenes as streams
from audiojax.streaming.decoder import FLUSH_SECONDS, Decoder, Event
from audiojax.streaming.scoring import Match
from audiojax.training.runlog import RunLog

SNRS_DB = (None, 20.0, 10.0, 5.0, 0.0)
NOISES = ("white", "pink", "brown", "hum", "rumble", "clicks", "beeps", "babble", "siren")
Sound = Callable[[int, float], np.ndarray]  # (seed, seconds) -> i16[t]
ROW_SECONDS = 300.0  # length of the sounds without a word to recognise, which are processed in batches
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class StreamEvaluator:
    """Runs a streaming recogniser on many sounds and aligns the words it recognises with those that were spoken."""

    def __init__(self, run: Trained):
        """Takes the network, the labels and the settings of the decoder from `run`."""
        self.run, self.names, self.rate_hz = run, run.label_names, run.config.data.rate_hz
        self.decoder = Decoder(**run.config.decoder)
        self._step_seconds = run.model.step_samples / self.rate_hz

    def outputs(self, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the network's outputs f32[steps, n] for each sound i16[t], see `models.gru.StreamOutputs`."""
        return scoring.network_outputs(self.run.model, self.run.variables, sounds)

    def events(
        self, outputs: Sequence[np.ndarray], decoder: Decoder | None = None, thresholds: Sequence[float] = ()
    ) -> list[list[Event]]:
        """Returns each sound's recognised words, found in `outputs` by `decoder`, by default the run's.

        `thresholds`, one for each sound, replace the decoder's.
        """
        return scoring.events(decoder or self.decoder, outputs, self.names, self._step_seconds, thresholds)

    def matches(
        self, scenes: Sequence[streams.Scene], outputs: Sequence[np.ndarray], decoder: Decoder | None = None
    ) -> list[list[Match]]:
        """Aligns the words of each scene with the events in the network's outputs for its sound."""
        found = self.events(outputs, decoder)
        return [scoring.match(scene.words, events, self.names) for scene, events in zip(scenes, found, strict=True)]


def report(
    run: Trained, clips: Clips, indices: np.ndarray, *, num_strings: int, hours: float, progress: Progress
) -> dict[str, Any]:
    """Evaluates a run on strings of clips, on each clip alone, and on sounds without words to recognise.

    Args:
        run: A streaming recogniser.
        clips: The clips of the data set.
        indices: Indices of the clips from which the strings are built.
        num_strings: Number of strings at each noise level; they are the same at all levels.
        hours: Hours each of silence, of noise, and of speech without words to recognise.
        progress: Called as (done, total) after each part.

    Returns:
        Errors in strings, with the network's state reset before each and never reset, and in isolated clips; false
        alarms; and misses against false alarms.
    """
    evaluator, plans = StreamEvaluator(run), streams.sample_plans(clips, indices, number=num_strings, seed=1)
    groups = wordless_sounds(run, clips, indices)
    total, done = 2 * len(SNRS_DB) + 1 + len(groups), 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    strings, clean = {}, None
    for snr_db in SNRS_DB:
        scenes = [streams.render(plan, clips) for plan in streams.with_snr(plans, snr_db)]
        outputs = evaluator.outputs([scene.audio for scene in scenes])
        clean = clean or (scenes, outputs)
        step()
        long = join(scenes)
        name = "clean" if snr_db is None else f"{snr_db:g} dB"
        strings[name] = {
            "reset": count_errors(evaluator, evaluator.matches(scenes, outputs)),
            "never_reset": count_errors(
                evaluator, evaluator.matches(long, evaluator.outputs([scene.audio for scene in long]))
            ),
        }
        step()
    alone = indices[:: max(1, len(indices) // 2000)]
    isolated = score_isolated(evaluator, clips, alone)
    step()
    alarms, wordless = {}, {}
    for name, kinds in groups.items():
        alarms[name], wordless[name] = false_alarms(evaluator, kinds, hours)
        step()
    assert clean
    return {
        "strings": strings,
        "num_strings": num_strings,
        "isolated": isolated,
        "false_alarms": alarms,
        "hours": hours,
        "curve": _curve(evaluator, *clean, wordless, hours),
    }


def wordless_sounds(run: Trained, clips: Clips, indices: np.ndarray) -> dict[str, dict[str, Sound]]:
    """Returns functions (seed, seconds) -> i16[t], sounds without words to recognise, as {group: {kind: function}}."""

    def background(name: str) -> Sound:
        return lambda seed, seconds: streams.background(name, seed, seconds, clips, indices)

    speech: dict[str, Sound] = {
        "reversed words": lambda seed, seconds: streams.chatter(seed, seconds, clips, indices, backwards=True)
    }
    for source in run.config.streams.negative_sources:
        phrases = loading.load_phrases(run.config, source, "test")
        speech[source] = functools.partial(streams.chatter, clips=phrases, indices=np.arange(len(phrases)))
    noise = {name: background(name) for name in NOISES}
    return {"silence": {"silence": background("silence")}, "noise": noise, "speech": speech}


def false_alarms(
    evaluator: StreamEvaluator, kinds: dict[str, Sound], hours: float
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Counts the events in `hours` of sounds without words to recognise, an equal part of each of `kinds`.

    Returns:
        The counts, the rate per hour and its upper 95 % confidence bound (Poisson); and the outputs of the network.
    """
    rows = -(-max(1, round(hours * 3600 / ROW_SECONDS)) // len(kinds)) * len(kinds)
    names, outputs = list(kinds), []
    for first in range(0, rows, scoring.ROWS):  # limits the memory used
        numbers = range(first, min(rows, first + scoring.ROWS))
        outputs += evaluator.outputs([kinds[names[n % len(kinds)]](n, hours * 3600 / rows) for n in numbers])
    counts = list(map(len, evaluator.events(outputs)))
    bound = float(scipy.special.gammaincinv(sum(counts) + 1, 0.95)) / hours
    by_kind = {name: sum(counts[number :: len(kinds)]) for number, name in enumerate(names)}
    return {"events": sum(counts), "per_hour": sum(counts) / hours, "bound": bound, "by_kind": by_kind}, outputs


def join(scenes: Sequence[streams.Scene], parts: int = scoring.ROWS) -> list[streams.Scene]:
    """Concatenates scenes into at most `parts` long ones, in which the network's state is not reset between scenes."""
    long = []
    for group in (scenes[i::parts] for i in range(min(parts, len(scenes)))):
        words, at = [], 0
        for scene in group:
            words += [word._replace(start=at + word.start, end=at + word.end) for word in scene.words]
            at += len(scene.audio)
        long.append(streams.Scene(np.concatenate([scene.audio for scene in group]), tuple(words)))
    return long


def count_errors(evaluator: StreamEvaluator, matches: Sequence[Sequence[Match]]) -> dict[str, Any]:
    """Returns the digit error rate of `matches`, counts of errors, delays in seconds and the confusion matrix."""
    flat = [match for scene in matches for match in scene]
    confusion = scoring.confusion_of(flat, evaluator.names)
    errors, late = scoring.errors_of(confusion), scoring.delays(flat, evaluator.rate_hz, evaluator.names)
    return {
        "digit_error_rate": errors.rate,
        **errors._asdict(),
        "delay_median_seconds": float(np.median(late)) if len(late) else None,
        "delay_95_seconds": float(np.percentile(late, 95)) if len(late) else None,
        "confusion": confusion.tolist(),
    }


def score_isolated(evaluator: StreamEvaluator, clips: Clips, indices: np.ndarray) -> dict[str, Any]:
    """Returns the accuracy of the first event in each clip alone, the number of clips, and how many have no event."""
    quiet = np.zeros(round(FLUSH_SECONDS * clips.rate_hz), np.int16)
    found = evaluator.events(evaluator.outputs([np.concatenate([clips[i], quiet]) for i in indices]))
    right = sum(
        events[:1] != [] and events[0].label == evaluator.names[clips.label[i]]
        for i, events in zip(indices, found, strict=True)
    )
    return {"accuracy": right / len(indices), "clips": len(indices), "none": sum(not events for events in found)}


def _curve(
    evaluator: StreamEvaluator,
    scenes: Sequence[streams.Scene],
    outputs: Sequence[np.ndarray],
    wordless: dict[str, Any],
    hours: float,
) -> dict[str, Any]:
    """Returns the miss rate of clean words and the false alarms per hour for each threshold."""
    points: list[dict[str, Any]] = []
    for threshold in THRESHOLDS:
        matches = evaluator.matches(scenes, outputs, evaluator.decoder._replace(threshold=threshold))
        flat = [match for scene in matches for match in scene]
        errors = scoring.errors_of(scoring.confusion_of(flat, evaluator.names))
        misses = (errors.deletions + errors.substitutions) / max(errors.words, 1)
        points.append(
            {"threshold": threshold, "misses": misses, "digit_error_rate": errors.rate, "alarms_per_hour": {}}
        )
    for name, rows in wordless.items():
        every = [threshold for threshold in THRESHOLDS for _ in rows]
        counts = list(map(len, evaluator.events(list(rows) * len(THRESHOLDS), thresholds=every)))
        for number, point in enumerate(points):
            point["alarms_per_hour"][name] = sum(counts[number * len(rows) :][: len(rows)]) / hours
    return {"points": points, "threshold": evaluator.decoder.threshold}


def evaluate(
    run: Trained,
    clips: Clips,
    split: splits.Split,
    part: str,
    workdir: Path,
    *,
    num_strings: int,
    hours: float,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluates `part` of the split; returns the result of `report` and what was evaluated, for `write` and `show`."""
    about = {"workdir": str(workdir), "source": clips.source, "split": part, **run.about()}
    return about | report(run, clips, getattr(split, part), num_strings=num_strings, hours=hours, progress=progress)


def write(workdir: Path, label_names: tuple[str, ...], result: dict[str, Any]) -> Path:
    """Writes a result of `evaluate` as listening_PART.json, plots and report.html; returns the path of report.html."""
    write_text(workdir / f"listening_{result['split']}.json", json.dumps(result, indent=2) + "\n")
    return html_report.write(workdir, label_names, result)


def show(result: dict[str, Any]) -> str:
    """Returns a result of `evaluate` as tables in plain text."""
    lines = ["noise    digit errors   sub   del   ins  words   delay, median  95 %   never reset"]
    for name, both in result["strings"].items():
        of, carried = both["reset"], both["never_reset"]
        counts = f"{of['substitutions']:6d}{of['deletions']:6d}{of['insertions']:6d}{of['words']:7,d}"
        late = [
            f"{1000 * of[key]:4.0f} ms" if of[key] is not None else "-"
            for key in ("delay_median_seconds", "delay_95_seconds")
        ]
        lines.append(
            f"{name:<8} {of['digit_error_rate']:11.2%} {counts} {late[0]:>15}{late[1]:>9} "
            f"{carried['digit_error_rate']:11.2%}"
        )
    alone = result["isolated"]
    lines += ["", f"isolated clips: {alone['accuracy']:.2%} of {alone['clips']:,} have the right first event"]
    lines += ["", f"no words, {result['hours']:g} hours each       events per hour   at most (95 %)"]
    for name, of in result["false_alarms"].items():
        lines.append(f"  {name:<28} {of['events']:8d} {of['per_hour']:8.2f} {of['bound']:12.2f}")
    return "\n".join(lines)


def finish(best: Trained, data: Data, workdir: Path, log: RunLog) -> dict[str, Any]:
    """Evaluates the best checkpoint of a run, writes plots and summary, logs them to W&B, and returns the summary.

    Raises InputError if metrics.jsonl has no epochs.
    """
    epochs, clips, split = epochs_of(workdir), data.clips, data.split
    amount = {"num_strings": best.config.streams.num_strings, "hours": best.config.streams.false_alarm_hours}
    with console.progress("evaluating", unit="tests") as progress:
        result = evaluate(best, clips, split, "test", workdir, **amount, progress=progress)
    page = write(workdir, clips.label_names, result)
    strings = {name: both["reset"] for name, both in result["strings"].items()}
    summary = {
        "source": clips.source,
        "epochs": epochs[-1]["epoch"],
        "step": best.step,
        **{f"last/{name}": epochs[-1][f"{name}/accuracy"] for name in ("validation", "test")},
        **{f"test/digit_error_rate/{name}": of["digit_error_rate"] for name, of in strings.items()},
        "test/delay_median_seconds": strings["clean"]["delay_median_seconds"],
        "test/accuracy": result["isolated"]["accuracy"],
    }
    confusion, names = np.asarray(strings["clean"]["confusion"]), (*clips.label_names, html_report.NO_WORD)
    log.pictures(sorted((workdir / "plots").glob("*.png")), {}, confusion, names)
    write_text(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    log.say(show(result))
    log.say(f"{sentence(summary)}\nEverything lies in {workdir}; start with {page}.")
    log.say(f"To use it: python -m audiojax.listen --workdir {workdir} FILE.wav")
    return summary


def sentence(summary: dict[str, Any]) -> str:
    """Returns the summary of a streaming run, the result of `finish`, as one sentence."""
    count = f"{summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}"
    return (
        f"After {count} on {summary['source']} the best checkpoint has a digit error rate of "
        f"{summary['test/digit_error_rate/clean']:.2%} on clean test strings and of "
        f"{summary['test/digit_error_rate/10 dB']:.2%} at 10 dB."
    )
