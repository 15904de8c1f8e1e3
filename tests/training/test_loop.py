"""Whole runs: learning and not learning, stopping and going on, refusing and remembering."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import rows_without_time, same_numbers

from audiojax import tasks
from audiojax.data import loading, splits
from audiojax.errors import InputError
from audiojax.evaluation.clip_task import ClipTask
from audiojax.inference import Trained
from audiojax.training import runlog
from audiojax.training.checkpoint import BEST_BY, Checkpoints, restore_variables
from audiojax.training.metrics import Metrics

ROOT = Path(__file__).parents[2]


def test_a_run_learns_and_leaves_what_it_promises(trained_run):
    summary = json.loads((trained_run / "summary.json").read_text())
    assert summary["test/accuracy"] > 0.9 and summary["source"] == "audiomnist"
    for name in ("config.json", "metrics.jsonl", "plots/curves.png", "plots/confusion_test.png", "plots/examples.png"):
        assert (trained_run / name).stat().st_size > 500, name
    rows = runlog.read_rows(trained_run)
    epochs = [row for row in rows if "epoch" in row]
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4, 5] and [row["step"] for row in epochs] == [
        7,
        14,
        21,
        28,
        35,
    ]
    for part in ("train", "validation", "test"):
        assert all(0 <= row[f"{part}/accuracy"] <= 1 and row[f"{part}/loss"] > 0 for row in epochs)
    assert epochs[-1]["train/loss"] < epochs[0]["train/loss"] and epochs[-1]["learning_rate"] < 1e-3
    assert all(row[key] > 0 for row in epochs for key in ("seconds", "clips_per_second"))
    assert all(row["gradient_norm"] > 0 for row in rows if "step/loss" in row)
    assert [row["step"] for row in rows if "step/loss" in row] == list(range(2, 36, 2))


@pytest.mark.slow
def test_another_source_is_learnt_as_well_and_not_scored(tiny_config, run_cli, tiny_args, tmp_path, capsys):
    also = {"data.extra_source": "synthetic", "synthetic.num_voices": 7, "synthetic.num_takes": 2}
    config = tiny_config(**also, **{"train.num_epochs": 1})
    clips = loading.load_clips(config)
    other = loading.load_extra(config, clips)
    split = splits.Split(np.asarray([3, 7]), np.empty(0, int), np.empty(0, int))
    learnt, indices = loading.Data(clips, split, other).training()
    assert indices.tolist() == [3, 7, *range(len(clips), len(clips) + len(other))]
    for whole, part in ((7, clips[7]), (len(clips), other[0]), (len(clips) + len(other) - 1, other[-1 + len(other)])):
        np.testing.assert_array_equal(learnt[whole], part)
    assert learnt.label[len(clips) :].tolist() == other.label.tolist() and learnt.label_names == clips.label_names
    tasks.train(config, tmp_path / "run")
    tasks.train(tiny_config(**{"train.num_epochs": 1}), tmp_path / "alone")
    run, alone = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Data: "))
    assert "train 140 clips of 5 speakers and 140 of synthetic, validation" in run
    assert run.partition("validation")[2] == alone.partition("validation")[2]
    assert [runlog.read_rows(tmp_path / name)[-1]["step"] for name in ("run", "alone")] == [14, 7]
    for value, sentence in (
        (f"audiomnist --config.data.extra_root={config.data.root}", "the same clips as config.data.source"),
        ("fsdd", "--config.data.extra_root=DIR"),
        ("nope", "config.data.extra_source is 'nope'; choose one of"),
    ):
        flags = f"--config.data.extra_source={value}".split()
        code, _, err = run_cli("main", *tiny_args, *flags, "--workdir", tmp_path / "no")
        assert code == 1 and sentence in err and not (tmp_path / "no").exists()


@pytest.mark.slow
def test_the_loop_fetches_from_the_device_at_log_steps_alone(tiny_config, tmp_path, monkeypatch):
    """On the CPU `jax.transfer_guard` does not see a fetch; each of them reads an array's `_value`.

    Between these steps the progress bar shows the loss that was logged last.
    """
    events: list[int | str] = []
    notes: dict[int, str] = {}
    array, advance = type(jnp.zeros(())), runlog.RunLog.advance
    value = array._value
    monkeypatch.setattr(array, "_value", property(lambda self: (events.append("fetch"), value.fget(self))[1]))

    def watched(log, step, note):
        events.append(step)
        notes[step] = note
        advance(log, step, note)

    monkeypatch.setattr(runlog.RunLog, "advance", watched)
    tasks.train(tiny_config(**{"train.num_epochs": 2, "train.log_every_steps": 3}), tmp_path / "run")
    for first, last in ((1, 7), (8, 14)):
        steps = events[events.index(first) : events.index(last) + 1]
        late = {done for done, after in itertools.pairwise(steps) if after == "fetch" and done != "fetch"}
        assert late == {done for done in range(first, last) if done % 3 == 0}
        assert [done for done in steps if done != "fetch"] == list(range(first, last + 1))
    logged = {row["step"]: row["step/loss"] for row in runlog.read_rows(tmp_path / "run") if "step/loss" in row}
    assert all(f"loss {logged[(step - 1) // 3 * 3]:.3f}" in notes[step] for step in range(4, 15))


@pytest.mark.slow
def test_the_sums_of_an_epoch_are_those_of_its_steps(tiny_config, tmp_path):
    tasks.train(tiny_config(**{"train.num_epochs": 2, "train.log_every_steps": 1}), tmp_path / "run")
    rows = runlog.read_rows(tmp_path / "run")
    for epoch in (0, 1):
        steps = [row for row in rows if "step/loss" in row][7 * epoch : 7 * epoch + 7]
        whole = [row for row in rows if "epoch" in row][epoch]
        for name in ("loss", "accuracy"):
            assert abs(np.mean([row[f"step/{name}"] for row in steps]) - whole[f"train/{name}"]) < 1e-5
        assert steps[-1]["learning_rate"] == whole["learning_rate"]


@pytest.mark.slow
def test_permuted_labels_fall_to_chance(tiny_config, tones, tmp_path):
    """If they did not, something would tell the network the answer."""
    root = tmp_path / "permuted"
    files = sorted((tones / "data").rglob("*.wav"))
    order = np.random.default_rng(0).permutation(len(files))
    for path, other in zip(files, order, strict=True):
        copy = root / path.relative_to(tones)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files[other], copy)
    config = tiny_config(**{"data.root": root, "data.cache": tmp_path / "cache"})
    assert tasks.train(config, tmp_path / "run")["last/test"] < 0.35  # 40 clips: chance is 0.10, three sigma 0.24


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(tiny_args, trained_run, tmp_path):
    workdir = tmp_path / "killed"
    start = [sys.executable, "-m", "audiojax.main", *tiny_args, f"--workdir={workdir}"]
    process = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while sum("epoch" in row for row in runlog.read_rows(workdir)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 2 <= sum("epoch" in row for row in runlog.read_rows(workdir)) < 5 and not (workdir / "summary.json").exists()
    again = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Resuming at step" in again.stdout and again.stderr == ""
    for which in ("last", "best"):
        (ours, step), (theirs, other_step) = (restore_variables(w, which) for w in (workdir, trained_run))
        assert step == other_step and same_numbers(ours, theirs)
    assert rows_without_time(workdir) == rows_without_time(trained_run)


@pytest.mark.slow
def test_a_finished_run_says_so_and_more_epochs_go_on(tiny_config, trained_run, tmp_path, capsys):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    before = (workdir / "metrics.jsonl").read_text()
    assert tasks.train(tiny_config(), workdir) == json.loads((workdir / "summary.json").read_text())
    assert "is finished" in capsys.readouterr().out and (workdir / "metrics.jsonl").read_text() == before
    tasks.train(tiny_config(**{"train.num_epochs": 6, "wandb.name": "longer"}), workdir)
    assert "Resuming at step 35 of 42" in capsys.readouterr().out
    assert [row["epoch"] for row in runlog.read_rows(workdir) if "epoch" in row] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"optimizer.momentum": 0.8, "seed": 1}, r"config\.optimizer\.momentum 0\.9 -> 0\.8; config\.seed 0 -> 1"),
        ({"train.num_epochs": 4}, r"config\.train\.num_epochs 5 -> 4"),
    ],
)
@pytest.mark.slow
def test_a_workdir_of_another_config_is_refused(tiny_config, trained_run, changes, words):
    before = (trained_run / "config.json").read_bytes()
    with pytest.raises(InputError, match=words):
        tasks.train(tiny_config(**changes), trained_run)
    assert (trained_run / "config.json").read_bytes() == before


@pytest.mark.slow
def test_a_workdir_of_other_clips_is_refused(tiny_config, tones, trained_run, tmp_path):
    root = shutil.copytree(tones, tmp_path / "root")
    (root / "data" / "01" / "0_01_0.wav").unlink()
    with pytest.raises(InputError, match="the clips themselves"):
        tasks.train(tiny_config(**{"data.root": root}), trained_run)


@pytest.mark.slow
def test_a_config_that_cannot_train_leaves_the_workdir_free(tiny_config, tmp_path):
    for changes in ({"train.batch_size": 1000}, {"optimizer.schedule": "linear"}, {"model.name": "audinet"}):
        with pytest.raises(InputError):
            tasks.train(tiny_config(**changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def warning_of(config, clips, extra):
    return ClipTask(config, loading.Data(clips, None, extra)).warning()


@pytest.mark.slow
def test_clips_that_are_cut_are_told_once_before_training(tiny_config, tmp_path, capsys, tones):
    """At twice the rate a fixed length reads half of the sound."""
    config = tiny_config(**{"data.rate_hz": 16000})
    clips = loading.load_clips(config)
    warning = warning_of(config, clips, None)
    cut = clips.length > 1024
    lost = np.median(1 - 1024 / clips.length[cut])
    assert f"{cut.mean():.0%} of the clips" in warning and f" {lost:.0%}" in warning
    assert cut.mean() > 0.9 and 0.2 < lost < 0.5
    needed = int(re.search(r"train.length_samples=(\d+)", warning)[1])
    assert (clips.length <= needed).mean() > 0.98
    assert warning_of(tiny_config(**{"data.rate_hz": 16000, "train.length_samples": needed}), clips, None) is None
    assert warning_of(tiny_config(), loading.load_clips(tiny_config()), None) is None
    both = warning_of(tiny_config(), loading.load_clips(tiny_config()), clips)
    assert f"{(cut.sum() / 2) / len(clips):.0%} of the clips" in both
    tasks.train(tiny_config(**{"data.rate_hz": 16000, "train.num_epochs": 1}), tmp_path / "run")
    assert capsys.readouterr().err.count("config.train.length_samples, 1,024") == 1


@pytest.mark.slow
def test_init_from_starts_from_another_runs_best(tiny_config, trained_run, tmp_path):
    changes = {"init_from": trained_run, "optimizer.learning_rate": 1e-9, "train.num_epochs": 1}
    tasks.train(tiny_config(**changes), tmp_path / "run")
    ours, theirs = restore_variables(tmp_path / "run", "last")[0], restore_variables(trained_run, "best")[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours["params"], theirs["params"])


@pytest.mark.slow
def test_a_run_without_batch_norm_can_be_opened_again_and_other_shapes_are_refused(tiny_config, tmp_path):
    changes = {"model.batch_norm": False, "train.ema_decay": 0.0, "train.num_epochs": 1}
    tasks.train(tiny_config(**changes), tmp_path / "plain")
    run = Trained.load(tmp_path / "plain")
    assert run.variables["batch_stats"] == {}
    assert run.logits(np.zeros((1, 1024), np.int16), np.ones(1, np.int32)).shape == (1, 10)
    for other in (tmp_path / "plain", tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"other shapes|holds no"):
            tasks.train(tiny_config(**{"init_from": other}), tmp_path / "new")
        assert not (tmp_path / "new").exists()


@pytest.fixture
def saved(tiny_config, tmp_path):
    """A state, a function that saves it, and the folder."""
    import jax.numpy as jnp

    from audiojax.training.state import TrainState

    def state(step):
        params = {"kernel": jnp.full((3, 2), float(step))}
        statistics, trace, metrics = {"mean": jnp.zeros(2)}, {"trace": jnp.zeros(3)}, Metrics.zero(10)
        return TrainState(jnp.asarray(step), params, {}, statistics, trace, metrics, jnp.zeros(()))

    return state, tmp_path / "run"


def test_the_best_and_the_last_are_kept(saved):
    state, workdir = saved
    with Checkpoints(workdir) as checkpoints:
        for step, accuracy in enumerate([0.1, 0.9, 0.3, 0.5, 0.2], start=1):
            checkpoints.save(state(step), accuracy)
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.last_step == 5 and checkpoints.best_step == 2
        assert same_numbers(checkpoints.restore("best", state(0)), state(2))
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "4", "5"]
    assert BEST_BY == "validation/accuracy"


def test_a_checkpoint_without_a_score_is_the_last_and_gives_way_to_the_scored_one(saved):
    state, workdir = saved
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(state(1), 0.3)
        checkpoints.save(state(2), None)
        assert same_numbers(checkpoints.restore("last", state(0)), state(2))
        assert same_numbers(checkpoints.restore("best", state(0)), state(1))
        checkpoints.save(state(2), 0.9)
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.last_step == checkpoints.best_step == 2


def test_what_is_not_finite_is_never_saved(saved):
    state, workdir = saved
    broken = state(3).replace(batch_stats={"mean": np.asarray([0.0, np.inf], np.float32)})
    with Checkpoints(workdir) as checkpoints, pytest.raises(InputError, match=r"not finite.*\bstep 3\b"):
        checkpoints.save(broken, 0.5)
    assert not [path for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]


def test_a_save_holds_its_moment_though_the_step_takes_the_memory(saved):
    state, workdir = saved
    count = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    with Checkpoints(workdir) as checkpoints:
        now = state(1)
        checkpoints.save(now, 0.5)
        for _ in range(50):
            now = count(now)
        assert same_numbers(checkpoints.restore("last", state(0)), state(1))
