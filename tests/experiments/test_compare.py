"""What the benchmarks count, and what they do where a peer is missing."""

import jax
import jax.numpy as jnp
import pytest

from audiojax import models
from audiojax.errors import InputError
from audiojax.models.audionet import CHANNELS
from experiments.benchmarks import blocks, gpu, steps


def test_a_missing_peer_is_named_and_the_others_are_measured(monkeypatch):
    kept = f"plain Flax{steps.KEEPING}"
    names = ["plain Flax", "PyTorch", kept]
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: None)
    assert steps.present(names) == (["plain Flax", kept], ["PyTorch"])
    monkeypatch.setattr(steps.importlib.util, "find_spec", lambda name: name)
    assert steps.present(names) == (names, [])
    monkeypatch.setattr(steps.jax, "default_backend", lambda: "gpu")
    assert steps.present(names) == (["plain Flax", "PyTorch"], [])


def test_only_takes_one_peer_by_its_name():
    names = ["plain Flax", "PyTorch"]
    assert steps.chosen(names, "") == names
    assert steps.chosen(names, "PyTorch") == ["PyTorch"]
    with pytest.raises(
        InputError, match=r"--only is 'PyTorhc'; choose one of plain Flax, PyTorch: did you mean PyTorch\?"
    ):
        steps.chosen(names, "PyTorhc")


def test_the_blocks_that_are_timed_are_audionet():
    """Each block takes the output of the one before it, and together they have AudioNet's parameters."""
    model = models.build(name="audionet", num_labels=10, rate_hz=8000)
    x = jnp.zeros((2, blocks.NUM_SAMPLES, 1))
    whole = jax.eval_shape(model.init, jax.random.key(0), x[..., 0], jnp.full(2, x.shape[1]))["params"]
    sizes = []
    for index in range(len(CHANNELS) + 1):
        x, variables = jax.eval_shape(blocks.Block(index).init_with_output, jax.random.key(0), x)
        sizes += [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert x.shape == (2, 10)
    assert sorted(sizes) == sorted(leaf.size for leaf in jax.tree.leaves(whole))


@pytest.mark.parametrize("starts", [[10, 20, 30], [1.5, 2.5, 3.5]])
def test_steps_ahead_counts_what_is_dispatched_and_not_finished(starts):
    """Three steps of 10 that run one after the other, dispatched at 1, 2 and 3, twice each as the profiler has it."""
    events = [dict(ph="M", name="process_name", pid=1, args={"name": "/host:CPU"})]
    for number in range(3):
        for nested in (0, 0.1):
            events.append(dict(ph="X", name="PjitFunction(train_step)", ts=1 + number + nested, dur=0.5 - nested))
        start, args = starts[number], {"hlo_module": "jit_train_step", "run_id": str(number)}
        events += [dict(ph="X", name="dot", ts=start - 1.5 + at, dur=0.5, args=args) for at in (0, 1)]
        events.append(dict(ph="X", name="dot", ts=99, dur=1, args=args | {"hlo_module": "jit_other"}))
    assert gpu.steps_ahead(events) == (1.0 if starts[0] == 10 else 0.0)
    assert gpu.steps_ahead(events[:1]) is None
