"""The commands as a person meets them: what they print, what they refuse, and their exit codes."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from conftest import tone

from audiojax import cli, models, predict
from audiojax import config as configs
from audiojax.attribution import explanation
from audiojax.audio.sound_files import read_sound
from audiojax.data import loading, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.inference import Trained
from audiojax.synthesis.phonemes import DIGITS
from audiojax.training import run_dir

ROOT = Path(__file__).parents[2]
CNN = f"--config={ROOT}/configs/cnn.py"


@pytest.mark.parametrize(
    "arg, expected",
    [
        ("", ("synthetic", "folds", 0, "default", False)),
        ("fsdd", ("fsdd", "random", 0, "default", False)),
        ("audiomnist,split=folds,fold=3,recipe=seed", ("audiomnist", "folds", 3, "seed", False)),
        ("runlocal", ("synthetic", "folds", 0, "default", True)),
        ("fsdd,split=official,runlocal", ("fsdd", "official", 0, "default", True)),
    ],
)
def test_the_grammar_of_the_argument(arg, expected):
    assert configs.parse_arg(arg, recipes=("seed",)) == expected


CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.py") if "def get_config" in path.read_text())


@pytest.mark.parametrize("name", [*CONFIGS, "cnn.py:recipe=residual"])
def test_a_trial_run_keeps_the_source_that_it_names(name):
    for arg, source, split in (
        ("runlocal", "synthetic", "folds"),
        ("fsdd,split=official,runlocal", "fsdd", "official"),
        ("audiomnist,fold=2,runlocal", "audiomnist", "folds"),
        ("espeak,runlocal", "espeak", "folds"),
    ):
        file, _, more = name.partition(":")
        flag = f"--config={ROOT}/configs/{file}:{arg}{f',{more}' if more else ''}"
        config = cli.parse_with_config(cli.parser("test", ""), [flag])[1]
        assert (config.data.source, config.split.name) == (source, split)
        assert (config.split.num_clips > 0) == (source in ("fsdd", "audiomnist"))
        assert config.split.fold == (2 if source == "audiomnist" else 0)
        assert not config.streams.synthetic_sources and not config.streams.negative_sources


@pytest.mark.slow
def test_a_trial_run_of_a_source_needs_its_root_and_takes_some_of_it(run_cli, tones, tmp_path):
    args = (f"{CNN}:audiomnist,split=random,runlocal", f"--workdir={tmp_path}/run", "--config.split.num_clips=30")
    code, out, err = run_cli("main", *args)
    assert code == 1 and "config.data.root is empty" in err and out == ""
    keys = {"data.root": tones, "data.cache": tmp_path, "train.length_samples": 1024, "train.num_epochs": 1}
    code, out, err = run_cli("main", *args, *(f"--config.{key}={value}" for key, value in keys.items()))
    assert code == 0 and "Data: audiomnist, split random: train 30 clips" in out, err
    assert "validation 20 clips" in out and "test 30 clips" in out and "After 1 epoch on audiomnist" in out
    assert "trial run" in out.splitlines()[-1]
    clips = loading.load_clips(run_dir.load(tmp_path / "run")[0])
    split = splits.make(clips, name="random", fold=0, seed=0, num_clips=30)
    whole = splits.make(clips, name="random", fold=0, seed=0)
    for some, all_of in zip(split, whole, strict=True):
        assert set(some) <= set(all_of) and set(np.bincount(clips.label[some])) == {min(30, len(all_of)) // 10}


@pytest.mark.parametrize("arg", ["fsd", "fsdd,spli=random", "fsdd,random", "fsdd,fold=-1", "fsdd,recipe=sed", "split"])
def test_a_wrong_argument_is_one_sentence(arg):
    with pytest.raises(InputError):
        configs.parse_arg(arg, recipes=("seed",))


@pytest.mark.parametrize(
    "args, words",
    [
        ((CNN, "--config.optimizer.learning_rat=1"), "did you mean --config.optimizer.learning_rate?"),
        ((CNN, "--config.train.epochs=1"), "did you mean --config.train.num_epochs?"),
        ((CNN, "--config.train.num_epochs=2.5"), "invalid literal for int()"),
        ((CNN, "--lr=1"), "unknown option --lr"),
        ((CNN, "stray"), "'stray' is not understood"),
        ((f"{CNN}:fsd",), "did you mean fsdd?"),
        (("--config=configs/nope.py",), "is not a file"),
        ((f"{CNN}:fsdd",), "config.data.root is empty"),
        ((f"{CNN}:fsdd", "--config.data.root=/nowhere"), "/nowhere/recordings is not a folder"),
    ],
)
def test_a_mistake_is_one_line(run_cli, tmp_path, args, words):
    code, out, err = run_cli("main", *args, f"--workdir={tmp_path}/run")
    assert code == 1 and out == "" and words in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_configs_of_the_package_are_found_from_any_folder(tmp_path, monkeypatch):
    def parse(*argv):
        return cli.parse_with_config(cli.parser("test", ""), list(argv))[1]

    monkeypatch.chdir(tmp_path)
    config = parse("--config=configs/gru.py:runlocal", "--config.train.num_epochs=3")
    assert (config.model.name, config.train.num_epochs) == ("gru", 3)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/gru.py").write_text((ROOT / "configs/cnn.py").read_text())
    assert parse("--config=configs/gru.py").model.name == "audionet"  # a file that is there comes first
    with pytest.raises(InputError, match=r"configs/nope\.py.*configs/cnn\.py, configs/gru\.py"):
        parse("--config=configs/nope.py")


@pytest.mark.parametrize("name", ["main", "prepare", "evaluate", "predict"])
def test_help_shows_what_the_command_is_for(run_cli, name):
    code, out, _ = run_cli(name, "--help")
    assert code == 0 and f"python -m audiojax.{name}" in out and len(out.splitlines()) > 8


EXPERIMENTS = [path for path in sorted((ROOT / "experiments").rglob("*.py")) if "    cli.run(" in path.read_text()]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_help_of_an_experiment_names_its_module(path, capsys):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    with pytest.raises(SystemExit) as left:
        importlib.import_module(name).main(["--help"])
    out = capsys.readouterr().out
    name = name.removesuffix(".__main__")
    assert left.value.code == 0 and out.startswith(f"usage: python -m {name} ")
    modules = set(re.findall(r"python -m ((?:audiojax|experiments)[\w.]*)", out))
    assert [name for name in modules if importlib.util.find_spec(name.rstrip(".")) is None] == []


def test_prepare_says_what_it_made(run_cli, tones, tmp_path):
    args = (f"{CNN}:audiomnist,split=random", f"--config.data.root={tones}", f"--config.data.cache={tmp_path}")
    code, out, err = run_cli("prepare", *args)
    assert code == 0 and "200 clips of 5 speakers" in out and err == "preparing audiomnist: 200 files\n"
    assert run_cli("prepare", *args)[2] == ""


def test_evaluate_agrees_with_training(run_cli, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")  # its report and plots are written again
    summary = json.loads((workdir / "summary.json").read_text())
    code, out, err = run_cli("evaluate", "--workdir", workdir, "--json")
    result = json.loads(out)
    assert code == 0 and err == "" and result["split"] == "test" and result["clips"] == 40
    assert result["accuracy"] == summary["test/accuracy"] and abs(result["loss"] - summary["test/loss"]) < 1e-4
    confusion = np.asarray(result["confusion"])
    assert confusion.sum() == 40 and np.trace(confusion) / 40 == result["accuracy"]
    assert len(result["accuracy_by_label"]) == 10 and set(result["accuracy_by_speaker"]) == {
        f"0{n}" for n in range(1, 6)
    }
    code, out, _ = run_cli("evaluate", "--workdir", workdir, "--split", "validation")
    assert code == 0 and "20 clips" in out and "eight" in out and "speaker" in out


def test_json_is_all_that_is_printed_though_the_cache_is_made_again(run_cli, trained_run, tmp_path):
    for name in ("config.json", "checkpoints"):
        (shutil.copytree if name == "checkpoints" else shutil.copy)(trained_run / name, tmp_path / name)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["config"]["data"]["cache"] = str(tmp_path / "cache")
    (tmp_path / "config.json").write_text(json.dumps(saved))
    code, out, err = run_cli("evaluate", "--workdir", tmp_path, "--json")
    assert code == 0 and json.loads(out)["clips"] == 40 and err == "preparing audiomnist: 200 files\n"


def test_evaluate_refuses_other_clips_and_other_folders(run_cli, tones, trained_run, tmp_path):
    assert "holds no config.json" in run_cli("evaluate", "--workdir", tmp_path)[2]
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    root = shutil.copytree(tones, tmp_path / "root")
    (root / "data" / "03" / "3_03_3.wav").unlink()
    saved = json.loads((workdir / "config.json").read_text())
    saved["config"]["data"]["root"] = str(root)
    (workdir / "config.json").write_text(json.dumps(saved))
    code, _, err = run_cli("evaluate", "--workdir", workdir)
    assert code == 1 and "are not those" in err


def test_predict_answers_the_good_files_and_names_the_bad(run_cli, trained_run, tmp_path, monkeypatch):
    for label in (2, 7):
        soundfile.write(tmp_path / f"{label}.flac", tone(label, 1, 0, rate_hz=44100), 44100)
    stereo = np.zeros((96000, 2), np.float32)
    stereo[60000 : 60000 + len(tone(5, 1, 0, 48000)), 0] = 2 * tone(5, 1, 0, 48000)
    soundfile.write(tmp_path / "long.wav", stereo, 48000)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "samples.raw").write_bytes(bytes(1000))
    names = ("2.flac", "missing.wav", "text.wav", "samples.raw", "7.flac", "long.wav")
    files = [tmp_path / name for name in names]
    code, out, err = run_cli("predict", "--workdir", trained_run, "--json", *files)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and [answer["digit"] for answer in answers] == [2, 7, 5]
    assert [answer["label"] for answer in answers] == ["two", "seven", "five"]
    for answer in answers:
        assert abs(sum(answer["probabilities"]) - 1) < 1e-9
        assert answer["probability"] == max(answer["probabilities"]) == answer["probabilities"][answer["digit"]]
    lines = err.strip().splitlines()
    assert len(lines) == 4 and "missing.wav " in lines[0] and "text.wav " in lines[1]
    assert "samples.raw " in lines[2]
    assert all(words in lines[3] for words in ("long.wav ", " 2.00 s", " 0.128 s"))
    monkeypatch.setattr(predict, "FILES_AT_ONCE", 2)  # no answer hangs on what else is asked
    code, out, err = run_cli("predict", "--workdir", trained_run, "--json", *files)
    for answer, other in zip(map(json.loads, out.splitlines()), answers, strict=True):
        assert answer["file"] == other["file"] and answer["seconds"] == other["seconds"]
        np.testing.assert_allclose(answer["probabilities"], other["probabilities"], atol=1e-5)
    code, out, _ = run_cli("predict", "--workdir", trained_run, files[0])
    assert code == 0 and "two" in out and "trained on audiomnist" in out
    cut, silent = tmp_path / "cut.wav", tmp_path / "silent.wav"
    soundfile.write(cut, tone(7, 1, 0), 8000)
    cut.write_bytes(cut.read_bytes()[:-20])
    soundfile.write(silent, np.zeros(1000), 8000)
    code, out, err = run_cli("predict", "--workdir", trained_run, "--json", cut, cut, silent)
    assert code == 0 and [json.loads(line)["digit"] for line in out.splitlines()][:2] == [7, 7]
    assert len(out.splitlines()) == 3 and len(err.splitlines()) == 1 and "2 of 3 files" in err


@pytest.mark.slow
def test_a_file_is_answered_alike_in_any_company_though_clips_are_placed_at_random(run_cli, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    saved = json.loads((workdir / "config.json").read_text())
    saved["config"]["train"]["placement"] = "random"
    (workdir / "config.json").write_text(json.dumps(saved))
    files = [tmp_path / f"{label}.wav" for label in range(5)]
    for label, file in enumerate(files):
        soundfile.write(file, tone(label, 1, 0), 8000)

    def answers(*asked):
        lines = run_cli("predict", "--workdir", workdir, "--json", *asked)[1].splitlines()
        return {Path(answer["file"]): answer["probabilities"] for answer in map(json.loads, lines)}

    together, opened = answers(*files), Trained.load(workdir)
    for asked in (files[::-1], files[2:], files[4:], [files[0], tmp_path / "missing.wav", files[3]]):
        for file, probabilities in answers(*asked).items():
            np.testing.assert_allclose(probabilities, together[file], atol=1e-5)
    for file in files:  # and explain speaks of the same answer
        explained = explanation.explain(opened, read_sound(file, 8000), "gradient")
        assert explained.probability == pytest.approx(max(together[file]), abs=1e-5)


@pytest.mark.slow
def test_a_file_is_answered_alike_in_any_company_by_a_network_that_takes_padding_for_sound(tones, tmp_path):
    args = [
        f"--config={ROOT}/configs/gru.py:recipe=plain",
        "--config.model.mask_padding=False",
        "--config.model.features=8",
    ]
    args += ["--config.train.length_samples=2400", "--config.train.bucket_samples=(800,1600)"]
    config = cli.parse_with_config(cli.parser("test", ""), args)[1]
    model = models.build(**config.model, task=config.task, num_labels=10, rate_hz=8000)
    variables = jax.jit(model.init)(jax.random.key(0), np.ones((1, 800), np.int16), np.full(1, 800, np.int32))
    run = Trained(config, {"source": "", "label_names": list(DIGITS)}, model, variables, 0)
    rng = np.random.default_rng(0)
    sounds = [rng.normal(0, 3000, length).astype(np.int16) for length in (700, 1500, 2000, 300, 5000)]
    alone = [run.logits_of(Clips.unlabelled([sound], 8000), np.arange(1))[0] for sound in sounds]
    np.testing.assert_allclose(run.logits_of(Clips.unlabelled(sounds, 8000), np.arange(5)), alone, atol=1e-5)


def test_the_recipes_are_what_they_say():
    def of(arg):
        return cli.parse_with_config(cli.parser("test", ""), [f"{CNN}:{arg}"])[1]

    seed, becker = of("audiomnist,recipe=seed"), of("audiomnist,fold=2,recipe=becker")
    for config in (seed, becker):
        assert (config.train.batch_size, config.optimizer.momentum, config.optimizer.learning_rate) == (100, 0.9, 1e-4)
        assert config.optimizer.schedule == "constant" and config.optimizer.warmup_steps == 0
        assert config.augment.speed == config.augment.max_offset_samples == config.train.label_smoothing == 0
    assert seed.train.num_epochs == 20 and seed.model.scale == "none" and seed.train.placement == "start"
    assert round(becker.train.num_epochs * 18_000 / 100, -3) == 50_000 and becker.train.placement == "random"
    assert becker.model.to_dict() == dict(
        name="audionet", variant="becker", scale="percentile", batch_norm=False, dropout=0.5, relu_on_logits=False,
        dtype="float32", kernels="auto",
    )  # fmt: skip


def test_config_json_says_what_the_run_was_made_with(trained_run):
    saved = json.loads((trained_run / "config.json").read_text())
    [environment] = saved["environments"]
    assert environment["versions"]["jax"] and environment["devices"] == "2 x cpu" and len(saved["data"]["key"]) == 64
    if (ROOT / ".git").exists():
        assert len(environment["revision"].removesuffix("-dirty")) == 40


def test_a_run_that_goes_on_elsewhere_lists_both_environments(tmp_path):
    from ml_collections import ConfigDict

    for device in ("one", "one", "two"):
        run_dir.save(tmp_path, ConfigDict({"seed": 1}), {"key": ""}, {"devices": device})
    saved = json.loads((tmp_path / "config.json").read_text())
    assert [made["devices"] for made in saved["environments"]] == ["one", "two"]
