"""One run in several processes, which meet on the loopback: the same numbers, one log, and they stop together."""

import json
import shutil
import signal
import socket
import subprocess

import jax
import numpy as np
import pytest
from conftest import ROOT
from runs import start, wait_for

from audiojax import cli, tasks
from audiojax.training import checkpoint, runlog
from audiojax.training.sharding import LOST

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def two_processes(args: list[str], workdir, *, second: tuple[str, ...] = ()) -> list[subprocess.Popen]:
    """Both halves of a run, of two devices each; `second` are flags of the second alone."""
    mesh = [f"--config.mesh.coordinator=127.0.0.1:{free_port()}", "--config.mesh.num_processes=2"]
    return [
        start([*args, *mesh, f"--config.mesh.process_id={number}", *(second if number else ())], workdir)
        for number in (0, 1)
    ]


@pytest.fixture(scope="module")
def gru_args(tones, tmp_path_factory) -> list[str]:
    """A small recurrent network: of smooth functions, so that another order of summation stays a small difference."""
    keys = {
        "data.root": tones, "data.cache": tmp_path_factory.mktemp("cache"), "train.batch_size": 20,
        "train.length_samples": 1120, "train.bucket_samples": "()", "train.num_epochs": 5, "train.log_every_steps": 2,
        "model.features": 16,
    }  # fmt: skip
    config = f"--config={ROOT}/configs/gru.py:audiomnist,split=random,recipe=plain"
    return [config, *(f"--config.{key}={value}" for key, value in keys.items())]


def last_parameters(workdir) -> np.ndarray:
    variables, _ = checkpoint.restore_variables(workdir, "last")
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(variables)])


def test_two_processes_stop_together_and_end_where_one_does(gru_args, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    both = two_processes(gru_args, two)
    wait_for(lambda: len(runlog.read_rows(two)) >= 3, seconds=300)
    both[1].send_signal(signal.SIGTERM)  # the one that does not save
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [143, 143], said
    _, step = checkpoint.restore_variables(two, "last")
    assert 0 < step < 35 and all(f"stopped at step {step} of 35" in err for _, err in said)
    assert "Data: audiomnist" in said[0][0] and "Data:" not in said[1][0]  # gloo speaks in both

    both = two_processes(gru_args, two)
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert f"Resuming at step {step}" in said[0][0] and "To use it" in said[0][0] and "To use it" not in said[1][0]

    _, config = cli.parse_with_config(cli.parser("test", ""), gru_args)
    tasks.train(config, one, num_devices=1)
    np.testing.assert_allclose(last_parameters(two), last_parameters(one), rtol=1e-5, atol=2e-5)

    config.train.num_epochs = 6  # and one process goes on from what two have saved
    assert tasks.train(config, two)["epochs"] == 6
    environments = json.loads((two / "config.json").read_text())["environments"]
    assert [of["devices"] for of in environments] == ["4 x cpu", "2 x cpu"]


def ends_both(args: list[str], workdir, second: tuple[str, ...]) -> str:
    """What the first of two processes prints as both end, where the second has the flags `second`."""
    both = two_processes(args, workdir, second=second)
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1], said
    assert "Traceback" not in "".join(said)
    return said[0]


def test_what_fails_in_one_process_ends_both(tiny_args, tmp_path):
    assert "another process" in ends_both(tiny_args, tmp_path / "run", ("--config.data.root=/nonexistent",))


def test_values_that_differ_end_both_and_each_is_named(tiny_args, tmp_path):
    second = (
        "--config.data.rate_hz=4000",
        "--config.optimizer.learning_rate=0.5",
        "--config.model.batch_norm=False",
        "--config.wandb.name=other",
    )
    told = ends_both(tiny_args, tmp_path / "run", second)
    assert "config.data.rate_hz is 8000 and 4000" in told
    assert "config.optimizer.learning_rate is 0.02 and 0.5" in told
    assert "config.model.batch_norm is true and false" in told
    assert 'config.wandb.name is "" and "other"' in told


def test_other_clips_in_one_process_end_both(tiny_args, tones, tmp_path):
    """Paths may differ, what lies there may not."""
    root = shutil.copytree(tones, tmp_path / "root")
    (root / "data" / "03" / "3_03_3.wav").unlink()
    assert "config.data " in ends_both(tiny_args, tmp_path / "run", (f"--config.data.root={root}",))


@pytest.mark.parametrize("killed", [True, False])
def test_a_process_that_misses_another_says_so_in_one_sentence_and_ends(gru_args, tmp_path, killed):
    """The second is killed; or the first is interrupted, alone."""
    workdir = tmp_path / "run"
    both = two_processes([*gru_args, "--config.train.num_epochs=1000"], workdir)
    wait_for(lambda: runlog.read_rows(workdir), seconds=300)
    if killed:
        both[1].kill()
    else:
        both[0].send_signal(signal.SIGINT)
    said = [process.communicate(timeout=300)[1] for process in both]
    lines = [[line for line in err.splitlines() if not line.startswith("preparing ")] for err in said]
    left = 0 if killed else 1
    assert len(lines[left]) == 1 and lines[left][0].startswith(f"audiojax: {LOST}") and both[left].returncode
    if not killed:
        assert both[0].returncode == 130 and lines[0][-1].startswith("audiojax: interrupted")


def test_processes_that_do_not_meet_say_so(tiny_args, tmp_path):
    keys = [*tiny_args, "--config.mesh.coordinator=auto"]
    process = start(keys, tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1 and "config.mesh.coordinator is 'auto'" in err
    assert "Traceback" not in err
