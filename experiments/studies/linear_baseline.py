"""Linear baseline: softmax regression on log-mel spectrograms of the clips and split of a config.

  python -m experiments.studies.linear_baseline --config configs/cnn.py

The features are 100 frames x 40 log-mel bands (25 ms window, 10 ms hop), standardised on the training set. The L2
penalty is chosen on the validation set.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from audiojax import cli
from audiojax.data import batches, loading, splits
from audiojax.data.clips import Clips
from audiojax.models.layers import frontend

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)


def spectrograms(clips: Clips, indices: np.ndarray, length_samples: int) -> np.ndarray:
    """Returns the log-mel spectrogram of each clip, right-padded with zeros, as f32[n, frames * bands]."""
    fields = dict(window_samples=200, hop_samples=80, num_bands=40, low_hz=20.0, high_hz=clips.rate_hz / 2)
    front_end = frontend.make("logmel", **fields, rate_hz=clips.rate_hz)
    log_mel = jax.jit(front_end)
    rows = []
    for batch in batches.evaluation(clips, indices, batch_size=100, length_samples=length_samples):
        sound = np.pad(batch["audio"] / np.float32(32768), ((0, 0), (front_end.context_samples, 0)))
        frames = np.asarray(log_mel(sound))[batch["mask"] > 0]
        rows.append(frames.reshape(len(frames), -1))
    return np.concatenate(rows)


def fit(x: np.ndarray, label: np.ndarray, num_labels: int, penalty: float) -> dict:
    """Returns weights and bias of the softmax regression after 60 steps of L-BFGS."""

    def loss(params: dict) -> jax.Array:
        logits = x @ params["weights"] + params["bias"]
        data = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        return data + penalty * jnp.sum(params["weights"] ** 2)

    optimizer, value_and_grad = optax.lbfgs(), optax.value_and_grad_from_state(loss)
    params = {"weights": jnp.zeros((x.shape[1], num_labels)), "bias": jnp.zeros(num_labels)}

    def step(carry, _):
        params, state = carry
        value, gradient = value_and_grad(params, state=state)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        return (optax.apply_updates(params, updates), state), value

    (params, _), _ = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=60))(params)
    return params


def main(argv: list[str]) -> None:
    """Fits the baseline and prints its accuracy on each part of the split."""
    _, config = cli.parse_with_config(cli.parser("experiments.studies.linear_baseline", __doc__ or ""), argv)
    cli.setup_jax()
    clips = loading.load_clips(config)
    split = splits.make(clips, **config.split)
    x = {part: spectrograms(clips, indices, config.train.length_samples) for part, indices in split._asdict().items()}
    mean, deviation = x["train"].mean(0), x["train"].std(0) + 1e-5
    x = {part: (rows - mean) / deviation for part, rows in x.items()}

    def accuracy(params: dict, part: str) -> float:
        guess = np.argmax(x[part] @ np.asarray(params["weights"]) + np.asarray(params["bias"]), axis=1)
        return float(np.mean(guess == clips.label[getattr(split, part)]))

    label = clips.label[split.train]
    fits = {penalty: fit(x["train"], label, len(clips.label_names), penalty) for penalty in PENALTIES}
    best = max(PENALTIES, key=lambda penalty: accuracy(fits[penalty], "validation"))
    print(f"{clips.source}, split {config.split.name}, fold {config.split.fold}, L2 {best:g}: accuracy ", end="")
    print(", ".join(f"{part} {accuracy(fits[best], part):.1%}" for part in split._fields))


if __name__ == "__main__":
    cli.run(main)
