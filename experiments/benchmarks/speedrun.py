"""Measures the wall-clock time from random parameters to a test accuracy on unseen speakers.

  python -m experiments.benchmarks.speedrun --root DIR                         three seeds, on the validation speakers
  python -m experiments.benchmarks.speedrun --root DIR --part test --seeds 5   the frozen recipe, on the test speakers
  python -m experiments.benchmarks.speedrun --root DIR --target 99             the recipe for 99.0 %
  python -m experiments.benchmarks.speedrun --root DIR --peers                 beside PyTorch, eager and compiled

AudioMNIST, reconstructed, fold 0. The time includes the log-mel frames of all training clips, augmentation and every
step; it begins with the prepared cache in memory and the programs compiled. The first run of each trainer compiles,
and is reported as the cold time. `--recipe '{"epochs": 3}'` changes fields of the recipe.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from audiojax import cli
from audiojax.audio.signal import fit_length
from audiojax.data import loading
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.models.layers import frontend, kernels, residual
from experiments.benchmarks.timing import add_out, share_memory, write_record
from experiments.protocols import records


class Recipe(NamedTuple):
    """A network on log-mel frames and how it is trained."""

    epochs: float = 2.0
    batch_size: int = 48
    learning_rate: float = 0.01  # the largest one, of AdamW, with a linear warm-up and a cosine decay to 0
    warmup_share: float = 0.15
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    ema_decay: float = 0.99  # of the averaged parameters, which are the result
    window_samples: int = 256
    hop_samples: int = 160
    num_frames: int = 36  # even; longer clips are cut in training
    num_frames_scored: int = 60  # even; longer clips are cut when they are scored
    warps_scored: tuple[float, ...] = (0.92, 1.0, 1.08)  # the logits are the mean over these factors
    num_bands: int = 32  # even
    channels: tuple[int, ...] = (24, 64, 96)  # of `residual.convolved` and of each of `residual.stages`
    dropout: float = 0.2
    margin: float = 4.0  # frames by which each end of a clip moves at most: it is cut, or its outermost frame repeated
    tempo: float = 0.3  # factors in [1 / (1 + tempo), 1 + tempo]
    warp: float = 0.12  # factors in [1 / (1 + warp), 1 + warp] of the frequency axis: other vocal tracts
    tilt: float = 0.5  # standard deviation in nepers of a random response over the bands: other microphones
    noise: float = 6.0  # nepers of power below the loudest band from which noise is added

    def num_steps(self, num_clips: int) -> int:
        """Returns the number of training steps with `num_clips` clips."""
        return round(self.epochs * num_clips / self.batch_size)

    def schedule(self, num_steps: int) -> optax.Schedule:
        """Returns the learning rate as a function of the step."""
        warmup_steps = round(self.warmup_share * num_steps)
        return optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup_steps, num_steps)

    def front_end(self, rate_hz: int) -> frontend.LogMel:
        """Returns the module that computes the frames."""
        return frontend.LogMel(self.window_samples, self.hop_samples, self.num_bands, 50.0, 4000.0, rate_hz)


RECIPES = {
    98: Recipe(epochs=0.75),
    99: Recipe(epochs=3.0, hop_samples=128, num_frames=46, num_frames_scored=76, num_bands=40, margin=5.0),
}
PEERS = ("eager", "compiled")


class Examples(NamedTuple):
    """Log-mel frames of clips; all arrays are on the device."""

    frames: jax.Array  # f32[n, num_frames, num_bands]
    length: jax.Array  # i32[n], frames
    label: jax.Array  # i32[n]


class FrameCNN(nn.Module):
    """The layers of `audiojax.models.melcnn.MelCNN` on squares of two frames by two bands, four features each."""

    channels: tuple[int, ...]
    dropout: float
    num_labels: int = 10

    @nn.compact
    def __call__(self, frames: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns the logits f32[B, num_labels] of `frames` f32[B, N, bands] with `length` i32[B]."""
        num_rows, num_frames, num_bands = frames.shape
        x = frames.reshape(num_rows, num_frames // 2, 2, num_bands // 2, 2)
        x = x.swapaxes(2, 3).reshape(num_rows, num_frames // 2, num_bands // 2, 4)
        length = -(-length // 2)
        tuned = kernels.tuned("auto")
        x = residual.convolved(x, length, self.channels[0], "0a", train, tuned)
        x, length = residual.stages(x, length, self.channels[1:], train, tuned)
        x = nn.Dropout(self.dropout, deterministic=not train)(residual.mean(x, length))
        return nn.Dense(self.num_labels)(x)


def padded(clips: Clips, indices: np.ndarray, num_frames: int, hop_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the beginnings of clips i16[n, num_frames * hop_samples], zero right-padded, and their frames i32[n]."""
    audio = np.empty((len(indices), num_frames * hop_samples), np.int16)
    kept = [fit_length(clips[index], row) for index, row in zip(indices, audio, strict=True)]
    return audio, -(-np.asarray(kept, np.int32) // hop_samples)


def normalised(frames: jax.Array, length: jax.Array) -> jax.Array:
    """Returns `frames` [B, N, bands] less their mean over the clip, zero in the padding."""
    valid = residual.valid_mask(frames, length)
    mean = jnp.sum(jnp.where(valid, frames, 0.0), axis=1, keepdims=True) / length.astype(jnp.float32)[:, None, None]
    return jnp.where(valid, (frames - mean) / 2.0, 0.0)  # a band's standard deviation is about 2


def augmented(key: jax.Array, frames: jax.Array, length: jax.Array, recipe: Recipe) -> tuple[jax.Array, jax.Array]:
    """Returns `frames` [B, N, bands] with other ends, tempo, vocal tract, microphone and noise, and their `length`."""
    num_rows, num_frames, num_bands = frames.shape
    keys = jax.random.split(key, 7)

    def factor(key: jax.Array, change: float) -> jax.Array:
        return jnp.exp(jnp.log1p(change) * jax.random.uniform(key, (num_rows,), minval=-1.0))

    def curves(key: jax.Array, scale: float) -> jax.Array:  # linear between six bands
        knots = scale * jax.random.normal(key, (num_rows, 6))
        return (knots @ _hat(jnp.linspace(0.0, 5.0, num_bands), 6).T)[:, None]

    num_valid = length.astype(jnp.float32)

    def growth(key: jax.Array) -> jax.Array:  # frames by which a clip is longer at one end; at most an eighth is cut
        cut = jnp.minimum(recipe.margin, num_valid / 8)
        share = jax.random.uniform(key, (num_rows,), minval=-1.0)
        return share * jnp.where(share < 0, cut, recipe.margin)

    before, after = growth(keys[5]), growth(keys[6])
    num_moved = before + num_valid + after
    tempo = jnp.maximum(factor(keys[0], recipe.tempo), num_moved / num_frames)
    new_length = jnp.clip(jnp.ceil(num_moved / tempo).astype(jnp.int32), 1, num_frames)
    places = jnp.arange(num_frames, dtype=jnp.float32) * tempo[:, None] - before[:, None]
    in_time = _hat(jnp.clip(places, 0, num_valid[:, None] - 1), num_frames)
    in_bands = _warp(factor(keys[1], recipe.warp), num_bands)
    frames = jnp.einsum("bnm,bmf,bgf->bng", in_time, frames, in_bands)
    frames = frames + curves(keys[2], recipe.tilt)
    loudest = jnp.max(frames, axis=(1, 2), keepdims=True)
    below = jax.random.uniform(keys[3], (num_rows, 1, 1), minval=recipe.noise, maxval=recipe.noise + 9.0)
    return jnp.logaddexp(frames, loudest - below + curves(keys[4], 0.5)), new_length


def _warp(factor: jax.Array, num_bands: int) -> jax.Array:
    """Returns f32[..., num_bands, num_bands]: band g is taken from band g * `factor`, by linear interpolation."""
    places = jnp.arange(num_bands, dtype=jnp.float32) * jnp.asarray(factor)[..., None]
    return _hat(jnp.clip(places, 0, num_bands - 1), num_bands)


def _hat(places: jax.Array, size: int) -> jax.Array:
    """Returns f32[..., size]: the weights of linear interpolation at `places` between 0 and size - 1."""
    return jnp.maximum(0.0, 1.0 - jnp.abs(places[..., None] - jnp.arange(size, dtype=jnp.float32)))


class Trainer:
    """Trains and scores by a recipe; its programs are compiled by the first run."""

    def __init__(self, recipe: Recipe, num_clips: int, rate_hz: int):
        """Builds the programs for `num_clips` training clips."""
        self.recipe, self._model = recipe, FrameCNN(recipe.channels, recipe.dropout)
        self.num_steps = recipe.num_steps(num_clips)
        schedule = recipe.schedule(self.num_steps)
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=recipe.weight_decay)
        )
        self._frames = jax.jit(self._log_mel(recipe.front_end(rate_hz)))
        self.num_devices = math.gcd(len(jax.devices()), recipe.batch_size)
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()[: self.num_devices]), ("batch",))
        self._everywhere, self._split = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in ((), ("batch",)))
        given = self._everywhere, self._everywhere, self._split, self._everywhere, None
        self._step = jax.jit(self._train_step, donate_argnums=0, in_shardings=given, out_shardings=self._everywhere)
        self._predict = jax.jit(self._label)

    def _log_mel(self, front_end: frontend.LogMel) -> Callable[[jax.Array], jax.Array]:
        before = self.recipe.window_samples - self.recipe.hop_samples
        return lambda audio: front_end.apply({}, jnp.pad(audio / jnp.float32(32768), ((0, 0), (before, 0))))

    def _label(self, variables: Any, frames: jax.Array, length: jax.Array) -> jax.Array:
        warps = _warp(jnp.asarray(self.recipe.warps_scored), self.recipe.num_bands)
        logits = [self._model.apply(variables, normalised(frames @ warp.T, length), length) for warp in warps]
        return sum(logits).argmax(-1)

    def examples(self, clips: Clips, indices: np.ndarray, num_frames: int, rows: int = 500) -> Examples:
        """Returns the frames of the clips at `indices`, computed `rows` clips at a time."""
        audio, length = padded(clips, indices, num_frames, self.recipe.hop_samples)
        full = np.pad(audio, ((0, -len(audio) % rows), (0, 0)))
        frames = jnp.concatenate([self._frames(full[at : at + rows]) for at in range(0, len(full), rows)])
        return Examples(frames[: len(audio)], jnp.asarray(length), jnp.asarray(clips.label[indices]))

    def train(self, clips: Clips, indices: np.ndarray, seed: int) -> tuple[Any, float]:
        """Returns the averaged variables, and the seconds from the clips to them."""
        start, recipe, rng = time.perf_counter(), self.recipe, np.random.default_rng(seed)
        examples = self.examples(clips, indices, recipe.num_frames)
        num_epochs = -(-self.num_steps * recipe.batch_size // len(indices))
        order = np.concatenate([rng.permutation(len(indices)).astype(np.int32) for _ in range(num_epochs)])
        order = order[: self.num_steps * recipe.batch_size].reshape(-1, recipe.batch_size)
        variables = self._model.init(jax.random.key(seed), examples.frames[:2], examples.length[:2])
        params = variables["params"]
        state = params, variables["batch_stats"], self._optimizer.init(params), jax.tree.map(jnp.copy, params)
        state, examples, key = jax.device_put((state, examples, jax.random.key(seed)), self._everywhere)
        for number, rows in enumerate(order):
            state = self._step(state, examples, rows, key, number)
            if self.num_devices > 1:  # on several CPU devices, steps that are dispatched ahead deadlock
                jax.block_until_ready(state)
        jax.block_until_ready(state)
        return {"params": state[3], "batch_stats": state[1]}, time.perf_counter() - start

    def _train_step(self, state: Any, examples: Examples, rows: jax.Array, key: jax.Array, number: int) -> Any:
        (params, stats, optimizer, average), keys = state, jax.random.split(jax.random.fold_in(key, number))
        x, length = augmented(keys[0], examples.frames[rows], examples.length[rows], self.recipe)
        target = optax.smooth_labels(jax.nn.one_hot(examples.label[rows], 10), self.recipe.label_smoothing)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            how: dict[str, Any] = dict(train=True, mutable=["batch_stats"], rngs={"dropout": keys[1]})
            variables = {"params": params, "batch_stats": stats}
            logits, updates = self._model.apply(variables, normalised(x, length), length, **how)
            return optax.softmax_cross_entropy(logits, target).mean(), updates["batch_stats"]

        gradient, stats = jax.grad(loss, has_aux=True)(params)
        updates, optimizer = self._optimizer.update(gradient, optimizer, params)
        params = optax.apply_updates(params, updates)
        return params, stats, optimizer, optax.incremental_update(params, average, 1 - self.recipe.ema_decay)

    def accuracy(self, variables: Any, clips: Clips, indices: np.ndarray, rows: int = 500) -> float:
        """Returns the share of the clips at `indices` that are classified correctly."""
        frames, length, label = self.examples(clips, indices, self.recipe.num_frames_scored)
        found = [
            self._predict(variables, frames[at : at + rows], length[at : at + rows])
            for at in range(0, len(label), rows)
        ]
        return float(np.mean(np.concatenate(found) == np.asarray(label)))


def table(runs: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Returns a Markdown table of {trainer: (accuracy, seconds) of each run}, of which the first one compiled."""
    rows = ["| | accuracy | seconds, warm | cold |", "|---|---|---|---|"]
    for name, results in runs.items():
        accuracies, seconds = np.asarray(results).T
        warm = f"{np.median(seconds[1:]):.1f}" if len(results) > 1 else ""
        rows.append(f"| {name} | {records.percent(accuracies.tolist())} | {warm} | {seconds[0]:.1f} |")
    return "\n".join(rows)


def main(argv: list[str]) -> None:
    """Trains each implementation once per seed, prints accuracy and time, and writes the record to `--out`."""
    parser = cli.parser("experiments.benchmarks.speedrun", __doc__ or "")
    parser.add_argument("--root", required=True, help="folder of AudioMNIST")
    parser.add_argument("--target", type=int, choices=RECIPES, default=98, help="accuracy in per cent")
    parser.add_argument("--part", choices=("validation", "test"), default="validation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="train in PyTorch too")
    add_out(parser)
    parser.add_argument("--recipe", default="{}", help="fields of the recipe to change, as JSON")
    args = parser.parse_args(argv)
    share_memory()
    jax.config.update("jax_num_cpu_devices", os.cpu_count())  # a core each, which share a batch
    cli.setup_jax()
    try:
        changed = {name: tuple(x) if isinstance(x, list) else x for name, x in json.loads(args.recipe).items()}
        recipe = RECIPES[args.target]._replace(**changed)
    except (ValueError, AttributeError) as error:
        raise InputError(f"--recipe is {args.recipe!r}: {error}; give JSON with fields of Recipe.") from None
    flags = ["--config=configs/spectrogram.py:audiomnist", f"--config.data.root={args.root}"]
    _, config = cli.parse_with_config(cli.parser("experiments.benchmarks.speedrun", ""), flags)
    clips, split = loading.load_split(config)
    given = recipe, len(split.train), clips.rate_hz
    ours = Trainer(*given)
    trainers: dict[str, Any] = {"audiojax": ours}
    if args.peers:
        from experiments.benchmarks.speedrun_torch import TorchTrainer

        trainers |= {f"PyTorch, {name}": TorchTrainer(*given, compiled=name == "compiled") for name in PEERS}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
    for seed in range(args.seeds):  # in turn, so that the load of the machine is the same for all
        for name, trainer in trainers.items():
            result, seconds = trainer.train(clips, split.train, seed)
            runs[name].append((trainer.accuracy(result, clips, getattr(split, args.part)), seconds))
    print(f"{recipe}\n\n{ours.num_steps} steps of {recipe.batch_size} clips, scored on {args.part}\n\n{table(runs)}")
    record = {"target": args.target, "recipe": recipe._asdict(), "steps": ours.num_steps, "part": args.part}
    write_record(args.out, record | {"runs": runs}, ours.num_devices)


if __name__ == "__main__":
    cli.run(main)
