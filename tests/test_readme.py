"""The README: its commands run, its tree is that of the repository, and it is short."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import without_progress

from audiojax import cli as commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README.replace(" \\\n  ", " "), re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("python -m audiojax.")]
SMALL = {  # values that make a trial run short
    "configs/listen.py": ("model.features=8", "model.dense=8", "streams.num_strings=2"),
    "configs/spectrogram.py": ("model.channels=(4,)",),
}


def run(command: str, cwd: Path) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0 and without_progress(done.stderr) == "", f"{command}\n{done.stdout}{done.stderr}"
    return done


def test_an_alarm_of_a_slow_compilation_is_no_error():
    alarm = "E1127 13068 slow_operation_alarm.cc] {}\n\n%sort.0\nIt is slow.\n\n{} attach the results.\n"
    stars = "*" * 32
    said = "one\n" + alarm.format("Constant folding:", "Do") + f"two\n{alarm.format(stars, 'Do')}{stars}\nthree\n"
    assert without_progress(said) == "one\ntwo\nthree\n"


def local(command: str) -> str:
    """The command as a trial run on few synthetic clips, with one epoch, clips of one length, and no data root."""
    keys = " --config.train.num_epochs=1 --config.train.bucket_samples=()" if ".main " in command else ""
    keys += " --config.synthetic.num_takes=1" if "--config " in command else ""
    keys += "".join(f" --config.{key}" for config, small in SMALL.items() if config in command for key in small)
    command = re.sub(r"(configs/\w+\.py)(:\S+)?(?=\s|$)", r"\1:synthetic,runlocal", command)
    return command.replace(" --config.data.root=DIR", "") + keys


def needs_more(command: str) -> bool:
    """A network, or somebody who stops it; tests/test_download.py and tests/test_demo.py try these."""
    return ".download " in command or ".demo " in command


def read_config(command: str):
    """What a command that takes a config makes of its flags; None of any other."""
    flags = [word.replace("configs/", f"{ROOT}/configs/") for word in shlex.split(command)[3:]]
    return commands.parse_with_config(commands.parser("test", ""), flags)[1] if "--config" in flags else None


def once_each() -> list[str]:
    """The commands to try after the first: without data some train the same, and the first of those stands for all."""
    tried = {}
    for command in COMMANDS:
        if not needs_more(command):
            config = read_config(local(command))
            tried.setdefault((command.split()[2], config.to_json() if config else command), command)
    return list(tried.values())[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with nothing but the configs, where the default run has been made as the README's commands do."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "configs").symlink_to(ROOT / "configs")
    trained = run(local(COMMANDS[0]) + " --workdir runs/cnn-synthetic", folder)
    return folder, trained.stdout


@pytest.mark.slow
def test_the_default_run_needs_no_data_and_says_synthetic(place):
    _, printed = place
    assert "synthetic" in printed.splitlines()[0] and "synthetic" in printed.splitlines()[-3]
    assert "Everything lies in runs/cnn-synthetic" in printed


def test_every_config_is_what_its_command_names():
    configs = [(command, config) for command in COMMANDS if (config := read_config(command))]
    assert len(configs) > 5
    for command, config in configs:
        source = re.search(r"\.py(?::(\w+))?", command)[1] or "synthetic"
        assert (config.data.source, config.data.root) == (source, "DIR" if "root=DIR" in command else "")


@pytest.mark.parametrize("number, command", list(enumerate(once_each())))
@pytest.mark.slow
def test_every_command_runs(place, number, command):
    folder, _ = place
    if "FILE.wav" in command:
        [sounds] = {path.parents[2] for path in Path(_cache()).rglob("data/01/7_01_0.wav")}
        command = command.replace("FILE.wav", str(sounds / "data/01/7_01_0.wav"))
    workdir = f" --workdir runs/{number}" if ".main " in command else ""
    assert run(local(command) + workdir, folder).stdout


def _cache() -> str:
    from audiojax.config import cache_dir

    return str(cache_dir())


def test_the_two_commands_are_those_of_the_text():
    first, second = (line for block in BLOCKS for line in block.splitlines() if line.startswith("python3 -m venv"))
    assert first.endswith("-m " + COMMANDS[0].partition("-m ")[2]) and second.endswith("pytest -q")


@pytest.mark.slow
def test_the_example_in_python_runs(place, tmp_path):
    folder, _ = place
    train, listen = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    [file, *_] = sorted(Path(_cache()).rglob("data/01/7_01_0.wav"))
    sound, rate_hz = soundfile.read(file)
    soundfile.write(folder / "stereo.wav", np.stack([sound, sound], 1), rate_hz)
    (folder / "example.py").write_text((train + listen).replace("FILE.wav", "stereo.wav"))
    (tmp_path / "compiled").symlink_to(Path(_cache()) / "compiled")
    environment = os.environ | {"AUDIOJAX_CACHE": str(tmp_path)}  # so that the workers run below a plain script too
    done = subprocess.run([sys.executable, "example.py"], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and without_progress(done.stderr) == "", done.stderr
    assert re.search(r"test accuracy [\d.]+%\nthe answer is '\w+' \(\d+%\)", done.stdout)
    assert "label='seven'" in done.stdout


def test_the_tree_is_the_tree():
    tree = next(block for block in BLOCKS if block.startswith("configs/"))
    named = {line.split()[0] for line in tree.splitlines()}
    assert named == {"configs/", "audiojax/", "experiments/", "docs/", "tests/"}
    assert all((ROOT / folder).is_dir() for folder in named)
    is_command = re.compile(r"^    \w+\.run\(main\)$", re.MULTILINE).search
    there = {file.stem for file in (ROOT / "audiojax").glob("*.py") if is_command(file.read_text())}
    there |= {file.parent.name for file in (ROOT / "audiojax").glob("*/__main__.py")}
    assert there == set(re.search(r"commands \((.*?)\)", tree)[1].split(", "))


def test_it_is_short_and_its_code_needs_no_scroll_bar():
    code = re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(README.splitlines()) <= 200 and max(len(line) for block in code for line in block.splitlines()) <= 100


def test_every_link_and_picture_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target
