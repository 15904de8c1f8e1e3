"""What may happen to a run while it trains, and after: nothing is lost, and it ends with an unbroken run's numbers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import worker_jobs
from runs import same_run, start, stop_at, wait_for

from audiojax import tasks
from audiojax.errors import InputError
from audiojax.io import workers
from audiojax.io.files import MARKER, only_process, whole_folder, write_text
from audiojax.training import runlog
from audiojax.training.checkpoint import BEST_BY, Checkpoints, restore_variables
from audiojax.training.preemption import Interrupt, Stopped

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_sigterm_saves_in_the_middle_of_an_epoch_and_the_same_command_goes_on(tiny_args, trained_run, tmp_path):
    workdir = tmp_path / "run"
    process = start(tiny_args, workdir)
    wait_for(lambda: len(runlog.read_rows(workdir)) >= 5)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "the same command resumes there" in err
    assert "Traceback" not in err and "Traceback" not in out and len(err.strip().splitlines()) == 1
    step = restore_variables(workdir, "last")[1]
    assert f"at step {step} of 35" in err and runlog.read_rows(workdir)[-1]["step"] <= step
    process = start(tiny_args, workdir)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and f"Resuming at step {step} of 35" in out
    assert same_run(workdir, trained_run)


# 7 steps, 1 batch of validation and 2 of test make an epoch of 10 items, but for what is prefetched
@pytest.mark.slow
def test_stops_at_any_moments_change_nothing(tiny_config, trained_run, tmp_path, monkeypatch):
    """One run, stopped again and again: at its first step, in epochs, where one is scored and at the start of one."""
    workdir, reached = tmp_path / "run", []
    for call_number in (1, 4, 6, 4, 9, 14):
        with monkeypatch.context() as patched:
            stop_at(call_number, patched)
            with pytest.raises(Stopped, match=r"stopped at step \d+ of 35") as stopped:
                tasks.train(tiny_config(), workdir)
        reached.append(int(re.search(r"at step (\d+)", str(stopped.value))[1]))
    assert reached == sorted(reached) and 7 in reached  # of which the epoch was not yet scored
    tasks.train(tiny_config(), workdir)
    assert same_run(workdir, trained_run)


def test_a_second_signal_exits_at_once(tmp_path):
    code = (
        "import time\nfrom audiojax.training.preemption import Interrupt\n"
        "with Interrupt() as interrupt:\n print('ready', flush=True)\n"
        " while True:\n  time.sleep(0.01)\n  if interrupt.signal_number: print('asked', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130


def test_signals_are_left_alone_outside_the_main_thread_and_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    caught = []

    def work():
        with Interrupt() as asked:
            caught.append(asked.signal_number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with Interrupt():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert caught == [0] and signal.getsignal(signal.SIGTERM) is before


def flip_a_byte(step: Path) -> None:
    """In the middle of the largest file: the parameters."""
    largest = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def delete_half(step: Path) -> None:
    for path in sorted(path for path in step.rglob("*") if path.is_file())[::2]:
        path.unlink()


def empty_all(step: Path) -> None:
    for path in step.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


@pytest.mark.parametrize("harm", [flip_a_byte, delete_half, empty_all, shutil.rmtree])
@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_an_epoch_and_nothing_else(tiny_config, trained_run, tmp_path, capsys, harm):
    workdir = tmp_path / "run"
    shutil.copytree(trained_run, workdir)
    (workdir / "summary.json").unlink()
    harm(workdir / "checkpoints" / "35")
    capsys.readouterr()
    tasks.train(tiny_config(), workdir)
    printed = capsys.readouterr().out
    assert "Resuming at step 28 of 35" in printed
    assert ("35 in" in printed and "is damaged" in printed) == (harm != shutil.rmtree)
    assert same_run(workdir, trained_run)


@pytest.mark.slow
def test_a_finished_run_whose_best_checkpoint_is_damaged_is_not_finished(tiny_config, trained_run, tmp_path, capsys):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    for name in ("metrics/metrics", "checksums/metadata"):  # the last becomes a worse one than the one before
        path = workdir / "checkpoints" / "35" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {BEST_BY: 0.05}))
    assert tasks.train(tiny_config(), workdir)["step"] == 28  # the summary of another checkpoint is not believed
    capsys.readouterr()
    assert tasks.train(tiny_config(), workdir)["step"] == 28 and "is finished" in capsys.readouterr().out
    flip_a_byte(workdir / "checkpoints" / "28")
    assert tasks.train(tiny_config(), workdir)["step"] == 35
    said = capsys.readouterr().out
    assert "is finished" not in said and "28 in" in said and "is damaged" in said
    tasks.train(tiny_config(), workdir)
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_all_checkpoints_damaged_starts_anew(tiny_config, trained_run, tmp_path, capsys):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    (workdir / "summary.json").unlink()
    for step in (workdir / "checkpoints").iterdir():
        delete_half(step)
    with pytest.raises(InputError, match="damaged"):
        restore_variables(workdir, "best")
    tasks.train(tiny_config(), workdir)
    said = capsys.readouterr().out
    assert "Resuming" not in said and said.count("is damaged") >= 2 and "No valid checkpoint is left" in said
    assert same_run(workdir, trained_run)


def test_what_a_killed_save_left_is_cleared(tmp_path):
    leftover = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp" / "state"
    leftover.mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_step is None
        deadline = time.monotonic() + 60
        while leftover.exists() and time.monotonic() < deadline:  # orbax deletes it in a thread of its own
            time.sleep(0.02)
    assert not leftover.exists()


@pytest.mark.slow
def test_a_second_process_is_refused(tiny_config, tiny_args, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    with only_process(workdir):
        process = start(tiny_args, workdir)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1 and "is in use by another process" in err and len(err.splitlines()) == 1
    assert tasks.train(tiny_config(), workdir)["epochs"] == 5


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_two_may_make_the_same_folder_at_once(tmp_path):
    with workers.pool(2) as pool:
        list(pool.map(worker_jobs.make_many, [(tmp_path / "folder", n) for n in range(2)]))
    assert (tmp_path / "folder" / "file").read_text() == (tmp_path / "folder" / "other").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("there_before", [False, True])
def test_makers_of_one_name_and_number_leave_each_other_alone(tmp_path, there_before):
    """As in two containers, where hostname and process id are the same: the first to finish is kept."""
    folder = tmp_path / "folder"
    if there_before:
        folder.mkdir()
    with whole_folder(folder) as slow:
        (slow / "slow").write_text("")
        with whole_folder(folder) as quick:
            (quick / "quick").write_text("")
        assert (slow / "slow").exists()
        made = folder.stat().st_ino
    assert {path.name for path in tmp_path.rglob("*")} == {"folder", MARKER, "quick"} and folder.stat().st_ino == made


def test_a_folder_that_appears_at_the_last_moment_stays(tmp_path, monkeypatch):
    rename, folder = Path.rename, tmp_path / "folder"

    def late(self, target):
        if ".partial-" in self.name and not folder.exists():
            folder.mkdir()
            (folder / "theirs").write_text("")
            monkeypatch.undo()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with whole_folder(folder) as partial:
        (partial / "ours").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "theirs"]


def test_what_a_living_process_fills_stays_and_what_a_killed_one_left_goes(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom audiojax.io.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        " (folder / 'file').write_text('')\n print(folder, flush=True)\n time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "folder"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        theirs = Path(process.stdout.readline().strip())
        with whole_folder(tmp_path / "folder"):
            assert (theirs / "file").exists()
        assert (theirs / "file").exists()
        process.kill()
    assert (theirs / "file").exists()
    with whole_folder(tmp_path / "folder") as partial:
        assert not theirs.exists() and partial.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.fixture
def made(tmp_path) -> Path:
    """A folder that `whole_folder` wrote, with a file, and one in a folder."""
    with whole_folder(tmp_path / "made") as partial:
        (partial / "a.bin").write_text("old")
        (partial / "sub").mkdir()
        (partial / "sub" / "b.bin").write_text("old")
    return tmp_path / "made"


def nothing(folder: Path) -> None:
    pass


def lose_marker(folder: Path) -> None:
    (folder / MARKER).unlink()


def write_marker(content: str):
    return lambda folder: (folder / MARKER).write_text(content)


def add(path: str):
    def write(folder: Path) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("mine")

    return write


FOREIGN = {
    "a file": add("notes.txt"),
    "a hidden file": add(".env"),
    "a file below": add("sub/notes.txt"),
    "an empty folder": lambda folder: (folder / "empty").mkdir(),
    "a link": lambda folder: (folder / "link").symlink_to(folder.parent),
    "a dangling link": lambda folder: (folder / "link").symlink_to("nowhere"),
    "no marker": lose_marker,
    "another's marker": write_marker('{"made_by": "other", "files": ["a.bin", "sub", "sub/b.bin"]}'),
    "an incomplete marker": write_marker('{"made_by": "audiojax", "files": ["a.bin"]}'),
    "no JSON": write_marker("{"),
    "a list": write_marker("[1]"),
    "other types": write_marker('{"made_by": "audiojax", "files": 3}'),
    "deeply nested": write_marker("[" * 100_000),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("late", [False, True], ids=["before", "meanwhile"])
def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(made, change, late):
    if not late:
        change(made)
        before = tree(made.parent)
    with pytest.raises(InputError, match="is not replaced"), whole_folder(made) as partial:
        (partial / "a.bin").write_text("new")
        change(made)
        before = tree(made.parent / "made", "made")
    assert tree(made.parent) == before


def tree(folder: Path, prefix: str = "") -> dict[str, str]:
    """{path: its content, or its kind}."""
    found = {prefix: "folder"} if prefix else {}
    for path in folder.rglob("*"):
        kind = "link" if path.is_symlink() else path.read_text() if path.is_file() else "folder"
        found[Path(prefix, path.relative_to(folder)).as_posix()] = kind
    return found


@pytest.mark.parametrize("change", [nothing, lambda made: (made / "a.bin").unlink(), shutil.rmtree])
def test_what_an_earlier_call_wrote_is_replaced(made, change):
    change(made)
    with whole_folder(made) as partial:
        (partial / "c.bin").write_text("new")
    assert {path.name for path in made.iterdir()} == {"c.bin", MARKER} and [*made.parent.iterdir()] == [made]


def test_a_file_in_the_place_of_a_folder_is_refused_and_a_link_is_followed(made):
    (made.parent / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"), whole_folder(made.parent / "file"):
        pass
    assert (made.parent / "file").read_text() == "mine"
    (made.parent / "link").symlink_to(made)
    with whole_folder(made.parent / "link") as partial:
        (partial / "c.bin").write_text("new")
    assert (made.parent / "link").is_symlink() and (made / "c.bin").exists() and not (made / "a.bin").exists()
    assert {path.name for path in made.parent.iterdir()} == {"file", "link", "made"}


def test_names_like_those_of_leftovers_that_were_not_made_here_stay(tmp_path):
    for name in ("out.partial-old", "out.partial-old.stale"):
        (tmp_path / name).mkdir()
    (tmp_path / "out.partial-old.lock").write_text("mine")
    with whole_folder(tmp_path / "out"):
        pass
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"out", "out.partial-old", "out.partial-old.stale", "out.partial-old.lock"}


def test_workers_end_with_a_killed_parent():
    code = (
        "import os, time\nfrom audiojax.io import workers\n"
        "if __name__ == '__main__':\n"
        " executor = workers.pool(2)\n pool = executor.__enter__()\n"
        " print(*[pool.submit(os.getpid).result() for _ in range(2)], flush=True)\n"
        " pool.submit(time.sleep, 60)\n time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pids = {int(pid) for pid in parent.stdout.readline().split()}
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(_runs(pid) for pid in pids), 20)


@pytest.mark.slow
def test_a_command_that_fails_beside_a_pool_prints_its_sentence_alone():
    # The thread that fills the queue outlives the pool, owns its semaphores last, and is slow to release them.
    code = """
