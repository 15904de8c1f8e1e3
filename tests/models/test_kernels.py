"""Networks by tuned and by plain kernels, and in bfloat16: the same function, with the derivatives that each has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from audiojax import cli, models
from audiojax.errors import InputError
from audiojax.exporting import stablehlo
from audiojax.models.alexnet import _by_group

TUNED = {
    "audionet": (dict(name="audionet"), 257),
    "becker": (dict(name="audionet", variant="becker", scale="none"), 257),
    "gru": (dict(name="gru", features=8, stack_frames=2, channels=(3, 4), num_bands=22, num_layers=2), 800),
    "melcnn": (dict(name="melcnn", channels=(4, 6)), 800),
}
OTHERS = {
    "min_gru": (dict(name="gru", cell="min_gru", features=8, dense=6), 800),
    "listener": (dict(name="gru", features=8, task="streams", readout="last"), 800),
    "resnet1d": (dict(name="resnet1d", channels=(4, 6)), 800),
    "alexnet": (dict(name="alexnet"), 3300),
}


def build(fields, num_samples, **more):
    """A network, its fresh variables, sound f32[2, num_samples] at int16 scale and its length."""
    model = models.build(num_labels=10, rate_hz=8000, **fields, **more)
    audio = np.random.default_rng(0).normal(0, 3000, (2, num_samples)).astype(np.float32)
    length = np.full(2, num_samples, np.int32)
    return model, jax.jit(model.init)(jax.random.key(0), audio, length), audio, length


def close(ours, theirs, share=1e-4):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=share * float(jnp.abs(b).max()) + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TUNED, "alexnet"])
def test_tuned_and_plain_kernels_are_the_same_function(name):
    model, variables, *sound = build(*(TUNED | OTHERS)[name])

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(model, params, audio):
        def loss(params, audio):
            logits = model.apply({**variables, "params": params}, audio, sound[1])
            return jnp.mean(jnp.square(logits - 1)), logits

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, audio)

    close(*(outputs(model.clone(kernels=kernels), variables["params"], sound[0]) for kernels in ("auto", "plain")))


@pytest.mark.slow
def test_steps_of_streams_at_once_are_the_same_by_tuned_and_plain_kernels():
    fields, num_samples = OTHERS["listener"]
    model, variables, audio, _ = build(fields | dict(channels=(3, 4), num_bands=22), num_samples)

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(model, params, audio):
        def loss(params, audio):
            given = {**variables, "params": params}
            carry, _ = model.apply(given, model.apply(given, 2, method="initial_carry"), audio, method="listen")
            carry, outputs = model.apply(given, carry, audio[:, ::-1], method="listen")
            return jnp.mean(jnp.square(outputs - 1)), (carry, outputs)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, audio)

    close(*(outputs(model.clone(kernels=kernels), variables["params"], audio) for kernels in ("auto", "plain")))


@pytest.mark.slow
def test_a_step_of_streams_is_the_same_by_tuned_and_plain_kernels():
    model, variables, *_ = build(*TUNED["gru"])
    chunks = np.random.default_rng(0).integers(-9000, 9000, (4, 3, model.step_samples)).astype(np.int16)
    found = []
    for kernels in ("auto", "plain"):
        of = model.clone(kernels=kernels)
        step = jax.jit(functools.partial(of.apply, variables, method="step"))
        carry, outputs = of.apply(variables, 3, method="initial_carry"), []
        for chunk in chunks:
            carry, of_step = step(carry, chunk)
            outputs.append(of_step)
        found.append((carry, outputs))
    close(*found)
    assert float(jnp.ptp(found[0][1][-1], axis=0).max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("fields, num_samples", TUNED.values(), ids=TUNED)
def test_plain_kernels_have_derivatives_forwards_and_twice(fields, num_samples):
    model, variables, *sound = build(fields, num_samples, kernels="plain")

    noise = np.random.default_rng(1).normal(0, 3000, sound[0].shape).astype(np.float32)

    def loss(share):
        return jnp.mean(jnp.square(model.apply(variables, sound[0] + share * noise, sound[1]) - 1))

    tangent, gradient, twice = jax.jit(
        lambda share: (jax.jvp(loss, (share,), (1.0,))[1], jax.grad(loss)(share), jax.hessian(loss)(share))
    )(0.1)
    np.testing.assert_allclose(tangent, gradient, rtol=1e-3)
    assert np.isfinite(twice) and twice != 0


def test_groups_one_by_one_are_a_grouped_convolution():
    x, kernel = jax.random.normal(jax.random.key(0), (1, 5, 5, 4)), jax.random.normal(jax.random.key(1), (3, 3, 2, 6))
    more = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2)
    close(*(of(x, kernel, (1, 1), "SAME", **more) for of in (_by_group, jax.lax.conv_general_dilated)))


def test_auto_takes_tuned_kernels_on_the_cpu_alone(monkeypatch):
    model, variables, *sound = build(*TUNED["gru"])

    def own_gradients(model):
        return "custom_vjp" in str(jax.make_jaxpr(model.apply)(variables, *sound))

    assert own_gradients(model) and not own_gradients(model.clone(kernels="plain"))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not own_gradients(model)
    with pytest.raises(InputError, match=r"config\.model\.kernels is 'fast'; choose auto or plain"):
        model.clone(kernels="fast").apply(variables, *sound)


@pytest.mark.slow
def test_an_export_does_not_depend_on_the_kernels_of_the_machine():
    model, variables, *_ = build(dict(name="gru", features=8), 800)
    assert stablehlo.step(model, variables) == stablehlo.step(model.clone(kernels="plain"), variables)


@pytest.mark.slow
@pytest.mark.parametrize("fields, num_samples", (TUNED | OTHERS).values(), ids=TUNED | OTHERS)
def test_bfloat16_is_close_to_float32_and_keeps_its_parameters(fields, num_samples):
    model, variables, *sound = build(fields, num_samples)
    half = model.clone(dtype="bfloat16")
    with jax.numpy_dtype_promotion("standard"):  # BatchNorm mixes bfloat16 with its float32 statistics
        kinds = jax.eval_shape(half.init, jax.random.key(0), *sound)
        ours, theirs = (jax.jit(net.apply)(variables, *sound) for net in (half, model))
    assert {x.dtype for x in jax.tree.leaves(kinds)} == {jnp.dtype("float32")} and ours.dtype == jnp.float32
    error = float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max())
    assert 0 < error < 0.03


@pytest.mark.parametrize(
    "platforms, plugins, kept", [("cpu", ["cuda"], True), ("cuda", [], False), ("", ["cuda"], False), ("", [], True)]
)
def test_memory_is_kept_where_jax_computes_on_the_cpu(monkeypatch, platforms, plugins, kept):
    calls = []
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(cli.metadata, "entry_points", lambda group: plugins if group == "jax_plugins" else [])
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    monkeypatch.setattr(cli, "keep_memory", lambda: calls.append(1))
    cli.setup_jax()
    assert bool(calls) == kept
