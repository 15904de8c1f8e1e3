"""How fast training is, against peers in the same run: alternating, medians.

  python -m experiments.bench gru [--config configs/gru.py:audiomnist --config.data.root=DIR]

The peer is the same network in PyTorch (`pip install torch`): log-mel as the same product, `nn.GRU` on packed
sequences, the same readout, SGD with momentum and clipping, on the same batches. Augmentation is off for both.
The last line is one JSON object.
"""

import json
import time
from collections.abc import Callable

import jax
import numpy as np

from audiojax import command, environment, prepare, train
from audiojax import config as configs
from audiojax.data import batches, splits
from audiojax.models import frontend
from audiojax.models.gru import LEVEL_KEEP, READOUTS
from audiojax.types import Batch, InputError

NUM_ROUNDS, NUM_BATCHES = 7, 20


def main(argv: list[str]) -> None:
    parser = command.parser("bench", __doc__ or "")
    parser.add_argument("what", choices=("gru",))
    if not any(word.startswith("--config") for word in argv):
        argv = [*argv, "--config=configs/gru.py"]
    _, config = command.parse_with_config(parser, argv)
    command.setup_jax()
    clips = prepare.load_clips(config)
    split = splits.make(clips, **config.split, seed=config.seed)
    shape = configs.batch_shape(config)
    drawn = list(batches.Epochs(clips, split.train, **shape, seed=config.seed)(0, NUM_BATCHES))
    contenders = {"audiojax": audiojax_steps(config, clips), "PyTorch, packed nn.GRU": torch_steps(config, clips)}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for steps in contenders.values():
        steps(drawn)  # compiles, and warms up
    for _ in range(NUM_ROUNDS):
        for name, steps in contenders.items():
            start = time.perf_counter()
            steps(drawn)
            seconds[name].append(time.perf_counter() - start)
    num_clips = sum(int(batch["mask"].sum()) for batch in drawn)
    result = {
        name: {
            "ms_a_step": 1e3 * float(np.median(of)) / NUM_BATCHES,
            "clips_per_second": num_clips / float(np.median(of)),
        }
        for name, of in seconds.items()
    }
    ours, theirs = (of["ms_a_step"] for of in result.values())
    print(f"{clips.source}, batch {config.train.batch_size}, {NUM_ROUNDS} rounds of {NUM_BATCHES} steps, alternating:")
    for name, of in result.items():
        print(f"  {name:<24} {of['ms_a_step']:7.1f} ms a step   {of['clips_per_second']:7,.0f} clips/s")
    print(f"  audiojax is {theirs / ours:.2f} times as fast as PyTorch")
    print(json.dumps({"gru": result, "ratio": theirs / ours, "environment": environment.describe(1)}))


def audiojax_steps(config, clips) -> Callable[[list[Batch]], None]:
    """Training steps on the batches given, one after the other, as `train.run` makes them."""
    quiet = config.copy_and_resolve_references()
    quiet.augment = configs.base(configs.parse_arg("")).augment
    _, state, step, _ = train.assemble(quiet, num_labels=len(clips.label_names), rate_hz=clips.rate_hz, num_steps=1000)
    key = jax.random.key(0)

    def steps(drawn: list[Batch]) -> None:
        nonlocal state
        for batch in drawn:
            state, _ = step(state, batch, key)
        jax.block_until_ready(state)

    return steps


def torch_steps(config, clips) -> Callable[[list[Batch]], None]:
    """The same in PyTorch."""
    try:
        import torch
    except ImportError:
        raise InputError("the peer is not installed; pip install torch.") from None
    want = config.model
    if want.frontend != "logmel" or want.cell != "gru" or not want.mask_padding:
        raise InputError("the peer has log-mel frames, a GRU and masked padding; leave those keys of config.model.")
    decays = READOUTS[want.readout]
    front = frontend.make(
        "logmel",
        **{name: want[name] for name in ("window_samples", "hop_samples", "num_bands", "low_hz", "high_hz")},
        rate_hz=clips.rate_hz,
    )
    fourier, bands = (torch.tensor(x) for x in front.matrices())
    hop, window = want.hop_samples, want.window_samples

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(want.num_bands, affine=False)
            layers = dict(num_layers=want.num_layers, dropout=want.dropout * (want.num_layers > 1), batch_first=True)
            self.gru = torch.nn.GRU(want.num_bands, want.features, **layers)
            self.drop = torch.nn.Dropout(want.dropout)
            self.logits = torch.nn.Linear(len(decays) * want.features, len(clips.label_names))

        def forward(self, audio, length):
            sound = torch.nn.functional.pad(audio.float() / 32768, (window - hop, 0))
            real, imaginary = (sound.unfold(1, window, hop) @ fourier).chunk(2, dim=-1)
            frames = torch.log((real**2 + imaginary**2) @ bands + frontend.POWER_FLOOR)
            num_frames = -(-length // hop)
            heard = torch.arange(frames.shape[1])[None] < num_frames[:, None]
            if want.normalise != "none":
                frames = torch.zeros_like(frames).masked_scatter(heard[..., None], self.norm(frames[heard]))
            if want.normalise == "running":
                age = torch.arange(frames.shape[1])[:, None] - torch.arange(frames.shape[1])[None]
                weights = torch.where(age >= 0, (1 - LEVEL_KEEP) * LEVEL_KEEP ** age.clamp(min=0), 0.0)
                frames = frames - weights @ frames
            packed = torch.nn.utils.rnn.pack_padded_sequence(frames, num_frames, batch_first=True, enforce_sorted=False)
            states, _ = torch.nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
            ahead = num_frames[:, None] - 1 - torch.arange(states.shape[1])[None]
            read = []
            for decay in decays:
                weight = torch.where(ahead >= 0, decay ** ahead.clamp(min=0).float(), 0.0)
                read.append(torch.einsum("bn,bnf->bf", weight / weight.sum(1, keepdim=True), states))
            return self.logits(self.drop(torch.cat(read, dim=1)))

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=config.optimizer.learning_rate, momentum=config.optimizer.momentum)
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=config.train.label_smoothing)

    def steps(drawn: list[Batch]) -> None:
        for batch in drawn:
            real = batch["mask"] > 0
            audio, length, label = (torch.from_numpy(batch[name][real]) for name in ("audio", "length", "label"))
            optimizer.zero_grad()
            loss_of(net(audio, length), label.long()).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), config.optimizer.clip_norm or float("inf"))
            optimizer.step()

    return steps


if __name__ == "__main__":
    command.run(main)