import threading, time
from loky.backend import queues, resource_tracker
from audiojax import cli
from audiojax.errors import InputError
from audiojax.io import workers
tracker, send, feed = resource_tracker._resource_tracker, resource_tracker._resource_tracker._send, queues.Queue._feed
def slow_send(*message):
    if threading.current_thread().name == "QueueFeederThread":
        time.sleep(0.5)
    send(*message)
def slow_feed(*args):
    feed(*args)
    time.sleep(0.3)
tracker._send, queues.Queue._feed = slow_send, staticmethod(slow_feed)
def main(argv):
    with workers.pool(1) as pool:
        pool.submit(int).result()
    time.sleep(0.6)
    raise InputError("failed")
cli.run(main)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, "audiojax: failed\n")


@pytest.mark.slow
def test_a_killed_worker_is_one_sentence_and_the_others_end_with_the_block():
    with pytest.raises(InputError, match="was killed"), workers.pool(2) as pool:
        pids = [pool.submit(os.getpid).result() for _ in range(4)]
        pool.submit(worker_jobs.die).result()
    with pytest.raises(KeyboardInterrupt), workers.pool(2) as pool:
        pids += [pool.submit(os.getpid).result()]
        pool.submit(time.sleep, 60)
        start = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - start < 30 and not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", ["checkpoints/100/state", "checkpoints/7.orbax-checkpoint-tmp/x", "metrics.jsonl"])
def test_a_workdir_that_another_program_fills_is_refused_and_left_as_it_is(tiny_config, tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("theirs")
    with pytest.raises(InputError, match=r"no config\.json.*--workdir"):
        tasks.train(tiny_config(), tmp_path)
    assert (tmp_path / name).read_text() == "theirs" and not (tmp_path / "config.json").exists()
