"""Compares training losses of the streaming recogniser, all else equal, by digit errors and delay.

  python -m experiments.streaming.losses --audiomnist DIR [--steps 750]

"steps": cross-entropy of every step, as in configs/listen.py. "max": max-pooling loss of keyword spotting (Sun et al.
2016), the best step of each word's window. "ctc": optax.ctc_loss over each segment. They are scored on strings of the
validation speakers; the settings of the decoder are chosen for each on the same strings.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from audiojax import cli, tasks
from audiojax.data.clips import Batch
from audiojax.inference import Trained
from audiojax.streaming import scenes as streams
from audiojax.streaming import scoring, stream_task
from audiojax.streaming.decoder import Decoder
from audiojax.streaming.report import StreamEvaluator
from audiojax.training import steps
from experiments.streaming.evaluate import STRINGS, load, read_plans

MAX_WORDS = 24  # per segment


def _begins(label: jax.Array, none: int) -> jax.Array:
    """Returns bool[B, N], true at the first step of each word's window."""
    before = jnp.pad(label[:, :-1], ((0, 0), (1, 0)), constant_values=none)
    return (label != none) & (label != before)


def ctc(logits: jax.Array, batch: Batch, label_smoothing: float) -> jax.Array:
    """Returns the connectionist temporal classification loss, which needs the order of the words only."""
    none = logits.shape[-1] - 1
    begins = _begins(batch["label"], none)
    place = jnp.where(begins, jnp.cumsum(begins, axis=1, dtype=jnp.int32) - 1, MAX_WORDS)
    rows = jnp.arange(len(place), dtype=jnp.int32)[:, None]
    words = jnp.zeros((len(place), MAX_WORDS), jnp.int32).at[rows, place].set(batch["label"], mode="drop")
    padding = (jnp.arange(MAX_WORDS)[None] >= begins.sum(axis=1)[:, None]).astype(jnp.float32)
    losses = optax.ctc_loss(logits, jnp.zeros_like(batch["mask"]), words, padding, blank_id=none)
    return jnp.mean(losses) / logits.shape[1]


def max_pooling(logits: jax.Array, batch: Batch, label_smoothing: float) -> jax.Array:
    """Returns the max-pooling loss: the best step of each word's window, and all steps outside as no word."""
    none = logits.shape[-1] - 1
    log = jax.nn.log_softmax(logits)
    word = jnp.cumsum(_begins(batch["label"], none), axis=1, dtype=jnp.int32)
    inside = batch["label"] != none
    target = jnp.take_along_axis(log, batch["label"][..., None], axis=-1)[..., 0]
    one = jax.nn.one_hot(jnp.where(inside, word, 0), MAX_WORDS + 1)[..., 1:]
    best = jnp.max(jnp.where(one > 0, target[..., None], -1e9), axis=1)  # [B, words]
    words = jnp.sum(jnp.where(best > -1e8, -best, 0.0))
    quiet = jnp.sum(jnp.where(inside, 0.0, -log[..., none]) * batch["mask"])
    return (words + quiet) / jnp.sum(batch["mask"])


LOSSES = {"steps": steps.cross_entropy, "max": max_pooling, "ctc": ctc}


def main(argv: list[str]) -> None:
    """Trains one network per loss and prints errors and delays."""
    parser = cli.parser("experiments.streaming.losses", __doc__ or "")
    parser.add_argument("--audiomnist", required=True)
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--workdir", type=Path, default=Path("runs/listening_losses"))
    args = parser.parse_args(argv)
    cli.setup_jax()
    clips, _ = load("audiomnist", args.audiomnist)
    plans = read_plans(STRINGS / "audiomnist-validation.json", clips)[:250]
    given = ["--config=configs/listen.py:audiomnist", f"--config.data.root={args.audiomnist}"]
    keys = {"train.num_epochs": 1, "streams.steps_per_epoch": args.steps, "streams.false_alarm_hours": 0.01}
    _, config = cli.parse_with_config(
        cli.parser("experiments.streaming.losses", ""),
        given + [f"--config.{key}={value}" for key, value in keys.items()],
    )
    for name, loss in LOSSES.items():
        stream_task.step_loss = loss
        tasks.train(config, args.workdir / name)
        evaluator = StreamEvaluator(Trained.load(args.workdir / name, "last"))
        for snr_db in (None, 10.0):
            scenes = [streams.render(plan, clips) for plan in streams.with_snr(plans, snr_db)]
            outputs = evaluator.outputs([scene.audio for scene in scenes])
            tried = []
            for decoder in (Decoder(t, k) for t in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6) for k in (0.3, 0.6)):
                flat = [match for scene in evaluator.matches(scenes, outputs, decoder) for match in scene]
                errors = scoring.errors_of(scoring.confusion_of(flat, evaluator.names))
                tried.append((errors.rate, decoder, errors, scoring.delays(flat, evaluator.rate_hz, evaluator.names)))
            rate, decoder, errors, late = min(tried, key=lambda item: item[0])
            median, slow = (1000 * jnp.percentile(late, jnp.asarray([50, 95]))).tolist()
            counts = f"s {errors.substitutions} d {errors.deletions} i {errors.insertions} of {errors.words}"
            print(
                f"{name:<6}{'clean' if snr_db is None else '10 dB':<6} digit error rate {rate:7.2%}  {counts}  delay "
                f"{median:.0f}, {slow:.0f} ms  (threshold {decoder.threshold}, keep {decoder.ema_decay})",
                flush=True,
            )


if __name__ == "__main__":
    cli.run(main)
