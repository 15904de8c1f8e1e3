"""Networks: exact parameter counts, gradients against finite differences, fused layers against plain ones."""

import functools
import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from audiojax import models
from audiojax.errors import InputError
from audiojax.models.audionet import Conv, WaveConvPool, max_pool
from audiojax.models.layers.frontend import rescale, to_unit_range

COUNTS = [
    (dict(name="audionet"), 8000, 8_900_314),
    (dict(name="audionet", batch_norm=False), 8000, 8_898_906),
    (dict(name="audionet"), 1024, 1_822_426),
    (dict(name="audionet", num_labels=35), 8000, 8_913_139),
    (dict(name="audionet", variant="becker"), 8000, 17_107_162),
    (dict(name="gru", features=88, num_layers=2, readout="last_and_mean"), 8000, 82_730),
    (dict(name="gru", frontend="raw", hop_samples=1), 800, 51_338),
    (dict(name="melcnn"), 8000, 165_978),
    (dict(name="melcnn", num_labels=2), 800, 165_202),
    (dict(name="melcnn", frontend="filterbank"), 8000, 222_738),
    (dict(name="resnet1d"), 8000, 170_378),
    (dict(name="alexnet"), 8000, 12_808_906),
]


def audionet(**fields):
    return models.build(name="audionet", num_labels=10, rate_hz=8000, **fields)


def sound(batch_size, num_samples, seed=0):
    return np.random.default_rng(seed).integers(-9000, 9000, (batch_size, num_samples)).astype(np.int16)


def whole(batch_size, num_samples):
    return np.full(batch_size, num_samples, np.int32)


@pytest.mark.parametrize("fields, num_samples, count", COUNTS)
def test_exact_parameter_counts(fields, num_samples, count):
    model = models.build(**{"num_labels": 10, "rate_hz": 8000, **fields})
    variables = jax.eval_shape(model.init, jax.random.key(0), sound(1, num_samples), whole(1, num_samples))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count


def test_an_unknown_model_is_one_sentence():
    with pytest.raises(InputError, match="audionet"):
        models.build(name="audinet", num_labels=10, rate_hz=8000)
    with pytest.raises(InputError, match=r"config\.model\.unit_rms.*audionet"):
        audionet(unit_rms=True)


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [64, 65])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("tuned", [False, True])
def test_the_fused_first_block_is_conv_and_max_pool(num_samples, wide, tuned):
    x = jax.random.normal(jax.random.key(0), (3, num_samples))
    layer = WaveConvPool(5, wide=wide, tuned=tuned)
    params = layer.init(jax.random.key(1), x)
    params["params"]["bias"] = jnp.arange(5.0)

    def plain(params, x):
        y = nn.Conv(5, (3,)).apply(params, x[..., None])
        if wide:  # Caffe's ceil mode: the last window may reach beyond the end
            return nn.max_pool(y, (3,), strides=(2,), padding=[(0, 1 - num_samples % 2)])
        return nn.max_pool(y, (2,), strides=(2,))

    for of in (lambda f: f, lambda f: jax.grad(lambda p, x: jnp.sum(jnp.sin(f(p, x))), argnums=(0, 1))):
        ours, theirs = of(layer.apply)(params, x), of(plain)(params, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tuned", [("float32", True), ("float32", False), ("bfloat16", True)])
def test_the_convolution_is_flax_conv_forward_and_back(dtype, tuned):
    x = jax.random.normal(jax.random.key(0), (3, 11, 4), dtype)
    layer, plain = Conv(5, dtype=jnp.dtype(dtype), tuned=tuned), nn.Conv(5, (3,), dtype=jnp.dtype(dtype))
    params = layer.init(jax.random.key(1), x)
    params["params"]["bias"] = jnp.arange(5.0)

    def slope(layer):
        return jax.grad(lambda p, x: jnp.sum(jnp.sin(layer.apply(p, x).astype(jnp.float32))), argnums=(0, 1))

    close = dict(rtol=1e-4, atol=1e-5) if dtype == "float32" else dict(rtol=0.05, atol=0.1)
    for of in (lambda layer: layer.apply, slope):
        for ours, theirs in zip(*(jax.tree.leaves(of(each)(params, x)) for each in (layer, plain)), strict=True):
            np.testing.assert_allclose(np.float32(ours), np.float32(theirs), **close)


@pytest.mark.slow
def test_a_bias_that_batch_norm_takes_away_has_no_gradient(net):
    model, variables = net

    @jax.jit
    def loss(params, audio):
        logits, _ = model.apply(
            {**variables, "params": params}, audio, whole(4, 256), train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(logits))

    gradient = jax.jit(jax.grad(loss))(variables["params"], sound(4, 256))
    moved = jax.tree.map(jnp.copy, variables["params"])
    moved["conv_3"]["bias"] += 1.0
    np.testing.assert_allclose(loss(moved, sound(4, 256)), loss(variables["params"], sound(4, 256)), rtol=1e-4)
    assert not gradient["conv_3"]["bias"].any() and gradient["conv_0"]["bias"].any()


@pytest.mark.parametrize("num_samples", [10, 11])
def test_max_pool_is_flax_max_pool(num_samples):
    x = jax.random.normal(jax.random.key(0), (2, num_samples, 3))
    np.testing.assert_array_equal(max_pool(x), nn.max_pool(x, (2,), strides=(2,)))


@pytest.fixture(scope="module")
def net():
    model = audionet()
    return model, jax.jit(model.init)(jax.random.key(0), sound(1, 256), whole(1, 256))


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, variables, audio, length):
    return model.apply(variables, audio, length)


