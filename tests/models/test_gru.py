"""The recurrent network: a stream is the clip, padding and neighbours change nothing, and its gradients are true."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import models
from audiojax.errors import InputError
from audiojax.models.layers import frontend
from audiojax.models.layers.causal_conv import CausalConv
from audiojax.models.layers.cells import memory_bias
from audiojax.streaming.logit_stream import Stream

pytestmark = pytest.mark.slow

LENGTHS = np.asarray([3200, 3199, 1234, 81], np.int32)
KINDS = {
    "both": dict(readout="last_and_mean", num_layers=2, window_samples=256, hop_samples=64),
    "learned": dict(frontend="learned", readout="running", normalise="running", normalise_decay=0.9),
    "min_gru": dict(cell="min_gru", num_layers=2, memory_frames=30, readout="last"),
    "convolutions": dict(stack_frames=2, channels=(3, 4), num_bands=27, dense=12, normalise="running"),
    "raw": dict(frontend="raw", hop_samples=8, normalise="none"),
}


def build(**fields):
    return models.build(name="gru", num_labels=10, rate_hz=8000, **{"features": 16, **fields})


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, variables, audio, length):
    return model.apply(variables, audio, length)


@functools.partial(jax.jit, static_argnums=0)
def trained_on(model, variables, audio, length):
    """The logits in training, and the statistics after it."""
    return model.apply(variables, audio, length, train=True, mutable=["batch_stats"])


def clips() -> np.ndarray:
    """i16[4, 3200]: noise of LENGTHS samples, zero right-padded."""
    audio = np.random.default_rng(0).normal(0, 3000, (4, 3200)).astype(np.int16)
    return np.where(np.arange(3200)[None] < LENGTHS[:, None], audio, 0).astype(np.int16)


@pytest.fixture(scope="module", params=KINDS)
def net(request):
    """A network of each kind, its statistics not those of the beginning."""
    model = build(**KINDS[request.param])
    variables = jax.jit(model.init)(jax.random.key(1), clips(), LENGTHS)
    if model.normalise != "none":
        variables |= trained_on(model, variables, clips(), LENGTHS)[1]
    return model, variables


@pytest.mark.parametrize("chunk_samples", [1, 37, 8000])
def test_a_stream_in_chunks_of_any_size_is_the_clip(net, chunk_samples):
    model, variables = net
    whole = logits_of(model, variables, clips(), LENGTHS)
    for clip, length, expected in list(zip(clips(), LENGTHS, whole, strict=True))[1:]:
        stream = Stream(model, variables)
        heard = [stream.feed(clip[i : min(i + chunk_samples, length)]) for i in range(0, length, chunk_samples)]
        said = np.concatenate([*heard, stream.flush()])
        assert len(said) == -(-length // model.step_samples)
        np.testing.assert_allclose(said[-1], expected, atol=1e-5)


def test_a_stream_that_was_reset_has_forgotten_all(net):
    stream = Stream(*net)
    first = stream.feed(clips()[0, :1000])
    assert not np.array_equal(stream.feed(clips()[0, :1000])[-1], first[-1])
    stream.reset()
    np.testing.assert_array_equal(stream.feed(clips()[0, :1000]), first)


def test_the_running_mean_forgets_by_its_decay():
    """With none left of it, it is the frame itself, and nothing of the sound remains."""
    usual, forgetful = (build(normalise="running", **more) for more in ({}, dict(normalise_decay=0.0)))
    assert usual.normalise_decay == 0.98
    variables = jax.jit(usual.init)(jax.random.key(0), clips(), LENGTHS)
    same, other = (jax.jit(model.apply)(variables, clips()[:2], LENGTHS[:2]) for model in (forgetful, usual))
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)
    assert np.abs(np.asarray(other[0] - other[1])).max() > 1e-3


def test_padding_and_neighbours_change_nothing(net):
    model, variables = net
    whole = logits_of(model, variables, clips(), LENGTHS)
    longer = logits_of(model, variables, np.pad(clips(), ((0, 0), (0, 1017))), LENGTHS)
    np.testing.assert_allclose(longer, whole, atol=1e-5)
    for i in range(len(LENGTHS)):
        alone = logits_of(model, variables, clips()[i : i + 1, : LENGTHS[i]], LENGTHS[i : i + 1])
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-5)


def test_padding_and_fillers_teach_nothing(net):
    """In training too: neither the statistics nor the loss of real clips may depend on what only fills the batch."""
    model, variables = net
    if model.normalise == "none":
        pytest.skip("has no statistics")
    both = [trained_on(model, variables, np.pad(clips(), ((0, 0), (0, more))), LENGTHS) for more in (0, 800)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *both)


def test_padding_is_read_where_that_is_asked_for():
    masking, reading = build(), build(mask_padding=False)
    variables = jax.jit(masking.init)(jax.random.key(0), clips(), LENGTHS)
    masked, read = (logits_of(model, variables, clips(), LENGTHS) for model in (masking, reading))
    np.testing.assert_allclose(masked[0], read[0], atol=1e-6)  # it has no padding
    assert not np.allclose(masked[3], read[3], atol=1e-2)


def test_the_gradient_reaches_the_first_frame_and_none_behind_the_end(net):
    model, variables = net
    audio = jnp.asarray(clips()[2:3], jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x, LENGTHS[2:3])[0, 3]))(audio)[0]
    assert jnp.abs(gradient[: model.step_samples]).max() > 0
    assert not gradient[-(-1234 // model.step_samples) * model.step_samples :].any()


def test_gradients_agree_with_finite_differences(net):
    model, variables = net

    @jax.jit
    def loss(params):
        logits = model.apply({**variables, "params": params}, clips()[2:, :1280], LENGTHS[2:])
        return jnp.mean(jnp.square(logits - 1))

    params = jax.tree.map(lambda x: x + 0.1 * (x.ndim == 1), variables["params"])  # silence lies on no ReLU's edge
    leaves, tree = jax.tree.flatten(params)
    gradient = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
    for i, part in enumerate(gradient):
        size = float(jnp.linalg.norm(part))
        if size < 1e-2:  # lost in rounding
            continue
        near = [
            loss(tree.unflatten([*leaves[:i], leaves[i] + s * part / size, *leaves[i + 1 :]])) for s in (2e-3, -2e-3)
        ]
        np.testing.assert_allclose((near[0] - near[1]) / 4e-3, size, rtol=0.03)


def test_a_gru_is_what_its_paper_says():
    """Against the equations, one step at a time in numpy."""
    model = build(frontend="raw", hop_samples=4, normalise="none", readout="last")
    audio = clips()[:1, :80]
    variables = jax.jit(model.init)(jax.random.key(0), audio, np.asarray([80]))
    cell, logits = (jax.tree.map(np.asarray, variables["params"][name]) for name in ("layers_0", "logits"))
    cell["bias"] = variables["params"]["layers_0"]["bias"] = np.linspace(-1, 1, 16, dtype=np.float32)[None]
    (w_r, w_z, w_n), (u_r, u_z, u_n) = (np.split(x, 3, 1) for x in (cell["project"]["kernel"], cell["kernel"]))
    b_r, b_z, b_n = np.split(cell["project"]["bias"], 3)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    h = np.zeros(16)
    for x in audio[0].reshape(-1, 4) / 32768:
        r, z = sigmoid(x @ w_r + b_r + h @ u_r), sigmoid(x @ w_z + b_z + h @ u_z)
        h = (1 - z) * np.tanh(x @ w_n + b_n + r * (h @ u_n + cell["bias"][0])) + z * h
    expected = h @ logits["kernel"] + logits["bias"]
    np.testing.assert_allclose(logits_of(model, variables, audio, np.asarray([80]))[0], expected, atol=1e-5)


@pytest.mark.parametrize("num_bands", [6, 7])
def test_a_causal_convolution_is_one_of_stride_two_over_bands_and_looks_back(num_bands):
    x = np.random.default_rng(0).normal(size=(5, 2, num_bands, 3)).astype(np.float32)
    before = np.random.default_rng(1).normal(size=(2, 2, num_bands, 3)).astype(np.float32)
    (last, said), variables = CausalConv(4).init_with_output(jax.random.key(0), before.swapaxes(0, 1), x)
    params = variables["params"]
    picture = np.concatenate([before, x]).transpose(1, 0, 2, 3)
    expected = jax.lax.conv_general_dilated(
        picture,
        params["kernel"].reshape(3, 3, 3, 4),
        (1, 2),
        ((0, 0), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert said.shape == (5, 2, -(-num_bands // 2), 4)
    np.testing.assert_allclose(said.swapaxes(0, 1), np.maximum(expected, 0), atol=1e-5)
    np.testing.assert_array_equal(last, picture[:, -2:])


def test_the_recurrent_kernels_are_orthogonal_and_memory_is_as_long_as_asked():
    variables = jax.jit(build(memory_frames=100).init)(jax.random.key(0), clips(), LENGTHS)
    for square in np.split(np.asarray(variables["params"]["layers_0"]["kernel"]), 3, axis=1):
        np.testing.assert_allclose(square @ square.T, np.eye(16), atol=1e-5)
    bias = np.asarray(variables["params"]["layers_0"]["project"]["bias"])
    frames = 1 / (1 - 1 / (1 + np.exp(-bias[16:32].astype(np.float64))))
    assert not bias[:16].any() and not bias[32:].any()
    assert 2 <= frames.min() < frames.max() <= 100
    assert not memory_bias(0)(jax.random.key(0), (5,)).any()


def test_log_mel_is_the_fourier_transform_of_windows():
    front = frontend.make(
        "logmel", window_samples=200, hop_samples=80, num_bands=40, low_hz=50.0, high_hz=4000.0, rate_hz=8000
    )
    audio = (clips()[:1, : front.context_samples + 800] / 32768).astype(np.float32)
    frames = np.asarray(front(audio))[0]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    for n in (0, 4, 9):
        power = np.abs(np.fft.rfft(audio[0, 80 * n : 80 * n + 200] * window, 256) * 2 / window.sum()) ** 2
        bands = np.exp(frames[n].astype(np.float64))
        assert power.min() < bands.min() and bands.max() < power.max()
        np.testing.assert_allclose(bands.mean(), power.mean(), rtol=0.5)
    tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(front.context_samples + 800), dtype=np.float32)[None]
    loudest = int(np.asarray(front(tone))[0, 5].argmax())
    mel = np.linspace(*(2595 * np.log10(1 + np.asarray([50.0, 4000.0]) / 700)), 42)[1:-1]
    assert abs(loudest - np.argmin(abs(700 * (10 ** (mel / 2595) - 1) - 1000))) <= 1


@pytest.mark.parametrize(
    "fields, sentence",
    [
        (dict(frontend="mel"), r"config\.model\.frontend is 'mel'; .*logmel, filterbank, learned, raw"),
        (dict(cell="lstm"), r"config\.model\.cell is 'lstm'; .*gru, min_gru"),
        (dict(readout="first"), r"config\.model\.readout is 'first'; .*last, mean, running, last_and_mean"),
        (dict(normalise="rms"), r"config\.model\.normalise is 'rms'; .*none, fixed, running"),
        (dict(window_samples=60), r"config\.model\.window_samples is 60, less than a hop of 80"),
        (dict(high_hz=5000.0), r"config\.model\.low_hz is 50 and high_hz 5000; .*<= 4000"),
        (dict(num_bands=120), r"config\.model\.num_bands is 120, too many for a window of 200 samples"),
        (dict(frontend="learned", hop_samples=75), "learned frames need a hop that 10 divides"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        build(**fields).init(jax.random.key(0), clips(), LENGTHS)


def test_training_hides_a_few_neighbouring_bands_of_each_row():
    model = models.build(name="gru", num_labels=3, rate_hz=8000, num_bands=20, mask_bands=6)
    x = np.ones((7, 400, 20), np.float32)
    hidden = model.apply({}, x, True, method="_masked", rngs={"dropout": jax.random.key(0)}) == 0
    assert (hidden == hidden[:1]).all()  # in all frames
    edges = np.diff(np.pad(hidden[0].astype(int), ((0, 0), (1, 1))))
    assert (np.sum(edges == 1, axis=1) <= 1).all()  # neighbours
    assert set(np.unique(hidden[0].sum(axis=1))) == set(range(7))
    assert hidden[0].any(axis=0).all() and not hidden[0].all(axis=1).any()
    assert (model.apply({}, x, False, method="_masked") == x).all()
