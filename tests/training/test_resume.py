"""A run that goes on: what it needs to be whole, and what it does not."""

import contextlib
import json
import shutil
import signal
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from runs import same_run, stop_at

from audiojax import cli, tasks
from audiojax import config as configs
from audiojax.errors import InputError
from audiojax.evaluation import classify
from audiojax.io import console
from audiojax.io.files import only_process
from audiojax.training import run_dir, runlog, setup
from audiojax.training.checkpoint import restore_variables
from audiojax.training.preemption import Stopped
from configs import gru

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("loss", ["validation", "train"])
@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_one_sentence_wherever_it_is_met(tiny_config, tmp_path, loss):
    """With one step an epoch its own loss is that of the first parameters, and the validation the first to diverge."""
    diverging = {"optimizer.learning_rate": 1e15, "optimizer.warmup_steps": 0, "model.batch_norm": False}
    config = tiny_config(**diverging, **({"train.batch_size": 140} if loss == "validation" else {}))
    with pytest.raises(InputError, match=r"\bloss\b.*\bstep \d+.*learning_rate") as error:
        tasks.train(config, tmp_path / "run")
    assert ("validation/loss" in str(error.value)) == (loss == "validation")
    assert all("epoch" not in row for row in runlog.read_rows(tmp_path / "run"))
    with pytest.raises(InputError, match="no checkpoint yet"):
        restore_variables(tmp_path / "run", "last")


@pytest.mark.slow
def test_what_a_run_started_from_is_not_needed_when_it_goes_on(tiny_config, trained_run, tmp_path, monkeypatch):
    source = shutil.copytree(trained_run, tmp_path / "source")
    config = tiny_config(**{"init_from": source, "train.num_epochs": 2})
    tasks.train(config, tmp_path / "unbroken")
    with monkeypatch.context() as patched:
        stop_at(6, patched)
        with pytest.raises(Stopped):
            tasks.train(config, tmp_path / "run")
    source.rename(tmp_path / "moved")
    assert tasks.train(config, tmp_path / "run")["epochs"] == 2
    assert same_run(tmp_path / "run", tmp_path / "unbroken")


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_lost_starts_from_the_same_again(tiny_config, trained_run, tmp_path):
    config = tiny_config(**{"init_from": trained_run, "train.num_epochs": 1})
    for name in ("run", "unbroken"):
        tasks.train(config, tmp_path / name)
    (tmp_path / "run" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    tasks.train(config, tmp_path / "run")
    assert same_run(tmp_path / "run", tmp_path / "unbroken")


@pytest.mark.slow
def test_an_epoch_has_one_row_though_its_save_was_killed(tiny_config, trained_run, tmp_path, monkeypatch):
    """Stopped before it was scored; resumed, scored and logged, but killed before that was saved."""

    def stop(*_, **__):
        raise Stopped("asked to stop", signal.SIGTERM)

    workdir = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(classify, "score", stop)
        with pytest.raises(Stopped, match="at step 7 of 35"):
            tasks.train(tiny_config(), workdir)
    [row] = [row for row in runlog.read_rows(trained_run) if row.get("epoch") == 1]
    with (workdir / "metrics.jsonl").open("a") as rows:
        rows.write(json.dumps(row) + "\n")
    tasks.train(tiny_config(), workdir)
    assert same_run(workdir, trained_run)


@pytest.mark.slow
def test_rows_that_are_lost_are_one_sentence_and_more_epochs_go_on(tiny_config, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    for name in ("summary.json", "metrics.jsonl"):
        (workdir / name).unlink()
    with pytest.raises(InputError, match=r"metrics\.jsonl .*num_epochs"):
        tasks.train(tiny_config(), workdir)
    assert tasks.train(tiny_config(**{"train.num_epochs": 6}), workdir)["epochs"] == 6


def test_a_damaged_row_costs_itself_alone(tmp_path):
    lines = [b'{"step": 1}', b'{"step": 2, "lo\xff\x00', b"7", b'{"stfp": 3}', b'{"step": 4}', b'{"step": 5, "loss']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert runlog.read_rows(tmp_path) == [{"step": 1}, {"step": 4}]


@pytest.mark.slow
def test_another_process_that_took_the_workdir_meanwhile_is_seen(tiny_config, trained_run, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def late(folder):
        with only_process(folder):
            shutil.copy(trained_run / "config.json", folder)  # a run that ended while this one read its clips
            yield

    monkeypatch.setattr(setup, "only_process", late)
    with pytest.raises(InputError, match=r"config\.seed 0 -> 1"):
        tasks.train(tiny_config(seed=1), tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == (trained_run / "config.json").read_bytes()


def test_progress_leaves_the_output_to_the_answer(capsys):
    with console.progress("preparing clips") as report:
        report(0, 3)
    assert capsys.readouterr() == ("", "preparing clips: 3 files\n")


def test_too_little_memory_is_one_sentence(monkeypatch):
    def exhaust(_):
        return int(jnp.zeros(2**46, jnp.int8).sum())

    def exhaust_later(_):
        raise RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 70368744177664 bytes.")

    def exhaust_host(_):
        raise MemoryError("Unable to allocate 1. TiB for an array")

    monkeypatch.setattr(sys, "argv", ["main"])
    for main in (exhaust, exhaust_later, exhaust_host):
        with pytest.raises(SystemExit, match=r"audiojax: .*memory.*--config\.train\.batch_size"):
            cli.run(main)
    with pytest.raises(RuntimeError, match="another"):
        cli.run(lambda _: (_ for _ in ()).throw(RuntimeError("another")))


def test_a_config_from_before_a_key_of_its_network_is_the_same_run(tmp_path):
    config = gru.get_config()
    saved, data = config.copy_and_resolve_references(), {"source": "synthetic", "key": "0", "label_names": ["one"]}
    for key in configs.LATER_MODEL_KEYS:
        del saved.model[key]
    run_dir.save(tmp_path, saved, data, {})
    assert {k: v for k, v in run_dir.load(tmp_path)[0].model.items() if k in configs.LATER_MODEL_KEYS} == (
        configs.LATER_MODEL_KEYS
    )
    run_dir.check_resumable(tmp_path, config, data)
