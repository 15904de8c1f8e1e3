"""The same networks in plain Flax and in PyTorch (`pip install torch`), for `experiments.benchmarks.compare`.

Each public function returns a function that trains on a list of batches, one step each, without augmentation, with the
shapes and the optimizer of audiojax. They do not use the models of audiojax.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.models.audionet import CHANNELS, HIDDEN
from audiojax.models.layers import frontend
from audiojax.models.layers.averages import READOUTS

Steps = Callable[[list[Batch]], None]


class PlainAudioNet(nn.Module):
    """AudioNet, written with the standard Flax layers."""

    @nn.compact
    def __call__(self, audio: jax.Array, train: bool) -> jax.Array:
        """Returns logits f32[B, 10] of `audio` i16[B, T]."""
        x = (audio.astype(jnp.float32) / 32768)[..., None]
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=1, keepdims=True) + 1e-9)
        for i, features in enumerate(CHANNELS):
            x = nn.Conv(features, (3,))(x)
            if i:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.max_pool(nn.relu(x), (2,), (2,))
        x = x.reshape(x.shape[0], -1)
        for features in HIDDEN:
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(10)(x)


def flax_audionet(config: ConfigDict) -> Steps:
    """Returns the training steps of AudioNet with `nn.Conv`, `nn.max_pool` and optax."""
    model = PlainAudioNet()
    optimizer = optax.sgd(config.optimizer.learning_rate, momentum=config.optimizer.momentum)
    variables = jax.jit(model.init, static_argnums=2)(
        jax.random.key(0), jnp.zeros((1, config.train.length_samples), jnp.int16), False
    )
    state = (variables["params"], variables["batch_stats"], optimizer.init(variables["params"]))

    @jax.jit
    def step(state: Any, audio: jax.Array, label: jax.Array) -> Any:
        params, statistics, momentum = state

        def loss_of(params: Any) -> Any:
            given = {"params": params, "batch_stats": statistics}
            logits, changed = model.apply(given, audio, True, mutable=["batch_stats"])
            target = optax.smooth_labels(jax.nn.one_hot(label, 10), config.train.label_smoothing)
            return optax.softmax_cross_entropy(logits, target).mean(), changed["batch_stats"]

        gradient, statistics = jax.grad(loss_of, has_aux=True)(params)
        updates, momentum = optimizer.update(gradient, momentum)
        return optax.apply_updates(params, updates), statistics, momentum

    def steps(step_batches: list[Batch]) -> None:
        nonlocal state
        for batch in step_batches:
            state = step(state, batch["audio"], batch["label"])
        jax.block_until_ready(state)

    return steps


def torch_audionet_blocks(torch: Any, num_samples: int, channels_last: bool) -> list[Any]:
    """Returns AudioNet for clips of `num_samples` as modules of PyTorch: a block for each convolution, dense layers.

    With `channels_last` the convolutions are 2-D ones of height 1.
    """
    if channels_last:
        conv = lambda i, o: torch.nn.Conv2d(i, o, (1, 3), padding=(0, 1))  # noqa: E731
        norm, pool = torch.nn.BatchNorm2d, lambda: torch.nn.MaxPool2d((1, 2))
    else:
        conv = lambda i, o: torch.nn.Conv1d(i, o, 3, padding=1)  # noqa: E731
        norm, pool = torch.nn.BatchNorm1d, lambda: torch.nn.MaxPool1d(2)
    blocks = []
    for i, (before, features) in enumerate(zip((1, *CHANNELS), CHANNELS, strict=False)):
        layers = [conv(before, features), *([norm(features)] if i else []), torch.nn.ReLU(), pool()]
        blocks.append(torch.nn.Sequential(*layers))
    size = num_samples // 2 ** len(CHANNELS) * CHANNELS[-1]
    dense = [torch.nn.Flatten()]
    for before, features in zip((size, *HIDDEN), HIDDEN, strict=False):
        dense += [torch.nn.Linear(before, features), torch.nn.ReLU()]
    return [*blocks, torch.nn.Sequential(*dense, torch.nn.Linear(HIDDEN[-1], 10))]


def torch_audionet(
    config: ConfigDict, *, compiled: bool = False, channels_last: bool = False, half: bool = False
) -> Steps:
    """Returns the training steps of AudioNet in PyTorch.

    Args:
        config: The config of the run.
        compiled: Whether to use `torch.compile`.
        channels_last: Whether to use 2-D convolutions of height 1 in the channels-last memory format.
        half: Whether to use bfloat16 autocast.
    """
    torch = pytorch()
    net = torch.nn.Sequential(*torch_audionet_blocks(torch, config.train.length_samples, channels_last))
    net = net.to(device(torch))
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    called = torch.compile(net) if compiled else net

    def logits_of(batch: Batch) -> Any:
        sound = torch.from_numpy(batch["audio"]).to(device(torch), non_blocking=True).float() / 32768
        sound = sound * torch.rsqrt(sound.square().mean(1, keepdim=True) + 1e-9)
        sound = sound[:, None, None] if channels_last else sound[:, None]
        if channels_last:
            sound = sound.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device(torch), torch.bfloat16, enabled=half):
            return called(sound).float()

    return _torch_steps(torch, net, logits_of, config)


def torch_gru(config: ConfigDict, rate_hz: int) -> Steps:
    """Returns the training steps of the recurrent network in PyTorch, with `nn.GRU` on packed sequences."""
    torch, want = pytorch(), config.model
    if want.frontend != "logmel" or want.cell != "gru" or not want.mask_padding:
        raise InputError("torch_gru supports frontend=logmel, cell=gru and mask_padding only; set config.model so.")
    decays = READOUTS[want.readout]
    fields = {name: want[name] for name in ("window_samples", "hop_samples", "num_bands", "low_hz", "high_hz")}
    fourier, bands = (
        torch.tensor(x, device=device(torch)) for x in frontend.make("logmel", **fields, rate_hz=rate_hz).matrices()
    )
    hop, window = want.hop_samples, want.window_samples

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(want.num_bands, affine=False)
            layers = dict(num_layers=want.num_layers, dropout=want.dropout * (want.num_layers > 1), batch_first=True)
            self.gru = torch.nn.GRU(want.num_bands, want.features, **layers)
            self.drop = torch.nn.Dropout(want.dropout)
            self.logits = torch.nn.Linear(len(decays) * want.features, 10)

        def forward(self, audio, length):
            sound = torch.nn.functional.pad(audio.float() / 32768, (window - hop, 0))
            real, imaginary = (sound.unfold(1, window, hop) @ fourier).chunk(2, dim=-1)
            frames = torch.log((real**2 + imaginary**2) @ bands + frontend.POWER_FLOOR)
            num_frames, steps = -(-length // hop), torch.arange(frames.shape[1], device=frames.device)
            valid = steps[None] < num_frames[:, None]
            if want.normalise != "none":
                frames = torch.zeros_like(frames).masked_scatter(valid[..., None], self.norm(frames[valid]))
            if want.normalise == "running":
                age = steps[:, None] - steps[None]
                decay = want.normalise_decay
                weights = torch.where(age >= 0, (1 - decay) * decay ** age.clamp(min=0), 0.0)
                frames = frames - weights @ frames
            packed = torch.nn.utils.rnn.pack_padded_sequence(
                frames, num_frames.cpu(), batch_first=True, enforce_sorted=False
            )
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
            ahead = num_frames[:, None] - 1 - steps[None, : states.shape[1]]
            read = []
            for decay in decays:
                weight = torch.where(ahead >= 0, decay ** ahead.clamp(min=0).float(), 0.0)
                read.append(torch.einsum("bn,bnf->bf", weight / weight.sum(1, keepdim=True), states))
            return self.logits(self.drop(torch.cat(read, dim=1)))

    net = Net().to(device(torch))

    def logits_of(batch: Batch) -> Any:
        real = batch["mask"] > 0
        given = (torch.from_numpy(np.ascontiguousarray(batch[name][real])) for name in ("audio", "length"))
        return net(*(tensor.to(device(torch), non_blocking=True) for tensor in given))

    return _torch_steps(torch, net, logits_of, config)


def pytorch() -> Any:
    """Returns the module `torch` with its seed set to 0; raises InputError if it is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError("PyTorch is not installed; pip install torch.") from None
    torch.manual_seed(0)
    return torch


def device(torch: Any) -> str:
    """Returns the device that PyTorch trains on: "cuda" if there is one, otherwise "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _torch_steps(torch: Any, net: Any, logits_of: Callable[[Batch], Any], config: ConfigDict) -> Steps:
    optimizer = torch.optim.SGD(net.parameters(), lr=config.optimizer.learning_rate, momentum=config.optimizer.momentum)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=config.train.label_smoothing)

    def steps(step_batches: list[Batch]) -> None:
        for batch in step_batches:
            label = torch.from_numpy(batch["label"][batch["mask"] > 0]).long().to(device(torch), non_blocking=True)
            optimizer.zero_grad()
            loss_of(logits_of(batch), label).backward()
            if config.optimizer.clip_norm:
                torch.nn.utils.clip_grad_norm_(net.parameters(), config.optimizer.clip_norm)
            optimizer.step()
        if device(torch) == "cuda":
            torch.cuda.synchronize()

    return steps
