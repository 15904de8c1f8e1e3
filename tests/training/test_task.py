"""The training loop knows no task: a third one, made here, trains, stops and resumes without a change of it."""

import json
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from runs import same_run, stop_at

from audiojax import tasks
from audiojax.evaluation.clip_task import ClipTask
from audiojax.training import build, loop, steps
from audiojax.training.metrics import Metrics
from audiojax.training.preemption import Stopped
from audiojax.training.task import Task


class Relabelled:
    """The batches of clips with two labels."""

    def __init__(self, batches):
        self._batches, self.num_steps, self.clips_per_step = batches, batches.num_steps, batches.clips_per_step

    def __call__(self, start, stop):
        for batch in self._batches(start, stop):
            yield batch | {"label": (batch["label"] > 4).astype(np.int32)}


@dataclass(frozen=True, eq=False)
class LargeOrSmall:
    """Whether a digit is above four, by the first two logits of a network that has ten."""

    clips: ClipTask
    train_metric = "size_accuracy"
    num_outputs = 2

    @property
    def config(self):
        return self.clips.config

    @property
    def data(self):
        return self.clips.data

    def batches(self, rows):
        return Relabelled(self.clips.batches(rows))

    def initial_carry(self, model, variables):
        return {"batches": jnp.zeros((), jnp.int32)}

    def loss(self, model, variables, carry, batch, dropout_key):
        how = dict(train=True, mutable=["batch_stats"], rngs={"dropout": dropout_key})
        logits, updates = model.apply(variables, batch["audio"], batch["length"], **how)
        return steps.cross_entropy(logits[:, :2], batch, 0.0), (
            logits[:, :2],
            updates,
            {"batches": carry["batches"] + 1},
        )

    def score(self, model, variables, part, mesh, guard):
        clips = self.clips.score(model, variables, part, mesh, guard)
        halves = np.asarray(clips.confusion).reshape(2, 5, 10).sum(axis=1)
        confusion = np.stack([halves[:, 0] + halves[:, 2:].sum(axis=1), halves[:, 1]], axis=1)
        return Metrics(clips.loss_sum, confusion.astype(np.int32))

    def warning(self):
        return None

    def report(self, model, variables, step, workdir, log):
        summary = {"epochs": self.config.train.num_epochs, "step": step}
        (workdir / "summary.json").write_text(json.dumps(summary))
        return summary

    def sentence(self, summary):
        return f"After {summary['epochs']} epochs."


@pytest.fixture
def task(tiny_config) -> Task:
    return LargeOrSmall(tasks.of(tiny_config(**{"train.num_epochs": 2})))


@pytest.mark.slow
def test_a_third_task_trains_stops_and_resumes_bit_for_bit_in_one_compilation(task, tmp_path, capsys):
    compiled, make = [], steps.make_train_step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            build, "make_train_step", lambda *args, **more: compiled.append(make(*args, **more)) or compiled[0]
        )
        assert loop.run(task, tmp_path / "whole") == {"epochs": 2, "step": 14}
    assert compiled[0]._cache_size() == 1
    assert "of sizes" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patched:
        stop_at(4, patched)
        with pytest.raises(Stopped):
            loop.run(task, tmp_path / "stopped")
    loop.run(task, tmp_path / "stopped")
    assert same_run(tmp_path / "whole", tmp_path / "stopped")
    assert loop.run(task, tmp_path / "whole") == {"epochs": 2, "step": 14}  # finished: nothing is trained


def test_clips_and_streams_are_one_task_each(tiny_config):
    of_clips = tasks.of(tiny_config())
    assert isinstance(of_clips, ClipTask) and of_clips.num_outputs == 10
    assert of_clips.initial_carry(None, {}) == {}
