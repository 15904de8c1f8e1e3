r"""Counts false events in all recordings of rooms by cross-fitting: each half with a run not trained on it.

  python -m audiojax.main --config configs/listen.py:audiomnist,recipe=real --config.streams.real=DIR \
      --config.init_from=RUN --config.streams.real_rooms=first           # and =second
  python -m experiments.streaming.room_halves --root DIR --workdir FIRST SECOND

RUN must not be trained on rooms: without `streams.real`, or with `streams.real_rooms=none`.
"""

from pathlib import Path

from audiojax import cli
from audiojax.data import real
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.streaming.report import StreamEvaluator
from experiments.streaming import real_scenes, real_sound

HALVES = ("first", "second")


def halves(workdirs: list[Path]) -> list[Trained]:
    """Returns the last parameters of two runs, one trained on each half of the rooms; raises InputError for others."""
    runs = [Trained.load(workdir, "last") for workdir in workdirs]
    trained_on = [run.config.streams.real_rooms for run in runs]
    if tuple(sorted(trained_on)) != HALVES:
        raise InputError(
            f"--workdir has runs with config.streams.real_rooms {', '.join(trained_on)}; give one with each of "
            f"{', '.join(HALVES)}."
        )
    return runs


def score(runs: list[Trained], root: Path) -> dict[str, dict]:
    """Returns the counts of `real_sound.score` of both halves together, of one stream a half and of fresh starts."""
    parts = []
    for run in runs:
        sound = real.load(root, "validation", real_sound.cached, run.config.streams.real_rooms)
        rooms = real.by_corpus(sound.noise, sound.noise_indices)[real.ROOMS]
        rows = real_scenes.without_words(real.ROOMS, real_scenes.recorded(sound, sound.noise, rooms))
        evaluator = StreamEvaluator(run)
        outputs = real_sound.network_outputs(evaluator, rows)
        parts.append(real_sound.score(evaluator, rows, outputs, evaluator.decoder))
    result = {}
    for name in parts[0]:
        both = [part[name] for part in parts]
        clips, minutes, count = (sum(of[key] for of in both) for key in ("clips", "minutes", "count"))
        events = [event for of in both for event in of["events"]]
        result[name] = {"clips": clips, "minutes": minutes, "events": events} | real_sound.rate(count, minutes / 60)
    return result


def main(argv: list[str]) -> None:
    """Prints the table and each event that is left."""
    parser = cli.parser("experiments.streaming.room_halves", __doc__ or "")
    parser.add_argument("--root", type=Path, required=True, help="the folder of index.csv")
    parser.add_argument("--workdir", type=Path, nargs="+", required=True, help="the two runs")
    args = parser.parse_args(argv)
    cli.setup_jax()
    result = score(halves(args.workdir), args.root)
    print(real_sound.show(result))
    for name, of in result.items():
        for path, seconds, label, probability in of["events"]:
            print(f"{name}: {path} at {seconds:.2f} s, {label}, {probability:.0%}")


if __name__ == "__main__":
    cli.run(main)
