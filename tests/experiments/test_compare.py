"""What the benchmarks count, and what they do where a peer is missing."""

import pytest

from experiments.benchmarks import compare, gpu


def test_a_missing_peer_is_named_and_the_others_are_measured(monkeypatch):
    makers = {"audiojax": 1, "plain Flax": 2, "PyTorch": 3, f"plain Flax{compare.KEEPING}": 4}
    monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: None)
    assert compare.present(makers) == (["plain Flax", f"plain Flax{compare.KEEPING}"], ["PyTorch"])
    monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: name)
    assert compare.present(makers) == (list(makers)[1:], [])
    monkeypatch.setattr(compare.jax, "default_backend", lambda: "gpu")
    assert compare.present(makers) == (["plain Flax", "PyTorch"], [])


@pytest.mark.parametrize("steps", [[10, 20, 30], [1.5, 2.5, 3.5]])
def test_steps_ahead_counts_what_is_dispatched_and_not_finished(steps):
    """Three steps of 10 that run one after the other, dispatched at 1, 2 and 3, twice each as the profiler has it."""
    events = [dict(ph="M", name="process_name", pid=1, args={"name": "/host:CPU"})]
    for number in range(3):
        for nested in (0, 0.1):
            events.append(dict(ph="X", name="PjitFunction(train_step)", ts=1 + number + nested, dur=0.5 - nested))
        start, args = steps[number], {"hlo_module": "jit_train_step", "run_id": str(number)}
        events += [dict(ph="X", name="dot", ts=start - 1.5 + at, dur=0.5, args=args) for at in (0, 1)]
        events.append(dict(ph="X", name="dot", ts=99, dur=1, args=args | {"hlo_module": "jit_other"}))
    assert gpu.steps_ahead(events) == (1.0 if steps[0] == 10 else 0.0)
    assert gpu.steps_ahead(events[:1]) is None