@pytest.mark.slow
def test_gradients_agree_with_finite_differences(net):
    model, variables = net
    audio = sound(4, 256)

    @jax.jit
    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, audio, whole(4, 256), train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(logits))

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for name in ("conv_0", "conv_3", "dense_0", "logits"):
        way = gradient[name]["kernel"] / jnp.linalg.norm(gradient[name]["kernel"])
        near = [
            loss(
                {
                    **variables["params"],
                    name: {**variables["params"][name], "kernel": variables["params"][name]["kernel"] + s * way},
                }
            )
            for s in (1e-3, -1e-3)
        ]
        np.testing.assert_allclose((near[0] - near[1]) / 2e-3, jnp.sum(gradient[name]["kernel"] * way), rtol=0.03)


@pytest.mark.slow
def test_in_evaluation_a_clip_does_not_hear_its_batch(net):
    model, variables = net
    audio = sound(5, 256)
    together = logits_of(model, variables, audio, whole(5, 256))
    alone = logits_of(model, variables, audio[2:3], whole(1, 256))
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)


@jax.numpy_dtype_promotion("standard")  # BatchNorm itself mixes bfloat16 sound with float32 statistics
@pytest.mark.slow
def test_bfloat16_computes_in_it_and_keeps_everything_else_in_float32(net):
    _, variables = net
    model = audionet(dtype="bfloat16")
    ours = jax.eval_shape(model.init, jax.random.key(0), sound(1, 256), whole(1, 256))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(ours))
    (logits, updates), (full, _) = (
        jax.jit(functools.partial(of.apply, train=True, mutable=["batch_stats"]))(
            variables, sound(8, 256), whole(8, 256)
        )
        for of in (model, net[0])
    )
    assert logits.dtype == jnp.float32 and all(x.dtype == jnp.float32 for x in jax.tree.leaves(updates))
    assert 0 < float(jnp.abs(logits - full).max()) < 0.1 * float(jnp.abs(full).max())


@pytest.mark.slow
def test_unit_rms_makes_loud_and_quiet_the_same_and_spares_padding_and_silence(net):
    model, variables = net
    quiet = sound(3, 256) // 30
    quiet[:, 200:] = 0
    length = np.full(3, 200, np.int32)
    np.testing.assert_allclose(
        logits_of(model, variables, quiet, length), logits_of(model, variables, quiet * 30, length), atol=2e-4
    )
    absolute = audionet(scale="none")
    assert not np.allclose(
        logits_of(absolute, variables, quiet, length), logits_of(absolute, variables, quiet * 30, length), atol=0.1
    )
    scaled = rescale(to_unit_range(quiet, jnp.float32), length, "rms")
    np.testing.assert_allclose(jnp.mean(scaled[:, :200] ** 2, axis=1), 1.0, rtol=1e-3)
    assert not scaled[:, 200:].any()
    for scale in ("rms", "percentile", "none"):
        assert not rescale(jnp.zeros((1, 9)), jnp.ones(1, jnp.int32), scale).any()
    with pytest.raises(InputError, match="rms, percentile or none"):
        rescale(jnp.zeros((1, 9)), jnp.ones(1, jnp.int32), "peak")


def test_the_percentile_is_that_of_audiomnists_preprocessing():
    audio = sound(3, 500)
    expected = audio / (np.percentile(audio, 95, axis=1, keepdims=True) + 0.001)
    ours = rescale(to_unit_range(audio, jnp.float32), whole(3, 500), "percentile")
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.slow
def test_beckers_network_has_no_relu_between_its_dense_layers():
    """Then its logits are affine in the first dense layer's weights, which a ReLU would break."""
    model = models.build(
        name="audionet", num_labels=10, rate_hz=8000, variant="becker", scale="percentile", batch_norm=False
    )
    audio, length = sound(2, 256), whole(2, 256)
    variables = jax.jit(model.init)(jax.random.key(0), audio, length)
    assert set(variables) == {"params"} and "conv_5" in variables["params"] and "conv_6" not in variables["params"]
    spread = float(jnp.std(variables["params"]["dense_0"]["kernel"]))
    assert abs(spread - 0.1) < 0.005

    def logits(scale):
        changed = jax.tree.map(lambda x: x, variables)
        changed["params"]["dense_0"]["kernel"] = scale * changed["params"]["dense_0"]["kernel"]
        return logits_of(model, changed, audio, length)

    np.testing.assert_allclose(logits(-1.0) - logits(0.0), logits(0.0) - logits(1.0), rtol=1e-3, atol=1e-2)
    with pytest.raises(InputError, match="batch_norm or becker"):
        audionet(variant="bekcer").init(jax.random.key(0), audio, length)


@pytest.mark.slow
def test_the_fields_do_what_they_say(net):
    _, variables = net
    audio, length = sound(4, 256), whole(4, 256)
    relu = audionet(relu_on_logits=True)
    plain = net[0].apply(variables, audio, length)
    np.testing.assert_array_equal(relu.apply(variables, audio, length), jnp.maximum(plain, 0))
    assert (plain < 0).any()
    dropping = audionet(dropout=0.5)
    drawn = [
        dropping.apply(
            variables, audio, length, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(k)}
        )[0]
        for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])
    np.testing.assert_array_equal(dropping.apply(variables, audio, length), plain)


@pytest.mark.parametrize("config", ["cnn", "gru", "spectrogram", "listen"])
def test_a_network_built_from_a_config_that_was_read_again_can_be_a_static_argument(config):
    recipes = {"cnn": ("default", "residual"), "spectrogram": ("default", "alexnet")}.get(config, ("default",))
    for recipe in recipes:
        section = importlib.import_module(f"configs.{config}").get_config(f"recipe={recipe}").model.to_dict()
        read = models.build(**json.loads(json.dumps(section)), num_labels=10, rate_hz=8000)
        assert hash(read) == hash(models.build(**section, num_labels=10, rate_hz=8000))
