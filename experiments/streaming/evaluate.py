"""Evaluates a streaming recogniser: digit errors, delay, false alarms, long streams, rooms, speed and memory.

  python -m experiments.streaming.evaluate lists --audiomnist DIR --fsdd DIR   samples the test strings (once)
  python -m experiments.streaming.evaluate develop --workdir RUN --audiomnist DIR --fsdd DIR
                       validation speakers and FSDD's development speakers, for tuning
  python -m experiments.streaming.evaluate test --workdir RUN --audiomnist DIR --fsdd DIR --hours 10
                       test speakers, for the reported results
  python -m experiments.streaming.evaluate real --root DIR   real recordings, see experiments/streaming/real_sound.py

Without --workdir it evaluates the packaged recogniser. The strings are in experiments/streaming/strings.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import psutil

from audiojax import cli
from audiojax.audio import noise as corrupt
from audiojax.data import loading, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.io.files import write_text
from audiojax.streaming import report, scoring
from audiojax.streaming import scenes as streams
from audiojax.streaming.recognizer import Recognizer, Recognizers
from audiojax.streaming.report import StreamEvaluator
from audiojax.streaming.scenes import Scene, Word
from experiments.protocols.transfer import DEVELOPMENT

STRINGS = Path(__file__).parent / "strings"
NUM_STRINGS = 500
ROOM_SECONDS = 6.0


def write_plans(path: Path, plans: Sequence[streams.Plan], clips: Clips) -> None:
    """Writes plans as JSON, one per line; clips are referred to by name."""
    names = [Path(name).stem for name in clips.path]
    rows = [
        dataclasses.asdict(plan) | {"clips": [names[i] for i in plan.clips], "babble": [names[i] for i in plan.babble]}
        for plan in plans
    ]
    write_text(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def read_plans(path: Path, clips: Clips) -> list[streams.Plan]:
    """Reads plans that `write_plans` wrote. Raises InputError for a clip that does not exist."""
    index = {Path(name).stem: i for i, name in enumerate(clips.path)}
    try:
        return [
            streams.Plan(
                **row
                | {name: tuple(index[clip] for clip in row[name]) for name in ("clips", "babble")}
                | {"gap_seconds": tuple(row["gap_seconds"])}
            )
            for row in json.loads(path.read_text())
        ]
    except KeyError as error:
        raise InputError(
            f"{path} needs the clip {error}, which {clips.source} lacks; give the whole data set."
        ) from None


def opened(workdirs: Sequence[Path]) -> Trained:
    """Returns the run in `workdirs` with its last parameters; those of several runs are averaged.

    The runs have to start from common parameters (model soup, Wortsman et al. 2022, arXiv:2203.05482).
    """
    runs = [Trained.load(workdir, "last") for workdir in workdirs]
    mean = jax.tree.map(lambda *parts: sum(parts) / len(parts), *(run.variables for run in runs))
    return dataclasses.replace(runs[0], variables=mean)


def load(source: str, root: str) -> tuple[Clips, splits.Split]:
    """Returns a data set and its split: fold 0; for FSDD, development speakers against all others."""
    parser = cli.parser("experiments.streaming.evaluate", "")
    arguments = [f"--config=configs/listen.py:{source}", f"--config.data.root={root}"]
    _, config = cli.parse_with_config(parser, arguments)
    clips = loading.load_clips(config)
    if source == "fsdd":
        development = np.isin(clips.speaker, DEVELOPMENT["fsdd"])
        return clips, splits.Split(np.empty(0, int), np.flatnonzero(development), np.flatnonzero(~development))
    return clips, splits.make(clips, name="folds", fold=0, seed=0)


def in_a_room(clips: Clips, index: int, seed: int) -> Scene:
    """Returns a scene of six seconds: one quiet word (peak -30 dBFS) in a synthetic room with noise."""
    rng, rate_hz, clip = np.random.default_rng(seed), clips.rate_hz, clips[index]
    num_samples = round(ROOM_SECONDS * rate_hz)
    at = int(rng.integers(rate_hz // 2, num_samples - len(clip) - rate_hz))
    start, end = streams.span(clip, rate_hz)
    words = [Word(int(clips.label[index]), at + start, at + end)]
    dry = streams.laid_out([(at, clip.astype(np.float32) / 32768)], num_samples)
    wet = streams.levelled(corrupt.filtered(dry, corrupt.room(rng, rate_hz), [], rate_hz), words, -30.0)
    voice = streams.speech_power(wet, words)
    for name, snr_db in (
        ("rumble", rng.uniform(-5, 15)),
        ("clicks", rng.uniform(0, 15)),
        ("pink", rng.uniform(15, 30)),
    ):
        noise = streams.noise_of(name, rng, num_samples, clips, ())
        wet = wet + noise * np.float32(np.sqrt(voice * 10 ** (-snr_db / 10)))
    return Scene(streams.quantised(wet, rng), tuple(words))


def exactly_one(evaluator: StreamEvaluator, clips: Clips, indices: np.ndarray) -> dict[str, float]:
    """Returns the share of rooms with exactly one event, a correct one; with no event; and with several."""
    chosen = np.random.default_rng(5).choice(indices, NUM_STRINGS)
    scenes = [in_a_room(clips, int(index), seed) for seed, index in enumerate(chosen)]
    found = evaluator.events(evaluator.outputs([scene.audio for scene in scenes]))
    right = [
        len(e) == 1 and e[0].label == evaluator.names[s.words[0].label] for e, s in zip(found, scenes, strict=True)
    ]
    return {
        "one and right": np.mean(right),
        "none": np.mean([not e for e in found]),
        "several": np.mean([len(e) > 1 for e in found]),
    }


def one_hour(evaluator: StreamEvaluator, clips: Clips, plans: list) -> dict[str, float]:
    """Returns digit error rates of the first and the last ten minutes of an hour of strings, without a reset."""
    scenes, seconds, at = [], 0.0, 0
    while seconds < 3600:
        scenes.append(streams.render(plans[at % len(plans)], clips))
        seconds, at = seconds + len(scenes[-1].audio) / clips.rate_hz, at + 1
    [long] = report.join(scenes, parts=1)
    [events] = evaluator.events(evaluator.outputs([long.audio]))
    rates = {}
    for name, first, last in (("first ten minutes", 0, 600), ("last ten minutes", 3000, 3600)):
        words = [word for word in long.words if first <= word.end / clips.rate_hz < last]
        mine = [event for event in events if first <= event.end_seconds < last]
        rates[name] = scoring.errors_of(
            scoring.confusion_of(scoring.match(words, mine, evaluator.names), evaluator.names)
        ).rate
    return rates


def speed(run: Trained, audio: np.ndarray) -> dict[str, float]:
    """Returns the milliseconds for 20 ms of sound, of one stream at 16 kHz, and of each of 500 concurrent streams."""
    one = Recognizer(Recognizers.from_run(run))
    chunks = [np.repeat(audio[i : i + 160], 2) for i in range(0, len(audio) - 160, 160)][:1500]
    times = []
    for chunk in chunks:
        start = time.perf_counter()
        one.feed(chunk, 16_000)
        times.append(time.perf_counter() - start)
    many, rounds = Recognizers.from_run(run, 500), []
    for _ in range(500):
        many.connect()
    for chunk in chunks[:100]:
        start = time.perf_counter()
        for slot in range(500):
            many.push(slot, chunk[:160])
        many.advance()
        rounds.append(time.perf_counter() - start)
    return {"one stream": 1000 * float(np.median(times)), "one of 500": 2 * float(np.median(rounds))}


def memory(run: Trained, audio: np.ndarray) -> dict[str, float]:
    """Returns the growth of the process in megabytes from minute 6 to minute 60 of sound, for 1 and for 16 streams.

    The sound arrives in chunks of 100 ms.
    """
    grown = {}
    for name, num_streams in (("one stream", 1), ("16 streams", 16)):
        recognizers, resident = Recognizers.from_run(run, num_streams), []
        slots = [recognizers.connect() for _ in range(num_streams)]
        chunks = np.split(audio[: len(audio) // 800 * 800], len(audio) // 800)
        for number in range(36_000):
            for slot in slots:
                recognizers.push(slot, chunks[(number + 7 * slot) % len(chunks)])
            recognizers.advance()
            if number in (3_599, 35_999):
                resident.append(psutil.Process().memory_info().rss)
        grown[name] = (resident[1] - resident[0]) / 1e6
    return grown


def score(run: Trained, part: str, audiomnist: str, fsdd: str, hours: float) -> dict:
    """Runs and prints all measurements; `part` is "validation" or "test"."""
    evaluator, result = StreamEvaluator(run), {}
    for source, root in (("fsdd", fsdd), ("audiomnist", audiomnist)):
        clips, split = load(source, root)
        indices = getattr(split, part)
        plans = read_plans(STRINGS / f"{source}-{part}.json", clips)
        for snr_db in (None, 20.0, 10.0, 5.0, 0.0):
            scenes = [streams.render(plan, clips) for plan in streams.with_snr(plans, snr_db)]
            matches = evaluator.matches(scenes, evaluator.outputs([scene.audio for scene in scenes]))
            name = "clean" if snr_db is None else f"{snr_db:g} dB"
            result[f"{source}, {name}"] = of = report.count_errors(evaluator, matches)
            late = f"{1000 * of['delay_median_seconds']:.0f}, {1000 * of['delay_95_seconds']:.0f} ms"
            print(
                f"{source:<11}{name:<6} digit error rate {of['digit_error_rate']:7.2%}  "
                f"s {of['substitutions']} d {of['deletions']} i {of['insertions']} of {of['words']:,}   delay {late}",
                flush=True,
            )
        result[f"{source}, rooms"] = rooms = exactly_one(evaluator, clips, indices)
        print(f"{source:<11}rooms  " + "  ".join(f"{name} {share:.1%}" for name, share in rooms.items()), flush=True)
        alone = result[f"{source}, alone"] = report.score_isolated(
            evaluator, clips, indices[:: max(1, len(indices) // 2000)]
        )
        print(
            f"{source:<11}alone  first event right {alone['accuracy']:.2%} of {alone['clips']:,}, none {alone['none']}",
            flush=True,
        )
    result["one hour"] = one_hour(evaluator, clips, plans)
    print(
        "one hour never reset: " + ", ".join(f"{name} {rate:.2%}" for name, rate in result["one hour"].items()),
        flush=True,
    )
    result["false alarms"], result["hours"] = {}, hours
    for name, kinds in report.wordless_sounds(run, clips, indices).items():
        result["false alarms"][name] = of = report.false_alarms(evaluator, kinds, hours)[0]
        alarms = f"{of['events']:5d} false alarms in {hours:g} h"
        by_kind = ", ".join(f"{kind} {count}" for kind, count in of["by_kind"].items() if count)
        print(f"{name:<9}{alarms}: {of['per_hour']:.2f} an hour, at most {of['bound']:.2f} ({by_kind})", flush=True)
    sound = streams.render(plans[0], clips).audio
    result["milliseconds for 20 ms"] = fast = speed(run, sound)
    print("20 ms of sound take " + ", ".join(f"{value:.3f} ms ({name})" for name, value in fast.items()), flush=True)
    result["megabytes an hour"] = grown = memory(run, sound)
    print("memory grows in an hour by " + ", ".join(f"{value:.1f} MB ({name})" for name, value in grown.items()))
    return result


def main(argv: list[str]) -> None:
    """Runs the evaluation, or samples the test strings."""
    if argv[:1] in (["real"], ["unsure"]):
        from experiments.streaming import real_sound  # imported here because it imports this module

        return real_sound.main(argv)
    parser = cli.parser("experiments.streaming.evaluate", __doc__ or "")
    parser.add_argument("what", choices=("lists", "develop", "test"))
    parser.add_argument("--workdir", type=Path, nargs="+", help="run; the parameters of several runs are averaged")
    parser.add_argument("--audiomnist", required=True)
    parser.add_argument("--fsdd", required=True)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--out", type=Path, help="output file for the results, as JSON")
    args = parser.parse_args(argv)
    cli.setup_jax()
    if args.what == "lists":
        for source in ("audiomnist", "fsdd"):
            clips, split = load(source, getattr(args, source))
            for part, seed in (("validation", 11), ("test", 12)):
                plans = streams.sample_plans(clips, getattr(split, part), number=NUM_STRINGS, seed=seed)
                write_plans(STRINGS / f"{source}-{part}.json", plans, clips)
        return
    run = opened(args.workdir) if args.workdir else Trained.packaged()
    part = "test" if args.what == "test" else "validation"
    result = score(run, part, args.audiomnist, args.fsdd, args.hours)
    if args.out:
        write_text(args.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
