"""The peers in PyTorch compute what our networks compute, from the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from built_clips import build

from audiojax.models.audionet import CHANNELS
from experiments.benchmarks import blocks, peers, speedrun, speedrun_torch

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch)")

RECIPE = speedrun.Recipe(num_frames=12, num_frames_scored=16, num_bands=8, channels=(4, 6, 8), margin=2.0, dropout=0.0)


@pytest.fixture(autouse=True)
def as_outside_the_tests(monkeypatch):
    """Allows jax to promote ranks and types, as outside the tests, and keeps PyTorch on the CPU."""
    monkeypatch.setattr(speedrun_torch, "device", lambda torch: "cpu")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def tensor(x):
    return torch.from_numpy(np.array(x))


def set_conv(conv, kernel, bias=None):
    """Sets a convolution of PyTorch; flax has the axes (*window, in, out), PyTorch (out, in, *window)."""
    kernel = np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1))
    conv.weight.data = tensor(kernel.reshape(conv.weight.shape))
    if bias is not None:
        conv.bias.data = tensor(bias)


@pytest.mark.parametrize("channels_last", [False, True])
def test_blocks_of_audionet_have_the_same_outputs(channels_last):
    rng, num_samples = np.random.default_rng(0), 512
    theirs = peers.torch_audionet_blocks(torch, num_samples, channels_last)
    assert len(theirs) == len(CHANNELS) + 1
    x = rng.normal(size=(3, num_samples, 1)).astype(np.float32)
    for index, net in enumerate(theirs):
        block = blocks.Block(index)
        variables = block.init(jax.random.key(index), x)
        params = jax.tree.map(lambda p: p + rng.normal(0, 0.05, p.shape).astype(np.float32), variables["params"])
        ours, _ = block.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        sound = tensor(np.moveaxis(x, -1, 1))
        sound = sound[:, :, None] if channels_last else sound
        if index < len(CHANNELS):
            layer = params["WaveConvPool_0" if index == 0 else "Conv_0"]
            set_conv(net[0], layer["kernel"], layer["bias"])
            if index:
                net[1].weight.data, net[1].bias.data = (
                    tensor(params["BatchNorm_0"][name]) for name in ("scale", "bias")
                )
            found = np.moveaxis(net(sound).detach().numpy().reshape(3, CHANNELS[index], -1), 1, -1)
        else:
            dense = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
            for number, layer in enumerate(dense):
                of = params[f"Dense_{number}"]
                kernel = np.asarray(of["kernel"])
                if number == 0:  # PyTorch flattens channels before time
                    kernel = kernel.reshape(*x.shape[1:], -1).swapaxes(0, 1).reshape(kernel.shape)
                layer.weight.data, layer.bias.data = tensor(kernel.T), tensor(of["bias"])
            found = net(sound).detach().numpy()
        np.testing.assert_allclose(found, ours, rtol=1e-4, atol=1e-4)
        x = np.asarray(ours)
    assert x.shape == (3, 10) and np.ptp(x, axis=0).max() > 1e-2


def test_the_speedruns_peer_has_the_same_logits():
    rng = np.random.default_rng(0)
    frames, length = rng.normal(size=(3, 12, 8)).astype(np.float32), np.asarray([12, 7, 2], np.int32)
    model, net = speedrun.FrameCNN(RECIPE.channels, RECIPE.dropout), speedrun_torch._network(torch, RECIPE).eval()
    variables = model.init(jax.random.key(0), frames, jnp.asarray(length))
    variables = jax.tree.map(lambda p: p + rng.uniform(0, 0.3, p.shape).astype(np.float32), variables)
    params, stats = variables["params"], variables["batch_stats"]
    names = {"0a": net.first} | {f"{i}a": layer for i, layer in enumerate(net.before, start=1)}
    names |= {f"{i}b": layer for i, layer in enumerate(net.skipped, start=1)}
    for name, (conv, norm, _) in names.items():
        kernel = np.asarray(params[f"conv_{name}"]["kernel"])
        set_conv(conv, kernel)
        norm.weight.data, norm.bias.data = (tensor(params[f"norm_{name}"][key]) for key in ("scale", "bias"))
        norm.running_mean, norm.running_var = (tensor(stats[f"norm_{name}"][key]) for key in ("mean", "var"))
    net.logits.weight.data = tensor(np.asarray(params["Dense_0"]["kernel"]).T)
    net.logits.bias.data = tensor(params["Dense_0"]["bias"])
    ours = model.apply(variables, speedrun.normalised(frames, jnp.asarray(length)), jnp.asarray(length))
    valid = torch.arange(12) < tensor(length)[:, None]
    x = speedrun_torch._normalised(torch, tensor(frames), valid)
    theirs = net(speedrun_torch._squares(torch, x), speedrun_torch._halved(torch, valid)).detach().numpy()
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)
    assert np.ptp(theirs, axis=0).max() > 1e-2


def test_the_speedruns_peer_augments_as_we_do():
    """Frames that hold their own number show how ends and tempo were changed: the distributions are the same."""
    recipe = RECIPE._replace(num_frames=40, margin=6, warp=0.0, tilt=0.0, noise=60.0, tempo=0.3)
    length = np.resize(np.asarray([16, 24], np.int32), 2000)
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[None, :, None], (2000, 40, 8))
    ours, our_length = speedrun.augmented(jax.random.key(0), jnp.asarray(ramp), jnp.asarray(length), recipe)
    trainer = speedrun_torch.TorchTrainer(recipe, 100, 8000, compiled=False)
    theirs, valid = trainer._augmented(tensor(ramp), tensor(length))
    of = {"ours": (np.asarray(ours), np.asarray(our_length)), "theirs": (theirs.numpy(), valid.sum(1).numpy())}
    for statistic in (
        lambda x, n: n,
        lambda x, n: x[:, 0, 0],
        lambda x, n: x[np.arange(2000), n - 1, 0] - length,
        lambda x, n: x[:, 5, 0] - x[:, 4, 0],
    ):
        quantiles = [np.quantile(statistic(*pair), np.linspace(0.02, 0.98, 25)) for pair in of.values()]
        np.testing.assert_allclose(*quantiles, atol=0.12 * np.ptp(quantiles[0]))
        assert np.ptp(quantiles[0]) > 0.2


def test_the_speedruns_peer_has_the_same_frames_and_learns_tones(tones, tmp_path):
    clips = build(tones, tmp_path)
    train, test = (np.flatnonzero((clips.speaker == "05") == held_out) for held_out in (False, True))
    recipe = RECIPE._replace(
        hop_samples=32, num_frames=32, num_frames_scored=32, num_bands=32, channels=(8, 12), epochs=15.0, batch_size=20,
        warp=0.0, warps_scored=(1.0,), noise=12.0, ema_decay=0.9,
    )  # fmt: skip
    trainer = speedrun_torch.TorchTrainer(recipe, len(train), clips.rate_hz, compiled=False)
    ours = speedrun.Trainer(recipe, len(train), clips.rate_hz).examples(clips, test, 32)
    for mine, other in zip(ours, trainer._examples(clips, test, 32), strict=True):
        np.testing.assert_allclose(other.numpy(), mine, rtol=1e-4, atol=1e-3)
    net, seconds = trainer.train(clips, train, seed=0)
    assert trainer.accuracy(net, clips, test) > 0.8 and seconds > 0
