"""Weights & Biases offline, out of reach, killed, hung and broken: numbers arrive, or training does not mind."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from runs import stop_at

from audiojax import tasks
from audiojax.training import runlog, wandb_logging
from audiojax.training.preemption import Stopped


@pytest.mark.slow
def test_weights_and_biases_offline_holds_the_same_numbers_and_goes_on(tiny_config, tmp_path, monkeypatch, capsys):
    """A run that is stopped, resumed and trained further: each start is a part with its steps, and all are named."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    workdir = tmp_path / "my run"
    with monkeypatch.context() as patched:
        stop_at(4, patched)
        with pytest.raises(Stopped):
            tasks.train(tiny_config(**{"train.num_epochs": 1}), workdir)
    for num_epochs in (1, 2):
        tasks.train(tiny_config(**{"train.num_epochs": num_epochs}), workdir)
    parts = sorted((workdir / "wandb").glob("offline-run-*"))
    identity = (workdir / "wandb_id.txt").read_text()
    assert len(parts) == 3 and all(part.name.endswith(identity) for part in parts)
    [*_, line] = [line for line in capsys.readouterr().out.splitlines() if "wandb sync" in line]
    assert shlex.split(line.split("`")[1]) == ["wandb", "sync", *map(str, parts)]
    kept = [inspected(part) for part in parts]
    names = ("validation/accuracy", "test/loss", "learning_rate", "plots/curves", "test/confusion", "test/sounds")
    for logged, epoch in zip(kept[1:], (1, 2), strict=True):
        assert [name for name in names if name not in logged] == []
        row = next(row for row in runlog.read_rows(workdir) if row.get("epoch") == epoch)
        assert str(row["train/loss"])[:6] in logged
    assert list(parts[2].rglob("*.png")) and list(parts[2].rglob("*.wav"))
    rows = [row for logged in kept for row in history(logged)]
    steps = [row["_step"] for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == 14  # of 7 an epoch: no part repeats a step of another
    assert all(row["step"] == row["_step"] for row in rows)
    by_step = {row["step"]: row for row in rows}
    for row in runlog.read_rows(workdir):  # each number, under the step that it has here
        assert {name: by_step[row["step"]][name] for name in row} == row
    assert sum(any(name.startswith("plots/curves") for name in row) for row in rows) == 2  # of both ends


def inspected(part: Path) -> str:
    """An offline run as JSON, a record a line."""
    inspect = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", part]
    return subprocess.run(inspect, capture_output=True, text=True, check=True).stdout


def history(logged: str) -> list[dict]:
    """The rows of an offline run, as W&B keeps them."""
    return [record["history"]["item"] for record in map(json.loads, logged.splitlines()) if record["type"] == "history"]


class Seen:
    """A W&B run, as `_Rows` uses it, whose server has seen steps before `starting_step`."""

    def __init__(self, starting_step: int):
        self.starting_step, self.logged = starting_step, list[tuple[int, int]]()

    def log(self, row: dict, step: int) -> None:
        assert step >= max([self.starting_step, *(own for own, _ in self.logged)])  # else W&B drops the row
        self.logged.append((step, row["step"]))


def test_steps_that_a_server_has_seen_are_not_dropped_and_later_ones_are_ours():
    run = Seen(5)
    rows = wandb_logging._Rows(run)
    for step in (3, 4, 4, 9, 9, 10):
        rows.log({"step": step})
    assert run.logged == [(5, 3), (6, 4), (7, 4), (9, 9), (9, 9), (10, 10)]


@pytest.mark.parametrize(
    "environment, wanted, mode",
    [
        ({}, "auto", "offline"),
        ({"WANDB_API_KEY": "x" * 40}, "auto", "online"),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "x" * 40}, "online", "disabled"),
        ({}, "online", "offline"),
        ({"WANDB_MODE": "online"}, "disabled", "offline"),
    ],
)
def test_wandb_is_online_only_where_a_key_is(environment, wanted, mode, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wandb_logging.wandb_mode(wanted) == mode
    (tmp_path / "none").write_text("machine api.wandb.ai login user password secret\n")
    if not environment and wanted == "auto":
        assert wandb_logging.wandb_mode("auto") == "online"
        (tmp_path / "none").write_bytes(b"machine api.wandb.ai login user password s\xe9cret\n")  # not UTF-8
        assert wandb_logging.wandb_mode("auto") == "offline"


@pytest.mark.slow
def test_wandb_that_fails_does_not_stop_training(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "wandb_id.txt").mkdir()  # not a file: reading the run's id fails
    assert tasks.train(tiny_config(**{"train.num_epochs": 1}), workdir)["epochs"] == 1
    assert capsys.readouterr().out.count("W&B failed and is not used") == 1


@pytest.mark.slow
def test_wandb_that_cannot_be_reached_keeps_the_run_offline_and_a_lost_identity_is_replaced(
    tiny_config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb_id.txt").touch()
    tasks.train(tiny_config(**{"train.num_epochs": 1}), tmp_path / "run")
    said = capsys.readouterr().out
    assert "W&B cannot be reached" in said and "W&B: offline" in said and "failed" not in said
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len((tmp_path / "run" / "wandb_id.txt").read_text()) == 8


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.slow
def test_wandb_whose_service_dies_or_hangs_stops_nothing(tiny_config, tmp_path, monkeypatch, capsys, number):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb_logging, "_PATIENCE_SECONDS", 3.0)
    say = runlog.RunLog.say

    def harm(self, text):  # once W&B runs, its service is harmed
        say(self, text)
        if text.startswith("W&B: offline"):
            ours = psutil.Process(self._tracker._process.pid).children(recursive=True)
            assert [service.send_signal(number) for service in ours if "wandb" in service.name()]

    monkeypatch.setattr(runlog.RunLog, "say", harm)
    assert tasks.train(tiny_config(), tmp_path / "run")["epochs"] == 5
    assert "W&B failed and is not used" in capsys.readouterr().out
    assert not [child for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]


@pytest.mark.slow
def test_wandb_that_cannot_be_started_stops_nothing(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb_logging.sys, "executable", str(tmp_path / "gone"))
    assert tasks.train(tiny_config(**{"train.num_epochs": 1}), tmp_path / "run")["epochs"] == 1
    assert capsys.readouterr().out.count("W&B failed and is not used") == 1
