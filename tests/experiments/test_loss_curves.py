"""Curves of the training loss over time."""

import json

import numpy as np
import pytest

from audiojax.errors import InputError
from experiments.protocols import loss_curves


def test_the_time_of_a_loss_follows_its_step(tmp_path):
    """A run that logs every second step at first and every tenth later takes the same time for each step."""
    steps = [*range(2, 82, 2), *range(90, 490, 10)]
    rows = [json.dumps({"step": step, "step/loss": float(step)}) for step in steps]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*rows, json.dumps({"epoch": 1})]))
    name, (minutes, loss) = loss_curves.curve(f"a = b=24:{tmp_path}")
    assert name == "a = b"
    np.testing.assert_allclose(minutes, [2.0, 4.0, 14.0, 24.0])
    np.testing.assert_allclose(loss, np.reshape(steps, (-1, 20)).mean(axis=1))
    copy = (tmp_path / "metrics.jsonl").rename(tmp_path / "copy.jsonl")
    np.testing.assert_array_equal(loss_curves.curve(f"a=24:{copy}")[1], (minutes, loss))


@pytest.mark.parametrize("given", ["ten:RUN", "24:RUN", "NAME=RUN", "NAME=5", "NAME=nan:RUN"])
def test_other_text_is_no_run(given):
    with pytest.raises(InputError, match=f"'{given}' is not a run; give NAME=MINUTES:RUN"):
        loss_curves.curve(given)


def test_a_run_without_enough_steps_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "step/loss": 2.0}))
    with pytest.raises(InputError, match="has metrics of 1 steps; give a run with 20"):
        loss_curves.curve(f"NAME=1:{tmp_path}")
