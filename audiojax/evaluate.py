"""Scores a trained run: accuracy and loss, by digit and by speaker, and what it confuses.

Everything comes from the workdir; the checkpoint is the best by validation accuracy unless --checkpoint=last.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from audiojax import command, plots, prepare
from audiojax.data import batches, splits
from audiojax.mesh import Mesh, shard_batch
from audiojax.metrics import Metrics
from audiojax.state import EvalStep
from audiojax.trained import Trained
from audiojax.types import Batch, Clips, InputError


def score(eval_step: EvalStep, variables: dict, parts: Iterable[Batch], num_labels: int, mesh: Mesh) -> Metrics:
    """The sums over all batches, on the devices until the last is added."""
    metrics = Metrics.zero(num_labels)
    for batch in batches.prefetch(shard_batch(part, mesh) for part in parts):
        metrics = metrics + eval_step(variables, batch)
    return metrics


def report(run: Trained, clips: Clips, indices: np.ndarray) -> dict:
    """All that is known of a run on the clips at `indices`, ready for JSON; the confusion is [true][predicted]."""
    size = dict(batch_size=run.config.train.batch_size, length_samples=run.config.train.length_samples)
    parts = batches.prefetch(batches.evaluation(clips, indices, **size))
    logits = np.concatenate([run.logits(batch["audio"], batch["length"]) for batch in parts])[: len(indices)]

    def metrics(rows: np.ndarray) -> Metrics:
        return Metrics.of(logits[rows], clips.label[indices][rows], np.ones(rows.sum(), np.float32))

    whole = metrics(np.ones(len(indices), bool))
    speakers = clips.speaker[indices]
    return {
        **whole.summary(),
        "clips": len(indices),
        "accuracy_by_label": dict(zip(run.label_names, whole.accuracy_by_label().tolist(), strict=True)),
        "accuracy_by_speaker": {
            str(name): metrics(speakers == name).summary()["accuracy"] for name in np.unique(speakers)
        },
        "confusion": np.asarray(whole.confusion).tolist(),
    }


def _print(result: dict, names: tuple[str, ...]) -> None:
    print(f"accuracy {result['accuracy']:.2%}   loss {result['loss']:.4f}   {result['clips']:,} clips\n")
    width = max(map(len, names)) + 2
    print("said \\ heard".ljust(width + 4) + "".join(name[:5].rjust(6) for name in names) + "  accuracy")
    for name, row in zip(names, result["confusion"], strict=True):
        accuracy = result["accuracy_by_label"][name]
        print(name.ljust(width + 4) + "".join((str(n) if n else "·").rjust(6) for n in row) + f"{accuracy:10.1%}")
    print("\nspeaker   accuracy")
    for speaker, accuracy in sorted(result["accuracy_by_speaker"].items(), key=lambda item: item[1]):
        print(f"{speaker:<8} {accuracy:>9.1%}")


def main(argv: list[str]) -> None:
    parser = command.parser("evaluate", __doc__ or "")
    parser.add_argument("--workdir", type=Path, required=True, help="the folder that training printed")
    parser.add_argument("--split", choices=splits.Split._fields, default="test", help="what to score (default: test)")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    args = parser.parse_args(argv)
    command.setup_jax()
    run = Trained.load(args.workdir, args.checkpoint)
    clips = prepare.load_clips(run.config)
    if clips.key != run.data["key"]:
        raise InputError(f"the clips of config.data are not those that {args.workdir} was trained on; restore them.")
    indices = getattr(splits.make(clips, **run.config.split, seed=run.config.seed), args.split)
    result = report(run, clips, indices)
    about = {"workdir": str(args.workdir), "source": clips.source, "split": args.split, "step": run.step}
    if args.json:
        print(json.dumps(about | result))
        return
    print(f"{args.workdir}, {args.checkpoint} checkpoint (step {run.step}), on {clips.source}'s {args.split} clips")
    _print(result, run.label_names)
    picture = args.workdir / "plots" / f"confusion_{args.split}.png"
    title = f"{clips.source}, {args.split}: {result['accuracy']:.2%}"
    print(f"\n{plots.confusion_matrix(np.asarray(result['confusion']), run.label_names, title, picture)}")


if __name__ == "__main__":
    command.run(main)
