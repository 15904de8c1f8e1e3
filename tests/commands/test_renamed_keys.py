"""Keys of earlier versions: in flags, in a saved config.json, in a config of one's own, and in the records' digests."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from audiojax import cli, renamed
from audiojax import config as configs
from audiojax.errors import InputError
from audiojax.training import run_dir
from experiments.protocols import records

OLD_RUN = ROOT / "tests" / "training" / "old_gru_run"
FLAGS = {
    "train.average_decay=0.5": ("train.ema_decay", 0.5),
    "decoder.keep=0.7": ("decoder.ema_decay", 0.7),
    "decoder.apart_steps=3": ("decoder.refractory_steps", 3),
    "data.also=fsdd": ("data.extra_source", "fsdd"),
    "data.also_root=a=b": ("data.extra_root", "a=b"),
    "streams.voices=('espeak',)": ("streams.synthetic_sources", ("espeak",)),
    "streams.phrases=('letters',)": ("streams.negative_sources", ("letters",)),
    "streams.alarm_hours=2": ("streams.false_alarm_hours", 2.0),
}
# By the code that had the old names, of the same flags.
DIGESTS = [
    ("4e0e4f32356305b7", ["listen.py:audiomnist"]),
    (
        "565f80f8b81183e7",
        ["listen.py:audiomnist,recipe=real", "streams.alarm_hours=1", "streams.voices=('espeak',)", "decoder.keep=0.7"]
        # The recipe had these values then.
        + ["model.features=144", "model.dense=144", "model.channels=(16,32,48)", "train.num_epochs=6"]
        + ["model.counts=False", "model.mask_bands=0"]
        + [f"streams.{key}_share=0" for key in ("connected", "coded", "strings", "onset")],
    ),
    ("4d830a377ba78439", ["gru.py:fsdd,recipe=plain", "data.also=audiomnist", "train.average_decay=0.5", "seed=3"]),
    ("d5ac111b2aa0f548", ["cnn.py", "train.average_decay=0.5"]),
    ("787fda35c10dd46f", ["gru.py:recipe=seed"]),
]


@pytest.fixture(autouse=True)
def first_notice():
    renamed._print_once.cache_clear()


def read(recipe, *flags):
    flags = [f"--config={ROOT}/configs/{recipe}", *flags]
    return cli.parse_with_config(cli.parser("test", ""), flags)[1]


def test_old_names_work_in_flags_with_one_notice(capsys):
    for _ in range(2):
        config = read("listen.py", *(f"--config.{flag}" for flag in FLAGS), "--config.data.source=audiomnist")
        flat = {key: config[key.partition(".")[0]][key.partition(".")[2]] for key, _ in FLAGS.values()}
        assert flat == dict(FLAGS.values())
    [notice] = capsys.readouterr().err.splitlines()
    assert all(flag.partition("=")[0] in notice and key in notice for flag, (key, _) in FLAGS.items())


@pytest.mark.parametrize(
    "flag, task", [("--config.model.listens", "streams"), ("--noconfig.model.listens", "clips")]
    + [(f"--config.model.listens={value}", "streams") for value in ("True", "true", "1")]
    + [("--config.model.listens=False", "clips")],
)  # fmt: skip
def test_a_network_that_listened_is_now_trained_on_streams(flag, task, capsys):
    steps = [] if task == "streams" else ["--config.streams.steps_per_epoch=0"]
    assert read("listen.py", flag, *steps).task == task
    assert "config.model.listens is now config.task" in capsys.readouterr().err


def test_old_names_work_in_a_saved_config_with_one_notice(capsys):
    for _ in range(2):
        config, _ = run_dir.load(OLD_RUN)
        configs.check(config)
    saved = json.loads((OLD_RUN / "config.json").read_text())["config"]
    assert (config.task, saved["model"]["listens"]) == ("clips", False)
    assert config.train.ema_decay == saved["train"]["average_decay"] == 0.9
    assert config.decoder.refractory_steps == saved["decoder"]["apart_steps"]
    assert len(capsys.readouterr().err.splitlines()) == 1
    old = {key.old for key in renamed.RENAMED if not key.stays}
    assert old <= configs.flatten(saved).keys() and not old & configs.flatten(config.to_dict()).keys()


def test_an_old_name_in_a_config_of_ones_own_is_refused(tmp_path):
    content = (ROOT / "configs" / "gru.py").read_text()
    path = tmp_path / "ours.py"
    path.write_text(content.replace("config.model = recurrent_model()", "config.model = recurrent_model()\n"
                                    "    config.train.average_decay = 0.5"))  # fmt: skip
    with pytest.raises(InputError, match=r"config\.train\.average_decay is now config\.train\.ema_decay"):
        cli.parse_with_config(cli.parser("test", ""), [f"--config={path}"])


@pytest.mark.parametrize("digest, flags", DIGESTS)
def test_renamed_keys_change_no_digest(digest, flags):
    config = read(flags[0], *(f"--config.{flag}" for flag in flags[1:]))
    assert records.digest(config) == digest


def test_nothing_that_is_shipped_has_an_old_name(capsys):
    from audiojax.inference import PACKAGED

    run_dir.load(PACKAGED)
    for path in (ROOT / "configs").glob("[!_]*.py"):
        read(Path(path).name)
    assert not capsys.readouterr().err
