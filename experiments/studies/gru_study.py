"""Ablation study of the class project's recurrent network, which stayed at chance: one change per row.

  python -m experiments.studies.gru_study --fsdd DIR --audiomnist DIR [--rows 'NAME;...'] [--workdir runs/gru_study]

Every row is `configs/gru.py:SOURCE,recipe=seed` with the overrides of that row, trained for two epochs: on FSDD, random
80/20 split (2,160 training clips), and on fold 0 of AudioMNIST, takes 0 to 4 (1,800 training clips of 36 speakers; 600
test clips of 12 others). This protocol was fixed before the first run. A finished row is not run again. The table is
printed and written to experiments/results/gru_study.md.
"""

import json
import re
from pathlib import Path

import jax
import numpy as np
import optax

from audiojax import cli, tasks
from audiojax import config as configs
from audiojax.data import batches, loading, splits
from audiojax.errors import InputError
from audiojax.io.files import write_text
from audiojax.training import runlog
from audiojax.training.build import assemble
from experiments.protocols.records import RESULTS

CUT = {"train.length_samples": 8000, "train.bucket_samples": ()}
RATE = {"optimizer.schedule": "cosine", "optimizer.learning_rate": 0.1, "optimizer.warmup_steps": 50}
CLIP = {**RATE, "optimizer.clip_norm": 1.0}
MASK = {**CLIP, "model.mask_padding": True}
MEMORY = {**MASK, "model.memory_frames": 3000}
FRAMES = {**MASK, "model.hop_samples": 80, "model.normalise": "fixed"}
LOGMEL = {**FRAMES, "model.frontend": "logmel"}
ROWS: dict[str, dict] = {
    "seed": {},
    "seed, 16 kHz cut to 8,000": {"data.rate_hz": 16000, **CUT},
    "seed, 22.05 kHz cut to 8,000": {"data.rate_hz": 22050, **CUT},
    "seed, 48 kHz cut to 8,000": {"data.rate_hz": 48000, **CUT},
    "raw, rate 0.1": RATE,
    "raw, clipped": CLIP,
    "raw, padding masked": MASK,
    "raw, long memory": MEMORY,
    "raw, minGRU": {**MEMORY, "model.cell": "min_gru"},
    "raw, 80 samples a step": {**MASK, "model.hop_samples": 80},
    "learned frames": {**FRAMES, "model.frontend": "learned"},
    "log-mel, the seed's rate": {"model.frontend": "logmel", "model.hop_samples": 80, "model.normalise": "fixed"},
    "log-mel, padding read": {**LOGMEL, "model.mask_padding": False},
    "log-mel": LOGMEL,
    "log-mel, running mean": {**LOGMEL, "model.readout": "running"},
    "log-mel, mean": {**LOGMEL, "model.readout": "mean"},
    "log-mel, mean, padding read": {**LOGMEL, "model.readout": "mean", "model.mask_padding": False},
    "log-mel, mean, batch 100": {**LOGMEL, "model.readout": "mean", "train.batch_size": 100},
    "log-mel, mean, minGRU": {**LOGMEL, "model.readout": "mean", "model.cell": "min_gru", "model.num_layers": 2},
}
NUM_EPOCHS = 2


