"""What is to be known of a listener: errors a word, delays, false alarms an hour, and the trade between them."""

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
from audiojax.evaluation import plots
from audiojax.evaluation.summary import epochs_of
from audiojax.inference import Trained
from audiojax.io import console
from audiojax.io.files import write_text
from audiojax.io.progress import Progress
from audiojax.streaming import scenes as streams
from audiojax.streaming import scoring
from audiojax.streaming.decoder import FLUSH_SECONDS, Decoder, Event
from audiojax.streaming.scoring import Match
from audiojax.training.runlog import RunLog

SNRS_DB = (None, 20.0, 10.0, 5.0, 0.0)
NOISES = ("white", "pink", "brown", "hum", "rumble", "clicks", "beeps", "babble", "siren")
Sound = Callable[[int, float], np.ndarray]  # (seed, seconds) -> i16[t]
ROW_SECONDS = 300.0  # of the long sounds, which are heard side by side
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Ear:
    """A listener and its words, to be asked about many sounds."""

    def __init__(self, run: Trained):
        self.run, self.names, self.rate_hz = run, run.label_names, run.config.data.rate_hz
        self.decoder = Decoder(**run.config.decoder)
        self._step_seconds = run.model.step_samples / self.rate_hz

    def said(self, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
        return scoring.hear(self.run.model, self.run.variables, sounds)

    def events(
        self, said: Sequence[np.ndarray], decoder: Decoder | None = None, thresholds: Sequence[float] = ()
    ) -> list[list[Event]]:
        return scoring.events(decoder or self.decoder, said, self.names, self._step_seconds, thresholds)

    def matches(
        self, scenes: Sequence[streams.Scene], said: Sequence[np.ndarray], decoder: Decoder | None = None
    ) -> list[list[Match]]:
        """The matches of each scene."""
        heard = self.events(said, decoder)
        return [scoring.match(scene.words, found, self.names) for scene, found in zip(scenes, heard, strict=True)]


def report(
    run: Trained, clips: Clips, indices: np.ndarray, *, num_strings: int, hours: float, progress: Progress
) -> dict[str, Any]:
    """All that is known of a listener on strings of the clips at `indices`, on these alone, and on what is no word.

    Args:
        num_strings: at each noise level; the same strings at all of them.
        hours: of silence, of noise, and of speech without a word, each.
    """
    ear, plans = Ear(run), streams.draw(clips, indices, number=num_strings, seed=1)
    groups = wordless_sounds(run, clips, indices)
    total, done = 2 * len(SNRS_DB) + 1 + len(groups), 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    strings, clean = {}, None
    for snr_db in SNRS_DB:
        scenes = [streams.render(plan, clips) for plan in streams.with_snr(plans, snr_db)]
        said = ear.said([scene.audio for scene in scenes])
        clean = clean or (scenes, said)
        step()
        long = join(scenes)
        name = "clean" if snr_db is None else f"{snr_db:g} dB"
        strings[name] = {
            "reset": count_errors(ear, ear.matches(scenes, said)),
            "never_reset": count_errors(ear, ear.matches(long, ear.said([scene.audio for scene in long]))),
        }
        step()
    alone = indices[:: max(1, len(indices) // 2000)]
    isolated = hear_alone(ear, clips, alone)
    step()
    alarms, wordless = {}, {}
    for name, kinds in groups.items():
        alarms[name], wordless[name] = false_alarms(ear, kinds, hours)
        step()
    assert clean
    return {
        "strings": strings,
        "num_strings": num_strings,
        "isolated": isolated,
        "false_alarms": alarms,
        "hours": hours,
        "curve": _curve(ear, *clean, wordless, hours),
    }


def wordless_sounds(run: Trained, clips: Clips, indices: np.ndarray) -> dict[str, dict[str, Sound]]:
    """{group: {kind: sound}} of sounds in which no word is."""

    def background(name: str) -> Sound:
        return lambda seed, seconds: streams.background(name, seed, seconds, clips, indices)

    speech: dict[str, Sound] = {
        "reversed words": lambda seed, seconds: streams.chatter(seed, seconds, clips, indices, backwards=True)
    }
    for maker in run.config.streams.phrases:
        phrases = loading.load_phrases(run.config, maker, "test")
        speech[maker] = functools.partial(streams.chatter, clips=phrases, indices=np.arange(len(phrases)))
    noise = {name: background(name) for name in NOISES}
    return {"silence": {"silence": background("silence")}, "noise": noise, "speech": speech}


def false_alarms(ear: Ear, kinds: dict[str, Sound], hours: float) -> tuple[dict[str, Any], list[np.ndarray]]:
    """How many events there are in `hours` of sounds, the kinds in turn; the rate an hour, and the one that is not
    exceeded with 95 % confidence (Poisson); and what the network said."""
    rows = -(-max(1, round(hours * 3600 / ROW_SECONDS)) // len(kinds)) * len(kinds)
    names, said = list(kinds), []
    for first in range(0, rows, scoring.ROWS):  # so many at once as memory has room for
        numbers = range(first, min(rows, first + scoring.ROWS))
        said += ear.said([kinds[names[n % len(kinds)]](n, hours * 3600 / rows) for n in numbers])
    counts = list(map(len, ear.events(said)))
    bound = float(scipy.special.gammaincinv(sum(counts) + 1, 0.95)) / hours
    by_kind = {name: sum(counts[number :: len(kinds)]) for number, name in enumerate(names)}
    return {"events": sum(counts), "per_hour": sum(counts) / hours, "bound": bound, "by_kind": by_kind}, said


def join(scenes: Sequence[streams.Scene], parts: int = scoring.ROWS) -> list[streams.Scene]:
    """The scenes one after the other, as `parts` long ones: a listener hears them without a reset."""
    long = []
    for group in (scenes[i::parts] for i in range(min(parts, len(scenes)))):
        words, at = [], 0
        for scene in group:
            words += [streams.Word(label, at + start, at + end) for label, start, end in scene.words]
            at += len(scene.audio)
        long.append(streams.Scene(np.concatenate([scene.audio for scene in group]), tuple(words)))
    return long


def count_errors(ear: Ear, matches: Sequence[Sequence[Match]]) -> dict[str, Any]:
    """Digit error rate, its counts, delays in seconds and the confusion [said][heard] of the matches of scenes."""
    flat = [match for scene in matches for match in scene]
    confusion = scoring.confusion_of(flat, ear.names)
    errors, late = scoring.errors_of(confusion), scoring.delays(flat, ear.rate_hz, ear.names)
    return {
        "digit_error_rate": errors.rate,
        **errors._asdict(),
        "delay_median_seconds": float(np.median(late)) if len(late) else None,
        "delay_95_seconds": float(np.percentile(late, 95)) if len(late) else None,
        "confusion": confusion.tolist(),
    }


def hear_alone(ear: Ear, clips: Clips, indices: np.ndarray) -> dict[str, Any]:
    """Each clip alone, with silence behind it: its first event is the answer."""
    quiet = np.zeros(round(FLUSH_SECONDS * clips.rate_hz), np.int16)
    heard = ear.events(ear.said([np.concatenate([clips[i], quiet]) for i in indices]))
    right = sum(
        found[:1] != [] and found[0].label == ear.names[clips.label[i]] for i, found in zip(indices, heard, strict=True)
    )
    return {"accuracy": right / len(indices), "clips": len(indices), "none": sum(not found for found in heard)}


def _curve(
    ear: Ear, scenes: Sequence[streams.Scene], said: Sequence[np.ndarray], wordless: dict[str, Any], hours: float
) -> dict[str, Any]:
    """Misses among clean words against false alarms an hour, over thresholds."""
    points: list[dict[str, Any]] = []
    for threshold in THRESHOLDS:
        flat = [
            match for scene in ear.matches(scenes, said, ear.decoder._replace(threshold=threshold)) for match in scene
        ]
        errors = scoring.errors_of(scoring.confusion_of(flat, ear.names))
        misses = (errors.deletions + errors.substitutions) / max(errors.words, 1)
        points.append(
            {"threshold": threshold, "misses": misses, "digit_error_rate": errors.rate, "alarms_per_hour": {}}
        )
    for name, heard in wordless.items():
        every = [threshold for threshold in THRESHOLDS for _ in heard]
        counts = list(map(len, ear.events(list(heard) * len(THRESHOLDS), thresholds=every)))
        for number, point in enumerate(points):
            point["alarms_per_hour"][name] = sum(counts[number * len(heard) :][: len(heard)]) / hours
    return {"points": points, "threshold": ear.decoder.threshold}


def tell(
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
    """Scores `part` of the split; returns what `report` says, and what that is of."""
    about = {"workdir": str(workdir), "source": clips.source, "split": part, "step": run.step}
    return about | report(run, clips, getattr(split, part), num_strings=num_strings, hours=hours, progress=progress)


def keep(workdir: Path, result: dict[str, Any]) -> None:
    """Writes what `tell` returned into `workdir`: the curve's picture and `listening_PART.json`."""
    part = result["split"]
    title, picture = f"{result['source']}, {part}", workdir / "plots" / f"listening_{part}.png"
    plots.misses_and_alarms(result["curve"], title, picture)
    write_text(workdir / f"listening_{part}.json", json.dumps(result, indent=2) + "\n")


def show(result: dict[str, Any]) -> str:
    """The tables that people read."""
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
    lines += ["", f"clips alone: {alone['accuracy']:.2%} of {alone['clips']:,} have the right first event"]
    lines += ["", f"without a word, {result['hours']:g} hours each   events  an hour   at most (95 %)"]
    for name, of in result["false_alarms"].items():
        lines.append(f"  {name:<28} {of['events']:8d} {of['per_hour']:8.2f} {of['bound']:12.2f}")
    return "\n".join(lines)


def finish(best: Trained, data: Data, workdir: Path, log: RunLog) -> dict[str, Any]:
    """Scores the best checkpoint of a run, draws, sends it all to W&B, and writes the summary, which it returns.

    Raises InputError where metrics.jsonl has no epochs.
    """
    epochs, clips, split = epochs_of(workdir), data.clips, data.split
    amount = {"num_strings": best.config.streams.num_strings, "hours": best.config.streams.alarm_hours}
    with console.progress("listening", unit="tests") as progress:
        result = tell(best, clips, split, "test", workdir, **amount, progress=progress)
    keep(workdir, result)
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
    plots.curves(epochs, "loss and accuracy by epoch", workdir / "plots" / "curves.png")
    confusion, names = np.asarray(strings["clean"]["confusion"]), (*clips.label_names, "nothing")
    plots.confusion_matrix(confusion, names, "said and heard, clean", workdir / "plots" / "confusion_test.png")
    log.pictures(sorted((workdir / "plots").glob("*.png")), {}, confusion, names)
    write_text(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    log.say(show(result))
    log.say(f"{sentence(summary)}\nEverything lies in {workdir}.")
    log.say(f"Try it: python -m audiojax.listen --workdir {workdir} FILE.wav")
    return summary


def sentence(summary: dict[str, Any]) -> str:
    """Returns the summary of a streaming run in words."""
    count = f"{summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}"
    return (
        f"After {count} on {summary['source']} the best listener errs on "
        f"{summary['test/digit_error_rate/clean']:.2%} of the words in clean test strings, "
        f"{summary['test/digit_error_rate/10 dB']:.2%} at 10 dB."
    )
