"""A whole run of the recurrent network: the same loop, commands and promises, on sound of any length."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, tone
from runs import same_run, stop_at

from audiojax import cli, tasks
from audiojax.audio.sound_files import read_sound
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.streaming.logit_stream import Stream
from audiojax.training import build, steps
from audiojax.training.preemption import Stopped

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tones, tmp_path_factory):
    """A small network on the tones, in three lengths."""
    keys = {
        "data.root": tones, "data.cache": tmp_path_factory.mktemp("cache"), "train.batch_size": 20,
        "train.length_samples": 1120, "train.bucket_samples": "(800,960)", "train.num_epochs": 5,
        "model.features": 16, "optimizer.learning_rate": 0.1, "optimizer.warmup_steps": 3,
    }  # fmt: skip
    args = [f"--config={ROOT}/configs/gru.py:audiomnist,split=random,recipe=plain"]
    args += [f"--config.{key}={value}" for key, value in keys.items()]
    return cli.parse_with_config(cli.parser("test", ""), args)[1]


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "gru"
    compiled = []
    make = steps.make_train_step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            build, "make_train_step", lambda *args, **more: compiled.append(make(*args, **more)) or compiled[0]
        )
        tasks.train(config, workdir)
    assert compiled[0]._cache_size() == 3  # one program a length
    return workdir


def test_it_learns_in_one_compilation_a_length(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test/accuracy"] > 0.8
    assert (run / "report.html").exists()


def test_stopped_and_resumed_equals_unbroken(config, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(13, patched)
        with pytest.raises(Stopped, match="is saved"):
            tasks.train(config, tmp_path / "run")
    tasks.train(config, tmp_path / "run")
    assert same_run(tmp_path / "run", run)


def test_evaluate_agrees_with_training_and_truncates_nothing(run_cli, run):
    code, out, _ = run_cli("evaluate", "--workdir", run, "--json")
    result = json.loads(out.splitlines()[-1])
    assert code == 0
    assert result["accuracy"] == json.loads((run / "summary.json").read_text())["test/accuracy"]


def test_predict_hears_all_of_a_long_file_as_a_stream_does(run_cli, run, tmp_path):
    clip = np.concatenate([np.zeros(9000, np.float32), tone(3, 1, 0), np.zeros(7333, np.float32)])
    soundfile.write(tmp_path / "long.wav", clip, 8000)
    code, out, err = run_cli("predict", "--workdir", run, "--json", tmp_path / "long.wav")
    answer = json.loads(out)
    assert code == 0 and not err and not answer["cut"] and answer["seconds"] == len(clip) / 8000
    opened = Trained.load(run)
    stream = Stream(opened.model, opened.variables)
    stream.feed(read_sound(str(tmp_path / "long.wav"), 8000))
    [logits] = stream.flush()
    np.testing.assert_allclose(opened.probabilities(logits), answer["probabilities"], atol=1e-5)


def test_the_seed_recipe_is_the_students():
    args = [f"--config={ROOT}/configs/gru.py:audiomnist,recipe=seed"]
    config = cli.parse_with_config(cli.parser("test", ""), args)[1]
    model, train, optimizer = config.model, config.train, config.optimizer
    assert (model.frontend, model.hop_samples, model.normalise, model.cell) == ("raw", 1, "none", "gru")
    assert (model.readout, model.mask_padding, model.num_layers, model.memory_frames) == ("last", False, 1, 0)
    assert (train.batch_size, train.num_epochs, train.label_smoothing) == (10, 20, 0)
    assert (optimizer.schedule, optimizer.learning_rate, optimizer.momentum, optimizer.clip_norm) == (
        "constant",
        1e-4,
        0.9,
        0,
    )
    assert not any(np.any(value) for value in config.augment.to_dict().values())


def test_buckets_belong_to_networks_that_take_any_length(tiny_config, tmp_path):
    with pytest.raises(InputError, match=r"config\.train\.bucket_samples.*\(\).*audionet"):
        tasks.train(tiny_config(**{"train.bucket_samples": "(512,)"}), tmp_path / "run")
    for wrong in ("(1024,)", "(0,)", "(1.5,)"):
        with pytest.raises(InputError, match=r"config\.train\.bucket_samples.*(length_samples, 1024|\b1 to )"):
            tiny_config(**{"train.bucket_samples": wrong})
