"""The network and the recipe of `experiments.benchmarks.speedrun` in PyTorch (`pip install torch`), for comparison."""

import time
from typing import Any

import numpy as np

from audiojax.data.clips import Clips
from audiojax.models.layers import frontend
from experiments.benchmarks.peers import device, pytorch
from experiments.benchmarks.speedrun import Recipe, padded


class TorchTrainer:
    """Trains and scores as `speedrun.Trainer` does, with convolutions in the channels-last memory format.

    Features, augmentation, optimizer, schedule, averaging and scores are those of the recipe. BatchNorm averages over
    the padding too, which is less work.
    """

    def __init__(self, recipe: Recipe, num_clips: int, rate_hz: int, *, compiled: bool):
        """Describes the training on `num_clips` clips; raises InputError without PyTorch."""
        self._torch, self.recipe, self._compiled = pytorch(), recipe, compiled
        self._device = device(self._torch)
        self.num_steps = recipe.num_steps(num_clips)
        self._waves, self._bands = (
            self._torch.tensor(np.asarray(x), device=self._device) for x in recipe.front_end(rate_hz).weights()
        )

    def _examples(self, clips: Clips, indices: np.ndarray, num_frames: int) -> tuple[Any, Any, Any]:
        torch, hop, window = self._torch, self.recipe.hop_samples, self.recipe.window_samples
        audio, length = padded(clips, indices, num_frames, hop)
        frames = []
        for part in torch.from_numpy(audio).to(self._device).split(500):
            sound = torch.nn.functional.pad(part.float() / 32768, (window - hop, 0))
            real, imaginary = (sound.unfold(1, window, hop) @ self._waves).chunk(2, dim=-1)
            frames.append(torch.log((real**2 + imaginary**2) @ self._bands + frontend.POWER_FLOOR))
        length, label = (torch.from_numpy(x).to(self._device) for x in (length, clips.label[indices]))
        return torch.cat(frames), length, label.long()

    def train(self, clips: Clips, indices: np.ndarray, seed: int) -> tuple[Any, float]:
        """Returns the averaged network, and the seconds from the clips to it."""
        torch, recipe, start = self._torch, self.recipe, time.perf_counter()
        torch.manual_seed(seed)
        frames, length, label = self._examples(clips, indices, recipe.num_frames)
        net = _network(torch, recipe).to(self._device, memory_format=torch.channels_last)
        average = torch.optim.swa_utils.AveragedModel(
            net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema_decay)
        )
        called = torch.compile(net) if self._compiled else net
        optimizer = torch.optim.AdamW(net.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
        loss_of = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        rates = np.asarray(recipe.schedule(self.num_steps)(np.arange(self.num_steps)))
        order = torch.cat(
            [torch.randperm(len(label), device=self._device) for _ in range(int(np.ceil(recipe.epochs)) + 1)]
        )
        for rate, rows in zip(rates, order.split(recipe.batch_size), strict=False):
            x, valid = self._augmented(frames[rows], length[rows])
            optimizer.param_groups[0]["lr"] = float(rate)
            optimizer.zero_grad()
            loss_of(
                called(_squares(torch, _normalised(torch, x, valid)), _halved(torch, valid)), label[rows]
            ).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            average.update_parameters(net)
        average.module.load_state_dict(dict(net.named_buffers()), strict=False)
        if self._device == "cuda":
            torch.cuda.synchronize()
        return average.module, time.perf_counter() - start

    def _augmented(self, frames: Any, length: Any) -> tuple[Any, Any]:
        torch, recipe, on = self._torch, self.recipe, {"device": self._device}
        num_rows, num_frames, num_bands = frames.shape

        def factor(change: float) -> Any:
            return torch.exp(np.log1p(change) * (2 * torch.rand(num_rows, **on) - 1))

        def curves(scale: float) -> Any:  # linear between six bands
            knots = scale * torch.randn(num_rows, 6, **on)
            return (knots @ _hat(torch, torch.linspace(0, 5, num_bands, **on), 6).T)[:, None]

        def growth() -> Any:
            share = 2 * torch.rand(num_rows, **on) - 1
            return share * torch.where(share < 0, (length / 8).clamp(max=recipe.margin), recipe.margin)

        before, after = growth(), growth()
        num_moved = before + length + after
        tempo = torch.maximum(factor(recipe.tempo), num_moved / num_frames)
        places = torch.arange(num_frames, **on) * tempo[:, None] - before[:, None]
        in_time = _hat(torch, places.clamp(min=0).minimum(length[:, None] - 1), num_frames)
        length = torch.ceil(num_moved / tempo).clamp(1, num_frames)
        in_bands = _warp(torch, factor(recipe.warp), num_bands)
        frames = in_time @ frames @ in_bands.transpose(1, 2) + curves(recipe.tilt)
        below = recipe.noise + 9.0 * torch.rand(num_rows, 1, 1, **on)
        frames = torch.logaddexp(frames, frames.amax((1, 2), keepdim=True) - below + curves(0.5))
        return frames, torch.arange(num_frames, **on) < length[:, None]

    def accuracy(self, net: Any, clips: Clips, indices: np.ndarray) -> float:
        """Returns the share of the clips at `indices` that are classified correctly."""
        torch = self._torch
        frames, length, label = self._examples(clips, indices, self.recipe.num_frames_scored)
        valid = torch.arange(frames.shape[1], device=self._device) < length[:, None]
        warps = _warp(torch, torch.tensor(self.recipe.warps_scored, device=self._device), self.recipe.num_bands)
        net.eval()
        with torch.no_grad():
            parts = zip(frames.split(500), valid.split(500), strict=True)
            found = torch.cat([self._label(net, warps, *part) for part in parts])
        return float((found == label).float().mean())

    def _label(self, net: Any, warps: Any, frames: Any, valid: Any) -> Any:
        inputs = (_squares(self._torch, _normalised(self._torch, frames @ warp.T, valid)) for warp in warps)
        return sum(net(x, _halved(self._torch, valid)) for x in inputs).argmax(-1)


def _network(torch: Any, recipe: Recipe) -> Any:
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self._layer(4, recipe.channels[0])
            pairs = list(zip(recipe.channels, recipe.channels[1:], strict=False))
            self.before = nn.ModuleList([self._layer(a, b) for a, b in pairs])
            self.skipped = nn.ModuleList([self._layer(b, b) for _, b in pairs])
            self.drop, self.logits = nn.Dropout(recipe.dropout), nn.Linear(recipe.channels[-1], 10)

        def _layer(self, before, features):
            conv = nn.Conv2d(before, features, 3, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(features), nn.ReLU())

        def forward(self, x, valid):
            x = self.first(x) * valid
            for before, skipped in zip(self.before, self.skipped, strict=True):
                x, valid = (nn.functional.max_pool2d(y, 2, ceil_mode=True) for y in (x, valid))
                valid = valid[..., :1]
                x = before(x) * valid
                x = x + skipped(x) * valid
            mean = x.sum((2, 3)) / (valid.sum((2, 3)) * x.shape[3])
            return self.logits(self.drop(mean))

    return Net()


def _normalised(torch: Any, frames: Any, valid: Any) -> Any:
    mask = valid[..., None]
    mean = (frames * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return torch.where(mask, (frames - mean) / 2, 0.0)


def _squares(torch: Any, frames: Any) -> Any:
    """Returns [B, 4, N / 2, bands / 2]: squares of two frames by two bands."""
    return torch.nn.functional.pixel_unshuffle(frames[:, None], 2).contiguous(memory_format=torch.channels_last)


def _halved(torch: Any, valid: Any) -> Any:
    return valid[:, None, ::2, None].float()


def _warp(torch: Any, factor: Any, num_bands: int) -> Any:
    return _hat(
        torch, (torch.arange(num_bands, device=factor.device) * factor[:, None]).clamp(0, num_bands - 1), num_bands
    )


def _hat(torch: Any, places: Any, size: int) -> Any:
    return (1 - (places[..., None] - torch.arange(size, device=places.device)).abs()).clamp(min=0)
