r"""Shows what the negatives of `config.streams.real` are worth to a recogniser of a user's own words.

  python -m experiments.streaming.own_words layout --root DIR --words up left --out WORDS   writes WORD/*.ogg
  python -m audiojax.main --config configs/listen.py:folder,split=official --config.data.root=WORDS \
      --config.streams.real=DIR
  python -m experiments.streaming.own_words score --root DIR --workdir RUN [RUN...]

DIR is a folder of real recordings (see `audiojax.data.real`). The test speakers are the speakers that it holds out for
validation; one in five of the others is for validation. Events are counted in its held-out speech and noise.
"""

import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audiojax import cli
from audiojax.data import loading, real
from audiojax.inference import Trained
from audiojax.io.files import write_text
from audiojax.streaming import report
from audiojax.streaming.report import StreamEvaluator
from experiments.streaming import real_scenes, real_sound


def layout(root: Path, words: Sequence[str], out: Path) -> dict[str, int]:
    """Copies the recordings of `words` to `out` and writes Speech Commands' lists of validation and test files.

    Returns the number of files of each part.
    """
    clips = real.recordings(root, "speech").unread()
    _, held_out = real.split(clips)
    text = {row["file"]: row["label"] for row in real.rows(root)}
    parts: dict[str, list[str]] = {"train": [], "validation": [], "testing": []}
    for index, path in enumerate(clips.path):
        if text[path] not in words:
            continue
        speaker = str(clips.speaker[index])
        validates = zlib.crc32(speaker.encode()) % 5 == 1  # `real.split` holds out 0
        part = "testing" if index in held_out else "validation" if validates else "train"
        name = f"{text[path]}/{speaker}_nohash_{len(parts[part])}{Path(path).suffix}"
        (out / text[path]).mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, out / name)
        parts[part].append(name)
    for part in ("validation", "testing"):
        write_text(out / f"{part}_list.txt", "".join(f"{name}\n" for name in parts[part]))
    return {part: len(names) for part, names in parts.items()}


def rows(sound: real.RealSound, words: Sequence[str]) -> list[real_scenes.Row]:
    """Returns the table's rows for held-out speech without `words`, held-out digits, and noise."""
    found = []
    for clips, indices in (
        (sound.speech, sound.speech_indices),
        (sound.digits, sound.digit_indices),
        (sound.noise, sound.noise_indices),
    ):
        kept = indices[[sound.text[clips.path[index]] not in words for index in indices]]
        for name, mine in real.by_corpus(clips, kept).items():
            found += real_scenes.without_words(name, real_scenes.recorded(sound, clips, mine))
    return found


def score(run: Trained, root: Path) -> str:
    """Returns a table of the events of a run in held-out recordings, and the share of its test words recognised."""
    evaluator = StreamEvaluator(run)
    clips, split = loading.load_split(run.config)
    others = rows(real.load(root, "validation", real_sound.cached), run.label_names)
    outputs = real_sound.network_outputs(evaluator, others)
    result = real_sound.score(evaluator, others, outputs, evaluator.decoder)
    for start in ("stream", "fresh"):
        of = [row for name, row in result.items() if name.endswith(start)]
        hours = sum(row["minutes"] for row in of) / 60
        total = real_sound.rate(sum(row["count"] for row in of), hours)
        counts = {"clips": sum(row["clips"] for row in of), "minutes": 60 * hours, "events": []}
        result[f"all, {start}"] = counts | total
    alone = report.score_isolated(evaluator, clips, np.asarray(split.test))
    right = f"first event correct: {alone['accuracy']:.1%} of {alone['clips']} test words, none {alone['none']}"
    return f"{real_sound.show(result)}\n{right}"


def main(argv: list[str]) -> None:
    """Lays out the words, or prints the scores of runs."""
    parser = cli.parser("experiments.streaming.own_words", __doc__ or "")
    parser.add_argument("what", choices=("layout", "score"))
    parser.add_argument("--root", type=Path, required=True, help="the folder of index.csv")
    parser.add_argument("--words", nargs="+", default=["up", "left"])
    parser.add_argument("--out", type=Path, default=Path("words"))
    parser.add_argument("--workdir", type=Path, nargs="+", default=[])
    args = parser.parse_args(argv)
    cli.setup_jax()
    if args.what == "layout":
        print(layout(args.root, args.words, args.out))
    for workdir in args.workdir:
        print(f"{workdir}\n{score(Trained.load(workdir, 'last'), args.root)}", flush=True)


if __name__ == "__main__":
    cli.run(main)
