"""A run of an earlier version, whose config has other keys and whose state has one part more.

The run in old_gru_run was stopped inside its second epoch: a small GRU on the tones, three epochs of two lengths.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from runs import same_numbers

from audiojax import cli, tasks
from audiojax.data import loading
from audiojax.inference import Trained
from audiojax.training import run_dir, runlog
from audiojax.training.checkpoint import Checkpoints, restore_variables

OLD = Path(__file__).parent / "old_gru_run"
KEYS = {
    "train.batch_size": 20, "train.length_samples": 1120, "train.bucket_samples": "(960,)", "train.num_epochs": 3,
    "model.features": 8, "model.num_bands": 20, "optimizer.learning_rate": 0.1, "optimizer.warmup_steps": 3,
    "train.ema_decay": 0.9,
}  # fmt: skip


@pytest.fixture
def config(tones, tmp_path):
    keys = KEYS | {"data.root": tones, "data.cache": tmp_path / "cache"}
    args = [f"--config={ROOT}/configs/gru.py:audiomnist,split=random,recipe=plain"]
    return cli.parse_with_config(cli.parser("test", ""), args + [f"--config.{k}={v}" for k, v in keys.items()])[1]


@pytest.fixture
def workdir(config, tmp_path) -> Path:
    """A copy, of the data that are here: another platform may round the tones otherwise."""
    workdir = shutil.copytree(OLD, tmp_path / "run")
    content = json.loads((workdir / "config.json").read_text())
    content["data"]["key"] = loading.load_clips(config).key
    content["config"]["data"]["cache"] = str(config.data.cache)
    (workdir / "config.json").write_text(json.dumps(content))
    return workdir


def test_it_is_small():
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.slow
def test_it_is_evaluated_and_trained_further(workdir, config, tones, run_cli):
    code, out, err = run_cli("evaluate", "--workdir", workdir, "--root", tones, "--json")
    assert code == 0, err
    assert 0 <= json.loads(out.splitlines()[-1])["accuracy"] <= 1 and Trained.load(workdir).step == 8
    before = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    summary = tasks.train(config, workdir)
    rows = [row for row in runlog.read_rows(workdir) if "epoch" in row]
    assert rows[: len(before)] == before and [row["step"] for row in rows] == [8, 16, 24]
    assert rows[-1]["train/loss"] < rows[0]["train/loss"] and summary["epochs"] == 3
    saved, _ = run_dir.load(workdir)
    assert saved.train.ema_decay == 0.9 and "listens" not in saved.model
    assert restore_variables(workdir, "last")[1] == 24


def test_all_of_its_state_is_restored_and_its_checksums_hold(workdir, config):
    from audiojax.training.build import assemble

    like = assemble(config, num_labels=10, rate_hz=8000, num_steps=24).state
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore("last", like)
        assert int(state.step) == 11 and int(np.sum(state.metrics.confusion)) == 44
    variables, _ = restore_variables(workdir, "last")
    assert same_numbers(state.average, variables["params"]) and not same_numbers(state.average, state.params)
    damaged = workdir / "checkpoints" / "11" / "checksums" / "metadata"
    sums = json.loads(damaged.read_text())
    damaged.write_text(json.dumps(sums | {"average": sums["average"] ^ 1}))
    with Checkpoints(workdir) as checkpoints:
        assert int(checkpoints.restore("last", like).step) == 8
