"""Convolutional networks for any length: padding and neighbours change nothing, gradients are true, they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import models
from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.training.optimizer import make_optimizer
from audiojax.training.state import create_state
from audiojax.training.steps import clip_loss, make_train_step

pytestmark = pytest.mark.slow

LENGTHS = np.asarray([3200, 3199, 1234, 81], np.int32)
KINDS = {
    "clip": dict(name="melcnn", channels=(8, 12, 16)),
    "filterbank": dict(name="melcnn", channels=(8, 12), frontend="filterbank", silence_samples=160),
    "waveform": dict(name="resnet1d", channels=(8, 12, 16), window_samples=33),
    "fixed": dict(name="melcnn", channels=(8, 12), normalise="fixed", window_samples=256, hop_samples=64),
}


def build(**fields):
    return models.build(num_labels=10, rate_hz=8000, **fields)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, variables, audio, length):
    return model.apply(variables, audio, length)


@functools.partial(jax.jit, static_argnums=0)
def trained_on(model, variables, audio, length):
    """The logits in training, and the statistics after it; nothing is dropped."""
    return model.apply(variables, audio, length, train=True, mutable=["batch_stats"])


def clips() -> np.ndarray:
    """i16[4, 3200]: noise of LENGTHS samples, zero right-padded."""
    audio = np.random.default_rng(0).normal(0, 3000, (4, 3200)).astype(np.int16)
    return np.where(np.arange(3200)[None] < LENGTHS[:, None], audio, 0).astype(np.int16)


@pytest.fixture(scope="module", params=KINDS)
def net(request):
    """A network of each kind, its statistics not those of the beginning."""
    model = build(**KINDS[request.param], dropout=0.0)
    variables = jax.jit(model.init)(jax.random.key(1), clips(), LENGTHS)
    return model, variables | trained_on(model, variables, clips(), LENGTHS)[1]


@pytest.mark.parametrize("more", [1, 1017])
def test_padding_and_neighbours_change_nothing(net, more):
    model, variables = net
    whole = logits_of(model, variables, clips(), LENGTHS)
    longer = logits_of(model, variables, np.pad(clips(), ((0, 0), (0, more))), LENGTHS)
    np.testing.assert_allclose(longer, whole, atol=1e-5)
    for i in range(1, len(LENGTHS)):
        alone = logits_of(model, variables, clips()[i : i + 1, : LENGTHS[i]], LENGTHS[i : i + 1])
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-5)


def test_padding_teaches_nothing(net):
    """In training too: neither the statistics nor the logits of real clips depend on what only fills the batch."""
    model, variables = net
    both = [trained_on(model, variables, np.pad(clips(), ((0, 0), (0, more))), LENGTHS) for more in (0, 800)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *both)


def test_a_clip_of_one_sample_has_an_answer(net):
    model, variables = net
    assert np.isfinite(logits_of(model, variables, np.full((1, 1), 9000, np.int16), np.ones(1, np.int32))).all()


def test_the_gradient_reaches_all_of_a_clip_and_none_behind_its_end(net):
    model, variables = net
    audio = jnp.asarray(clips()[2:3], jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x, LENGTHS[2:3])[0, 3]))(audio)[0]
    assert jnp.abs(gradient[:80]).max() > 0 and jnp.abs(gradient[1154:1234]).max() > 0
    assert not gradient[1280 + getattr(model, "silence_samples", 0) :].any()


def test_gradients_agree_with_finite_differences(net):
    model, variables = net

    @jax.jit
    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, clips()[2:], LENGTHS[2:], train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(logits - 1))

    leaves, tree = jax.tree.flatten(variables["params"])
    gradient = jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"]))
    checked = 0
    for i, part in enumerate(gradient):
        size = float(jnp.linalg.norm(part))
        if size < 3e-2:  # lost in rounding
            continue
        near = [
            loss(tree.unflatten([*leaves[:i], leaves[i] + s * part / size, *leaves[i + 1 :]])) for s in (1e-3, -1e-3)
        ]
        np.testing.assert_allclose((near[0] - near[1]) / 2e-3, size, rtol=0.05)
        checked += 1
    assert checked > len(leaves) // 2


@pytest.mark.parametrize("fields", [KINDS["clip"], KINDS["waveform"]], ids=["melcnn", "resnet1d"])
def test_eight_clips_are_learnt_by_heart(fields):
    model = build(**fields, dropout=0.0)
    optimizer, schedule = make_optimizer(
        algorithm="sgd", schedule="constant", learning_rate=0.05, warmup_steps=0, momentum=0.9, nesterov=False,
        weight_decay=0.0, clip_norm=1.0, total_steps=60,
    )  # fmt: skip
    of_batch = dict(length_samples=1600, num_outputs=10)
    state = create_state(model, optimizer, seed=0, averaged=False, **of_batch)
    step = make_train_step(model, optimizer, schedule, loss=clip_loss(0.0), ema_decay=0.0)
    length = np.arange(1600, 800, -100, dtype=np.int32)
    audio = np.random.default_rng(0).normal(0, 3000, (8, 1600))
    audio = np.where(np.arange(1600)[None] < length[:, None], audio, 0).astype(np.int16)
    batch = Batch(audio=audio, length=length, label=np.arange(8, dtype=np.int32), mask=np.ones(8, np.float32))
    for _ in range(60):
        state, report = step(state, batch, jax.random.key(0))
    assert report.metrics.summary()["loss"] < 0.02


@pytest.mark.parametrize(
    "fields, sentence",
    [
        (
            dict(name="melcnn", frontend="raw"),
            r"config\.model\.frontend is 'raw'; .*logmel, filterbank, lear",
        ),
        (
            dict(name="melcnn", silence_samples=50),
            r"config\.model\.silence_samples is 50; choose 0 or whole hops of 80",
        ),
        (dict(name="melcnn", normalise="running"), r"config\.model\.normalise is 'running'; .*none, fixed"),
        (dict(name="melcnn", window_samples=60), r"config\.model\.window_samples is 60, less than a hop of 80"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        build(**fields).init(jax.random.key(0), clips(), LENGTHS)
