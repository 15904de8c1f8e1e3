"""Checkpoints that are damaged, of another make, in use, or out of reach for a moment: each told from the others."""

import contextlib
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from audiojax.errors import InputError
from audiojax.io.files import only_process
from audiojax.training import checkpoint
from audiojax.training.checkpoint import BEST_BY, Checkpoints, restore_variables
from audiojax.training.metrics import Metrics
from audiojax.training.state import TrainState

ROOT = Path(__file__).parents[2]


def state(step: int, **changes) -> TrainState:
    params, trace = {"kernel": jnp.full((3, 2), float(step))}, {"trace": jnp.zeros(3)}
    made = TrainState(jnp.asarray(step), params, {}, {"mean": jnp.zeros(2)}, trace, Metrics.zero(10))
    return made.replace(**changes)


def restored(checkpoints: Checkpoints, which="last", like=None) -> int | None:
    found = checkpoints.restore(which, like or state(0))
    assert found is None or np.all(np.asarray(found.params["kernel"]) == float(found.step))
    return None if found is None else int(found.step)


def names(workdir: Path) -> list[str]:
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory) -> Path:
    """Steps 1 to 3, of which the second is the best."""
    workdir = tmp_path_factory.mktemp("steps") / "run"
    with Checkpoints(workdir) as checkpoints:
        for step, accuracy in enumerate([0.1, 0.9, 0.3], start=1):
            checkpoints.save(state(step), accuracy)
    return workdir


@pytest.fixture
def workdir(three_steps, tmp_path) -> Path:
    return shutil.copytree(three_steps, tmp_path / "run")


@pytest.mark.parametrize("old, new", [("0.9", "0.1"), ("accuracy", "accurbcy"), ('"', "'"), ("{", "[")])
def test_a_flipped_accuracy_is_a_damaged_checkpoint(workdir, capsys, old, new):
    path = workdir / "checkpoints" / "2" / "metrics" / "metrics"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=r"checkpoint 2 in .* is damaged"):
        restore_variables(workdir, "best")
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best_step == 3 and restored(checkpoints) == 3
        checkpoints.save(state(4), 0.2)
    assert names(workdir) == ["3", "4", "damaged-2"] and "Checkpoint 2 " in capsys.readouterr().out


NESTED = "[" * 100_000
DAMAGED_METADATA = ("[1]", "7", '"x"', "", NESTED, '{"metrics": [1]}', '{"commit_timestamp_nsecs": "x"}')


@pytest.mark.parametrize("content", DAMAGED_METADATA, ids=lambda content: content[:20])
def test_damaged_metadata_of_one_checkpoint_leaves_the_others_usable(workdir, capsys, content):
    (workdir / "checkpoints" / "2" / "_CHECKPOINT_METADATA").write_text(content)
    assert restore_variables(workdir, "last")[1] == 3
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best_step == 3 and restored(checkpoints) == 3
        checkpoints.save(state(4), 0.2)
    assert names(workdir) == ["3", "4", "damaged-2"] and "Checkpoint 2 " in capsys.readouterr().out


@pytest.mark.parametrize("path", ["checksums/metadata", "metrics/metrics", "state/_METADATA"])
def test_deeply_nested_json_is_damage(workdir, path):
    (workdir / "checkpoints" / "2" / path).write_text(NESTED)
    with pytest.raises(InputError, match=r"checkpoint 2 in .* is damaged"):
        restore_variables(workdir, "best")
    with Checkpoints(workdir) as checkpoints:
        assert restored(checkpoints, "best") == 3 and "damaged-2" in names(workdir)


def test_a_checkpoint_whose_checksums_know_no_accuracy_still_opens(workdir):
    for step in ("2", "3"):
        path = workdir / "checkpoints" / step / "checksums" / "metadata"
        sums = json.loads(path.read_text())
        assert sums.pop(BEST_BY) == {"2": 0.9, "3": 0.3}[step] and sums.pop("tree")
        path.write_text(json.dumps(sums))
    assert restore_variables(workdir, "best")[1] == 2
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best_step == 2 and restored(checkpoints) == 3 and restored(checkpoints, "best") == 2
        with pytest.raises(InputError, match="another version"):
            restored(checkpoints, like=state(0, opt_state={"trace": jnp.zeros(4)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"opt_state": {"trace": jnp.zeros(4)}},
        {"opt_state": {"trace": jnp.zeros(3), "more": jnp.zeros(3)}},
        {"batch_stats": {}},
        {"params": {"kernel": jnp.zeros((3, 2), jnp.bfloat16)}},
    ],
    ids=["shape", "more", "less", "type"],
)
def test_a_checkpoint_of_another_tree_is_left_where_it_is(workdir, changes):
    before = names(workdir)
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(InputError, match=r"checkpoint 3 in .*made by another version of audiojax"):
            restored(checkpoints, like=state(0, **changes))
        assert names(workdir) == before and restored(checkpoints) == 3