def few_takes(root: Path, folder: Path) -> Path:
    """Creates links to takes 0 to 4 of `root` in `folder`, in AudioMNIST's layout, and returns `folder`."""
    for path in sorted((root / "data").rglob("*")):
        if path.suffix == ".txt" or re.fullmatch(r"\d_\d\d_[0-4]\.wav", path.name):
            link = folder / path.relative_to(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(path.resolve())
    return folder


def config_of(source: str, root: Path, overrides: dict):
    """Returns the config of a row."""
    keys = {"data.root": root, "train.num_epochs": NUM_EPOCHS, "wandb.mode": "disabled", **overrides}
    args = [
        f"--config=configs/gru.py:{source},recipe=seed",
        *(f"--config.{key}={value}" for key, value in keys.items()),
    ]
    return cli.parse_with_config(cli.parser("experiments.studies.gru_study", ""), args)[1]


def first_frame_gradient(config) -> tuple[float, float]:
    """Returns the norm of the loss's gradient with respect to the first frame, and the largest norm of any frame.

    The gradients are those after one training step.
    """
    clips = loading.load_clips(config)
    split = splits.make(clips, **config.split)
    num_labels = len(clips.label_names)
    model, state, _, step, _ = assemble(config, num_labels=num_labels, rate_hz=clips.rate_hz, num_steps=1000)
    first, second = batches.Epochs(clips, split.train, **configs.batch_shape(config), seed=config.seed)(0, 2)
    state, _ = step(state, first, jax.random.key(0))

    @jax.jit
    def gradient(audio):
        logits = model.apply(state.variables, audio, second["length"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, second["label"]).mean()

    by_sample = np.asarray(jax.grad(gradient)(second["audio"].astype(np.float32)), np.float64) * 32768
    hop = config.model.hop_samples
    by_frame = np.sqrt(
        np.square(by_sample[:, : by_sample.shape[1] // hop * hop]).reshape(len(by_sample), -1, hop).sum(2)
    )
    return float(np.linalg.norm(by_frame[:, 0])), float(np.linalg.norm(by_frame, axis=0).max())


def run_row(source: str, root: Path, overrides: dict, workdir: Path) -> dict:
    """Trains the row, or resumes it, and returns its cells of the table."""
    config = config_of(source, root, overrides)
    first, largest = first_frame_gradient(config)
    about = {"gradient_first_frame": first, "gradient_largest_frame": largest}
    try:
        summary = tasks.train(config, workdir)
    except InputError as error:
        return about | {"stopped": str(error)}
    epochs = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    seconds = float(np.median([row["seconds"] for row in epochs]))
    return about | {"test": summary["test/accuracy"], "train": epochs[-1]["train/accuracy"], "epoch_seconds": seconds}


def table(results: dict) -> str:
    """Returns the results as a Markdown table."""
    lines = [
        "| row | overrides of `recipe=seed` | FSDD | AudioMNIST | s an epoch | gradient at the first frame |",
        "|---" * 6 + "|",
    ]
    for name, overrides in ROWS.items():
        found = [results.get(f"{source}: {name}", {}) for source in ("fsdd", "audiomnist")]
        if not any(found):
            continue
        scores = [f"{of['test']:.1%}" if "test" in of else "diverged" if of else "" for of in found]
        of = found[0] or found[1]
        seconds = " / ".join(f"{of['epoch_seconds']:.0f}" if "test" in of else "-" for of in found if of)
        words = ", ".join(f"{key.partition('.')[2]}={value}" for key, value in overrides.items()) or "none"
        share = f"{of['gradient_first_frame']:.1e} of {of['gradient_largest_frame']:.1e}"
        lines.append(f"| {name} | {words} | {scores[0]} | {scores[1]} | {seconds} | {share} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Trains the rows that have no result yet, then writes and prints the table."""
    parser = cli.parser("experiments.studies.gru_study", __doc__ or "")
    parser.add_argument("--fsdd", type=Path, help="folder of FSDD")
    parser.add_argument("--audiomnist", type=Path, help="folder of AudioMNIST")
    parser.add_argument("--rows", default=";".join(ROWS))
    parser.add_argument("--workdir", type=Path, default=Path("runs/gru_study"))
    args = parser.parse_args(argv)
    cli.setup_jax()
    kept = args.workdir / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for name in args.rows.split(";"):
        for source in ("fsdd", "audiomnist"):
            root, what = getattr(args, source), f"{source}: {name}"
            if root is None or what in results or (source == "fsdd" and "kHz" in name):  # FSDD was recorded at 8 kHz
                continue
            if source == "audiomnist":
                root = few_takes(root, args.workdir / "few_takes")
            folder = re.sub(r"\W+", "_", what)
            results[what] = run_row(source, root, ROWS[name], args.workdir / folder)
            write_text(kept, json.dumps(results, indent=2) + "\n")
    text = table(results)
    write_text(RESULTS / "gru_study.md", text)
    print(text)


if __name__ == "__main__":
    cli.run(main)
