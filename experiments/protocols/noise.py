"""Accuracy against noise, reverberation and bandwidth, on the test clips of existing runs.

  python -m experiments.protocols.noise --workdir runs/protocol/gru-audiomnist-fold-* --name gru

All runs on a data set receive the same sounds: the noise is sampled with a seed of clip and kind, independent of the
level. The signal-to-noise ratio compares the power of the word (first to last frame within 30 dB of the loudest) with
the noise power of the whole clip; a sum beyond full scale is attenuated. Babble is six reversed clips of other
speakers. Reverberation is a synthetic impulse response with the given direct-to-reverberant ratio. Finished conditions
are not repeated; results and plots are written to experiments/results/noise/NAME.json and .png.
"""

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiojax import cli
from audiojax.audio import noise as corrupt
from audiojax.data import loading, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.evaluation import plots
from audiojax.inference import Trained
from audiojax.io import console
from audiojax.streaming import scenes
from experiments.protocols import records

SNR_DB = (20.0, 10.0, 5.0, 0.0)
LEVELS = {
    "clean": (math.inf,),
    **dict.fromkeys(("white", "pink", "babble", "hum", "clicks"), SNR_DB),
    "reverberation": SNR_DB,
    "low-pass": (3000.0, 2000.0, 1500.0, 1000.0),
}
AXES = {"reverberation": "direct to reverberant, dB", "low-pass": "upper edge, Hz"}
NUM_TALKERS = 6


def corrupted(clips: Clips, index: int, kind: str, level: float) -> np.ndarray:
    """Returns clip `index` with the degradation `kind` at `level`, in dB or, for "low-pass", Hz; f32[t] in [-1, 1]."""
    sound, rng = clips[index] / np.float32(32768), np.random.default_rng([int(index), zlib.crc32(kind.encode())])
    if kind == "clean":
        return sound
    if kind == "reverberation":
        sound = corrupt.filtered(sound, corrupt.room(rng, clips.rate_hz, ratio_db=level), [], clips.rate_hz)
    elif kind == "low-pass":
        sound = corrupt.filtered(sound, None, [corrupt.low_pass(level)], clips.rate_hz)
    else:
        others = np.flatnonzero(clips.speaker != clips.speaker[index])
        talkers = rng.choice(others, NUM_TALKERS) if kind == "babble" else ()
        noise = scenes.noise_of(kind, rng, len(sound), clips, talkers)
        start, end = scenes.span(clips[index], clips.rate_hz)
        sound = corrupt.mixed(sound, noise / np.sqrt(corrupt.power(noise)), corrupt.power(sound[start:end]), level)
    return sound / max(1.0, float(np.abs(sound).max()))


def scene(clips: Clips, indices: np.ndarray, kind: str, level: float) -> Clips:
    """Returns the clips at `indices` with the degradation `kind` at `level`."""
    if kind == "clean":
        sounds = [clips[i] for i in indices]
    else:
        rng = np.random.default_rng(zlib.crc32(f"dither {kind} {level}".encode()))
        sounds = [scenes.quantised(corrupted(clips, i, kind, level), rng) for i in indices]
    fields: dict[str, Any] = {name: getattr(clips, name)[indices] for name in ("label", "speaker", "take")}
    offsets, paths = np.cumsum([0, *map(len, sounds)]), tuple(clips.path[i] for i in indices)
    return dataclasses.replace(clips, samples=np.concatenate(sounds), offsets=offsets, path=paths, **fields)


def panels(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[float, list[float]]]]:
    """Returns {axis: {kind: {level: accuracies, one per run}}}, in the order of `LEVELS`."""
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for kind, levels in LEVELS.items():
        for level in levels:
            accuracies = [run["accuracy"] for run in runs if (run["kind"], run["level"]) == (kind, _level(level))]
            if accuracies and kind != "clean":
                axis = AXES.get(kind, "signal to noise, dB")
                found.setdefault(axis, {}).setdefault(kind, {})[level] = accuracies
    return found


def _level(level: float) -> float | None:
    return level if math.isfinite(level) else None  # JSON has no infinity


def score_missing(workdir: Path, path: Path, about: Mapping[str, Any], num_takes: int, root: str) -> None:
    """Scores the run in `workdir` under the conditions that are missing in the results at `path`, and adds them."""
    run = Trained.load(workdir, root=root)
    if run.streams:
        raise InputError(f"{workdir} is a streaming recogniser; use python -m audiojax.evaluate for its noise levels.")
    clips = loading.load_clips(run.config)
    run.check_clips(clips)
    test = splits.make(clips, **run.config.split).test
    test = test[clips.take[test] < num_takes] if num_takes else test
    identity = f"{records.digest(run.config)} step {run.step}, {len(test)} clips"
    known = {of["name"]: of for of in records.read(path)["runs"]}
    conditions = [(kind, level) for kind, levels in LEVELS.items() for level in levels]
    with console.progress(f"scoring {workdir.name}", unit="conditions") as progress:
        for number, (kind, level) in enumerate(conditions, start=1):
            name = f"{workdir.name}: {kind} {level:g}"
            if known.get(name, {}).get("digest") != identity:
                sounds = scene(clips, test, kind, level)
                result = records.scored(run, sounds, np.arange(len(sounds)))
                condition = {"name": name, "kind": kind, "level": _level(level), "digest": identity}
                keys = ("data", "accuracy", "clips", "speakers")
                records.keep(path, about, condition | {key: result[key] for key in keys})
            progress(number, len(conditions))


def main(argv: list[str]) -> None:
    """Scores the missing conditions, then plots and prints all of them."""
    parser = cli.parser("experiments.protocols.noise", __doc__ or "")
    parser.add_argument(
        "--workdir", type=Path, nargs="+", required=True, help="runs of one recipe, for example one per fold"
    )
    parser.add_argument("--name", required=True, help="name of the results file")
    parser.add_argument("--root", default="", help="folder of the data set, if it has moved since the training")
    parser.add_argument("--takes", type=int, default=0, help="use only takes below this number (default: all)")
    parser.add_argument("--results", type=Path, default=records.RESULTS)
    args = parser.parse_args(argv)
    cli.setup_jax()
    path = args.results / "noise" / f"{args.name}.json"
    about = {
        "protocol": "noise",
        "about": f"{args.name}, test clips" + (f", takes below {args.takes}" * bool(args.takes)),
    }
    for workdir in args.workdir:
        score_missing(workdir, path, about, args.takes, args.root)
    runs = records.read(path)["runs"]
    plots.by_level(panels(runs), f"{about['about']} of {runs[0]['data']}", path.with_suffix(".png"))
    for kind, level in ((kind, level) for kind, levels in LEVELS.items() for level in levels):
        accuracies = [run["accuracy"] for run in runs if (run["kind"], run["level"]) == (kind, _level(level))]
        print(f"{kind:<14}{level:>7g}  {records.percent(accuracies)}")
    print(f"results: {path}")


if __name__ == "__main__":
    cli.run(main)