@pytest.mark.slow
@pytest.mark.parametrize("num_left", [0, 1, 2])
def test_too_many_open_files_damage_nothing(workdir, monkeypatch, num_left):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # reads that orbax began and left
    before = names(workdir)
    with Checkpoints(workdir) as checkpoints:
        assert restored(checkpoints) == 3
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        first_free = os.dup(0)
        os.close(first_free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + num_left, hard))
            found = restored(checkpoints)
        except InputError as error:
            found = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert found == 3 or ("cannot be read" in str(found) and "Too many open files" in str(found))
        assert names(workdir) == before and restored(checkpoints) == 3
    gc.collect()  # those reads too that only each other still know


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error"), OSError(116, "Stale file handle")])
def test_a_disk_out_of_reach_damages_nothing(workdir, monkeypatch, error):
    def fail(*_, **__):
        raise error

    before = names(workdir)
    with Checkpoints(workdir) as checkpoints, monkeypatch.context() as patched:
        patched.setattr(checkpoint, "verify", fail)
        with pytest.raises(InputError, match=r"checkpoint 3 in .* cannot be read"):
            restored(checkpoints)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        with pytest.raises(InputError, match="cannot be read"):
            Checkpoints(workdir)
        with pytest.raises(InputError, match=r"checkpoint 2 in .* cannot be read"):
            restore_variables(workdir, "best")
    assert names(workdir) == before


def test_a_failed_save_that_restoring_waits_for_is_one_sentence(workdir, monkeypatch):
    monkeypatch.setattr(checkpoint, "check_room", lambda *_: None)  # it would see the limit before orbax meets it
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.suppress(InputError), Checkpoints(workdir) as checkpoints:  # leaving may hear of it again
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, limit[1]))
            checkpoints.save(state(4), 0.5)
            with pytest.raises(InputError, match=r"could not be saved .*make room"):
                restored(checkpoints)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert restore_variables(workdir, "last")[1] == 3


def test_what_was_set_aside_is_never_deleted(workdir, capsys):
    for aside in ("damaged-3", "damaged-3-2", "damaged-3-3"):
        (workdir / "checkpoints" / "3" / "checksums" / "metadata").write_text("{}")
        with Checkpoints(workdir) as checkpoints:
            assert restored(checkpoints) == 2 and aside in names(workdir)
            checkpoints.save(state(3), 0.3)
    assert capsys.readouterr().out.count("Checkpoint 3 in") == 3


def test_no_whole_checkpoint_left_is_said(workdir, capsys):
    for step in ("2", "3"):
        (workdir / "checkpoints" / step / "checksums" / "metadata").write_text("{}")
    with Checkpoints(workdir) as checkpoints:
        assert restored(checkpoints) is None
    assert "No valid checkpoint is left in" in capsys.readouterr().out


KILLED = """
import os, signal
from pathlib import Path
from audiojax.training.checkpoint import Checkpoints
from test_checkpoints import state
with Checkpoints(Path(WORKDIR)) as checkpoints:
    checkpoints.save(state(5), None)
    checkpoints._manager.wait_until_finished()
    checkpoints._manager.save = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    checkpoints.save(state(5), 0.5)
"""


@pytest.mark.slow
def test_a_kill_while_the_scored_state_is_saved_leaves_the_unscored_one(workdir):
    code = KILLED.replace("WORKDIR", repr(str(workdir)))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'training'}"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.last_step == 5 and checkpoints.best_step == 2 and restored(checkpoints) == 5
        checkpoints.save(state(5), 0.95)
        assert restored(checkpoints, "best") == 5
    assert names(workdir) == ["3", "5"]
    shutil.copytree(workdir / "checkpoints" / "3", workdir / "checkpoints" / "unscored-5")  # killed in clearing up
    with Checkpoints(workdir) as checkpoints:
        assert checkpoints.best_step == 5 and names(workdir) == ["3", "5"]


def test_a_scored_save_that_fails_leaves_the_unscored_one(workdir, monkeypatch):
    with pytest.raises(InputError, match="could not be saved"), Checkpoints(workdir) as checkpoints:
        checkpoints.save(state(5), None)
        monkeypatch.setattr(checkpoints._manager, "save", lambda *_, **__: 1 / 0)
        checkpoints.save(state(5), 0.95)
    assert restore_variables(workdir, "last")[1] == 5


def test_looking_on_while_training_deletes_one_slowly(workdir):
    """A checkpoint half gone is no damage as long as a process holds the run."""
    going = workdir / "checkpoints" / "3"
    with only_process(workdir):
        (going / "state" / "_METADATA").unlink()
        late = threading.Timer(1.5, shutil.rmtree, [going])
        late.start()
        assert restore_variables(workdir, "last")[1] == 2
        late.join()


@pytest.mark.slow
def test_looking_on_while_checkpoints_come_and_go(tmp_path, monkeypatch):
    """The two commands may run beside training, which deletes what they have just listed."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # orbax's event loop, closed before a failed read ends
    done = threading.Event()

    def train() -> None:
        try:
            with only_process(tmp_path), Checkpoints(tmp_path) as checkpoints:
                for step in range(1, 40):
                    checkpoints.save(state(step), None if step % 2 else 1 / step)
                    if step % 2:
                        checkpoints.save(state(step), 1 / step)
        finally:
            done.set()

    thread = threading.Thread(target=train)
    thread.start()
    seen = set()
    try:
        while not done.is_set():
            for which in ("last", "best"):
                try:
                    variables, step = restore_variables(tmp_path, which)
                except InputError as error:
                    assert "no checkpoint yet" in str(error) and not seen
                else:
                    seen.add(step)
                    assert np.all(variables["params"]["kernel"] == step)
    finally:
        thread.join()
    assert len(seen) > 5
