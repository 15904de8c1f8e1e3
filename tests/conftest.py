"""Strict JAX on two CPU devices, a cache of its own, and small folders of real sound files."""

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Tests run most programs only a few times, so a short compilation matters more than fast code. But what level 0
# compiles is up to three times slower in training, and its rounding fails tests of LRP. Without the fusion emitters,
# which only jaxlib 0.10 can turn off, compilation takes 60 % of the time. Flags already in XLA_FLAGS come last and win.
_flags = ["--xla_force_host_platform_device_count=2", "--xla_backend_optimization_level=1"]
if metadata.version("jaxlib").startswith("0.10."):
    _flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*_flags, os.environ.get("XLA_FLAGS", "")])
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the cache of who started them
    os.environ["AUDIOJAX_CACHE"] = tempfile.mkdtemp(prefix="audiojax-tests-")
os.environ["WANDB_MODE"] = "disabled"
for name in ("WANDB_API_KEY", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(name, None)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started by `nohup ... &`: the processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import numpy as np
import pytest
import soundfile
from filelock import FileLock

from audiojax import cli, tasks

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
cli.setup_jax()  # the same programs are compiled in several tests: keep them

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("AUDIOJAX_DATA", "/nonexistent"))


def tone(label: int, speaker: int, take: int, rate_hz: int = 8000) -> np.ndarray:
    """f32[t]: a digit of a toy language, a tone whose pitch is the label, a little different each time."""
    rng = np.random.default_rng([label, speaker, take])
    seconds = rng.uniform(0.08, 0.12)
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    sound = 0.3 * np.sin(2 * np.pi * (300 + 250 * label) * rng.uniform(0.98, 1.02) * t)
    return (sound + rng.normal(0, 0.01, t.shape)).astype(np.float32)


def pytest_unconfigure() -> None:
    """Removes what the session has made, where it ends."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for folder in (os.environ["AUDIOJAX_CACHE"], f"{os.environ['AUDIOJAX_CACHE']}-fixtures"):
            shutil.rmtree(folder, ignore_errors=True)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills, of the worker that needs it first: all workers of a session read the same."""
    folder = Path(f"{os.environ['AUDIOJAX_CACHE']}-fixtures", name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (made := Path(f"{folder}.made")).exists():
            make(folder)
            made.touch()
    return folder


# What XLA says of a slow compilation, on a machine with much other work: from a line of its log to its last sentence.
SLOW_COMPILATION = r"^[EW]\d{4} .*slow_operation_alarm\.cc.*\n(?:.*\n)*?.*attach the results\.\n(?:\*+\n)?"


def without_progress(stderr: str) -> str:
    """What is left of a command's stderr without its progress, and without XLA's alarm."""
    progress = r"^(preparing|synthesising|evaluating).*: [\d,]+ (files|tests)\n"
    return re.sub(f"{progress}|{SLOW_COMPILATION}", "", stderr, flags=re.MULTILINE)


@pytest.fixture(scope="session")
def tones() -> Path:
    """AudioMNIST's layout: five speakers, ten digits, four takes of tones at 8 kHz."""
    return made_once("tones", write_tones)


def write_tones(root: Path) -> None:
    for speaker in range(1, 6):
        folder = root / "data" / f"{speaker:02d}"
        folder.mkdir(parents=True)
        for label in range(10):
            for take in range(4):
                soundfile.write(folder / f"{label}_{speaker:02d}_{take}.wav", tone(label, speaker, take), 8000)


@pytest.fixture(scope="session")
def real_fsdd() -> Path:
    root = DATA / "fsdd"
    if not (root / "recordings").is_dir():
        pytest.skip("the variable AUDIOJAX_DATA does not name a folder that holds fsdd/recordings")
    return root


@pytest.fixture(scope="session")
def tiny_args(tones) -> list[str]:
    """The flags of a whole training run in seconds: the tones, AudioNet on an eighth of a second, five epochs."""
    keys = {
        "data.source": "audiomnist", "data.root": tones, "data.cache": tones.parent / "cache", "train.batch_size": 20,
        "train.length_samples": 1024, "train.num_epochs": 5, "train.log_every_steps": 2,
        "optimizer.learning_rate": 0.02, "optimizer.warmup_steps": 3, "train.ema_decay": 0.5,
    }  # fmt: skip
    config = f"--config={ROOT}/configs/cnn.py:fsdd,split=random"  # AudioMNIST's recipe needs more epochs
    return [config, *(f"--config.{key}={value}" for key, value in keys.items())]


@pytest.fixture(scope="session")
def tiny_config(tiny_args):
    """The same as a config; `tiny_config(**{"train.num_epochs": 2})` changes some keys."""

    def make(**changes):
        overrides = [f"--config.{key}={value}" for key, value in changes.items()]
        return cli.parse_with_config(cli.parser("test", ""), [*tiny_args, *overrides])[1]

    return make


@pytest.fixture(scope="session")
def trained_run(tiny_config) -> Path:
    """The workdir of one finished run; read it, do not write there."""
    return made_once("run", lambda workdir: tasks.train(tiny_config(), workdir))


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Runs `python -m audiojax.NAME ARGS` in this process; returns (exit code, stdout, stderr)."""
    import importlib

    def call(name: str, *args: str):
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        with pytest.raises(SystemExit) as left:
            cli.run(importlib.import_module(f"audiojax.{name}").main)
        out, err = capsys.readouterr()
        if isinstance(left.value.code, str):  # what the interpreter does with sys.exit("text")
            return 1, out, err + left.value.code
        return left.value.code or 0, out, err

    return call
