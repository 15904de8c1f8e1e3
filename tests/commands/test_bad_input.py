"""What people and disks do to a tool: one sentence that names the file or the key, and nothing lost."""

import copy
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone, without_progress

from audiojax import tasks
from audiojax.audio import sound_files
from audiojax.data import cache, loading, sources
from audiojax.errors import InputError
from audiojax.evaluation.summary import sentence
from audiojax.inference import Trained
from audiojax.training import run_dir, runlog
from audiojax.training.checkpoint import restore_variables
from audiojax.training.setup import read_summary
from experiments.studies import fuzz

ROOT = Path(__file__).parents[2]
CNN = f"--config={ROOT}/configs/cnn.py"
SOUND = tone(3, 1, 0, 48000)


def write(path: Path, sound=SOUND, rate_hz=48000, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate_hz, **how)
    return path


def cut(path: Path, share=0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def claims_hours(path: Path) -> Path:
    """A FLAC file whose header announces 2^36 - 1 samples: 275 GB as float32."""
    content = bytearray(write(path).read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: cut(write(folder / "a.flac"), 0.1), "cannot be read as sound"),
        (lambda folder: cut(write(folder / "a.wav"), 0), "cannot be read as sound"),
        (lambda folder: write(folder / "a.wav", SOUND[:0]), "holds no samples"),
        (lambda folder: write(folder / "a.wav", np.full(9, np.nan), subtype="FLOAT"), "not finite"),
        (lambda folder: write(folder / "a.wav", np.append(SOUND, np.inf), subtype="DOUBLE"), "not finite"),
        (lambda folder: write(folder / "a.flac", np.zeros(601 * 8000), 8000), "lasts more than 600 s"),
        (lambda folder: folder / "nothing.wav", "is not a file"),
        (lambda folder: folder, "is not a file"),
    ],
)
def test_a_bad_sound_is_one_sentence(tmp_path, make, words):
    path = make(tmp_path)
    with pytest.raises(InputError, match=words) as error:
        sound_files.read_sound(path, 8000)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("how", [{"subtype": "ULAW"}, {"subtype": "PCM_24"}, {"format": "W64"}, {"format": "RF64"}])
def test_a_good_sound_is_a_clip_whatever_its_format(tmp_path, how):
    clip = sound_files.read_sound(write(tmp_path / "a.wav", **how), 8000)
    assert abs(len(clip) - len(SOUND) / 6) < 2 and np.abs(clip).max() > 5000


def test_a_file_written_as_a_stream_is_read(tmp_path):
    """`ffmpeg -f wav -` cannot go back to write the length, and leaves the largest one there."""
    path = write(tmp_path / "a.wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[at + 4 : at + 8] = content[4:8] = b"\xff" * 4
    whole = sound_files.read_sound(path, 8000)
    path.write_bytes(content)
    np.testing.assert_array_equal(sound_files.read_sound(path, 8000), whole)


def test_a_file_that_claims_hours_is_what_it_holds(tmp_path):
    warnings = []
    clip = sound_files.read_sound(claims_hours(tmp_path / "a.flac"), 8000, warn=warnings.append)
    assert abs(len(clip) - len(SOUND) / 6) < 2 and len(warnings) == 1


def test_damaged_files_are_a_clip_or_a_sentence(tmp_path):
    answers = [fuzz.answer(seed, tmp_path) for seed in range(400)]
    assert [(seed, said) for seed, said in enumerate(answers) if said not in ("clip", "sentence")] == []
    assert min(answers.count("clip"), answers.count("sentence")) > 50


@pytest.fixture
def mixed(tones, tmp_path):
    """The tones with four bad files among them."""
    root = shutil.copytree(tones, tmp_path / "root")
    (root / "data/01/5_01_9.wav").write_bytes(b"no sound")
    cut(root / "data/02/5_02_3.wav", 0.01)
    cut(root / "data/02/5_02_2.wav")
    cut(root / "data/02/5_02_1.wav")
    shutil.copy(root / "data/03/5_03_3.wav", root / "data/03/5_03_03.wav")
    shutil.copy(root / "data/03/5_03_3.wav", root / "data/03/12_03_3.wav")
    return root


def test_bad_files_can_be_left_out(run_cli, mixed, tmp_path):
    args = (f"{CNN}:audiomnist", f"--config.data.root={mixed}", f"--config.data.cache={tmp_path / 'cache'}")
    code, _, err = run_cli("prepare", *args)
    assert code == 1 and len(err.splitlines()) == 1 and "--config.data.on_bad_file=skip" in err
    for _ in range(2):  # made, and from the cache
        code, out, err = run_cli("prepare", *args, "--config.data.on_bad_file=skip")
        assert code == 0 and "199 clips of 5 speakers" in out and "4 of 203 files of audiomnist" in err
        assert err.count("2 of 199 files of audiomnist") == 1
        for name in ("5_01_9.wav cannot", "5_02_3.wav cannot", "5_03_3.wav is the same take", "12_03_3.wav is not"):
            assert name in err, name
    assert run_cli("prepare", *args)[0] == 1
    for listed in ("02/5_02_3.wav", "03/5_03_03.wav", "03/12_03_3.wav"):
        (mixed / "data" / listed).unlink()
    assert run_cli("prepare", *args, "--config.data.on_bad_file=skip")[0] == 0
    code, _, err = run_cli("prepare", *args)  # the cache of the one is not believed by the other
    assert code == 1 and "5_01_9.wav cannot" in err


def test_a_file_shorter_than_its_header_does_not_stop_a_run(run_cli, tones, tmp_path):
    root = shutil.copytree(tones, tmp_path / "root")
    args = (f"{CNN}:audiomnist,split=random", f"--config.data.root={root}", f"--config.data.cache={tmp_path / 'cache'}")
    for path in (root / "data/02/5_02_2.wav", root / "data/03/1_03_0.wav"):
        cut(path, 0.9)
    for _ in range(2):  # made, and from the cache
        code, out, err = run_cli("prepare", *args)
        warning = without_progress(err).splitlines()
        assert code == 0 and "200 clips" in out and len(warning) == 1 and "2 of 200 files" in warning[0]
        assert "1_03_0.wav has" in warning[0]


@pytest.mark.parametrize("fault", ["scale", "cancel", "silent"])
def test_what_cannot_be_learnt_from_is_a_bad_file(run_cli, tones, tmp_path, fault):
    root = shutil.copytree(tones, tmp_path / "root")
    args = (f"{CNN}:audiomnist", f"--config.data.root={root}", f"--config.data.cache={tmp_path / 'cache'}")
    sound = tone(5, 2, 1)
    sounds = {"scale": sound * 32768, "cancel": np.stack([sound, -sound], 1), "silent": sound * 0}
    write(root / "data/02/5_02_1.wav", sounds[fault], 8000, subtype="FLOAT")
    code, _, err = run_cli("prepare", *args)
    assert code == 1 and "5_02_1.wav" in err and fault in err and "--config.data.on_bad_file=skip" in err
    code, out, err = run_cli("prepare", *args, "--config.data.on_bad_file=skip")
    assert code == 0 and "199 clips" in out and "1 of 200 files of audiomnist" in err


def test_no_good_file_at_all_is_one_sentence_and_no_cache(run_cli, mixed, tmp_path):
    for path in mixed.rglob("*.wav"):
        path.write_bytes(b"no sound")
    args = (f"{CNN}:audiomnist", f"--config.data.root={mixed}", f"--config.data.cache={tmp_path / 'cache'}")
    for _ in range(2):
        code, _, err = run_cli("prepare", *args, "--config.data.on_bad_file=skip")
        assert code == 1 and f"{mixed} has no usable sound: 203 files are bad, as " in err
        assert "remove it" in err and len(without_progress(err).splitlines()) == 1
        assert not list((tmp_path / "cache").iterdir())


def test_a_build_by_another_rule_meanwhile_costs_time_and_nothing_else(tones, tmp_path):
    def build(on_bad_file, progress=lambda done, total: None):
        read_all = dict(rate_hz=8000, on_bad_file=on_bad_file, folder=tmp_path, progress=progress)
        return cache.load_or_build(sources.audiomnist(tones), **read_all)[0]

    calls = []

    def meanwhile(done, total):
        calls.append(done)
        if len(calls) == 1:
            build("skip")

    assert len(build("stop", meanwhile)) == 200 and len(calls) == 400
    assert len(build("stop", meanwhile)) == 200 and len(calls) == 400


@pytest.mark.slow
def test_a_folder_of_words_works_in_every_command(run_cli, tmp_path):
    root = tmp_path / "words"
    for number, word in enumerate(("no", "stop", "yes")):
        for voice, speaker in enumerate(("ann", "bob"), start=1):
            for take in range(10):
                write(root / word / f"{speaker}_nohash_{take}.wav", tone(3 * number, voice, take), 8000)
    write(root / "_background_" / "noise.wav")
    write(root / "stop" / "other.flac", tone(3, 1, 77), 8000)
    args = [f"{CNN}:folder", f"--config.data.root={root}", f"--config.data.cache={tmp_path / 'cache'}"]
    code, out, err = run_cli("prepare", *args)
    assert code == 0 and err == "preparing folder: 61 files\n" and "61 clips of 3 speakers, 3 labels" in out
    tiny = ("length_samples=1024", "batch_size=10", "num_epochs=8", "log_every_steps=4")
    args += [f"--config.train.{key}" for key in tiny]
    code, out, err = run_cli("main", *args, f"--workdir={tmp_path / 'run'}")
    assert code == 0 and err == "" and "start with" in out
    assert "stop" in run_cli("evaluate", "--workdir", tmp_path / "run")[1]
    code, out, _ = run_cli("predict", "--workdir", tmp_path / "run", "--json", root / "yes" / "ann_nohash_0.wav")
    assert code == 0 and '"label": "yes"' in out and '"digit"' not in out
    (root / "stray.wav").write_bytes(b"")
    assert "is not in the folder of a word" in run_cli("prepare", *args)[2]
    shutil.rmtree(root / "yes")
    shutil.rmtree(root / "no")
    assert "needs at least two folders" in run_cli("prepare", *args)[2]


@pytest.mark.parametrize(
    "key, value",
    [
        ("train.num_epochs", 0), ("train.batch_size", 0), ("train.log_every_steps", 0), ("train.length_samples", 127),
        ("seed", -1), ("data.rate_hz", 0), ("synthetic.num_voices", 100), ("synthetic.num_takes", 0),
        ("optimizer.learning_rate", "nan"), ("optimizer.learning_rate", 0), ("optimizer.momentum", 1),
        ("augment.noise_snr_db", "(10,)"), ("augment.noise_snr_db", "(20,10)"), ("augment.speed", -0.1),
        ("train.label_smoothing", 1), ("model.dropout", 1), ("model.dtype", "float23"), ("data.on_bad_file", "ignore"),
        ("data.source", "audiomnst"), ("wandb.mode", "on"), ("split.fold", 7), ("optimizer.warmup_steps", -1),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_sentence(run_cli, tiny_args, tmp_path, key, value):
    code, out, err = run_cli("main", *tiny_args, f"--config.{key}={value}", f"--workdir={tmp_path / 'run'}")
    assert code == 1 and "Data:" not in out and len(without_progress(err).splitlines()) == 1 and f"config.{key}" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_one_sentence(run_cli, tiny_args, tmp_path):
    (tmp_path / "file").write_text("a file, where a folder is wanted")
    for flags in ([f"--workdir={tmp_path / 'file' / 'run'}"], [f"--config.data.cache={tmp_path / 'file' / 'cache'}"]):
        code, _, err = run_cli("main", *tiny_args, f"--workdir={tmp_path / 'run'}", *flags)
        assert code == 1 and len(without_progress(err).splitlines()) == 1 and str(tmp_path / "file") in err


def run_on_a_full_disk(tiny_args, workdir, num_kib):
    """Trains where no file may grow beyond `num_kib`: the same error as on a disk without room, for one process."""
    start = [sys.executable, "-m", "audiojax.main", *tiny_args, f"--workdir={workdir}"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    limited = ["bash", "-c", f'ulimit -f {num_kib}; exec "$@"', "bash", *map(str, start)]
    return subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_disk_that_fills_up_while_the_cache_is_made(tiny_args, tiny_config, tmp_path):
    args = [*tiny_args, f"--config.data.cache={tmp_path / 'cache'}"]
    ended = run_on_a_full_disk(args, tmp_path / "run", 100)
    progress, sentence = ended.stderr.splitlines()
    assert ended.returncode == 1 and progress.startswith("preparing") and "make room" in sentence
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(loading.load_clips(tiny_config(**{"data.cache": tmp_path / "cache"}))) == 200


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_checkpoint_is_saved(tiny_args, tiny_config, trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    (workdir / "summary.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "35")
    ended = run_on_a_full_disk(tiny_args, workdir, 300)
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1 and "make room" in ended.stderr, ended.stderr
    assert restore_variables(workdir, "last")[1] == 28
    assert tasks.train(tiny_config(), workdir)["epochs"] == 5


NOT_A_SUMMARY = ("", "[1]", "null", "7", "{}", '{"epochs": 5}', "[" * 100_000)


@pytest.mark.parametrize("content", NOT_A_SUMMARY, ids=lambda content: content[:20])
def test_a_damaged_summary_is_no_summary(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    assert read_summary(tmp_path, sentence) == {}


@pytest.mark.slow
def test_a_summary_of_other_types_is_no_summary_and_is_written_again(tiny_config, trained_run, tmp_path):
    good = json.loads((trained_run / "summary.json").read_text())
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    for value in (None, "x", [1], {"a": 1}):
        (workdir / "summary.json").write_text(json.dumps(good | {"test/accuracy": value}))
        assert read_summary(workdir, sentence) == {}
    tasks.train(tiny_config(), workdir)
    assert json.loads((workdir / "summary.json").read_text()) == good


TEMPERATURES = ("0", "-1", "NaN", "Infinity", "null", '"x"', "[1]", "1" + "0" * 400)


@pytest.mark.slow
@pytest.mark.parametrize("value", TEMPERATURES)
def test_a_damaged_temperature_is_none(trained_run, tmp_path, value):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    step = restore_variables(workdir, "best")[1]
    (workdir / "calibration.json").write_text(f'{{"temperature_by_step": {{"{step}": {value}}}}}')
    assert Trained.load(workdir).temperature == 1
    (workdir / "calibration.json").write_text("[" * 100_000)
    assert Trained.load(workdir).temperature == 1


def test_damaged_rows_of_a_log_are_dropped(tmp_path):
    lines = ['{"step": 1, "a": 0.5}', "", "{", "[1]", "7", '{"a": 1}', '{"step": "x"}', '{"step": null}', "[" * 100_000]
    lines += ['{"step": 2, "a": "x"}', '{"step": 2, "a": NaN}', '{"step": [2]}', '{"step": 3}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert runlog.read_rows(tmp_path) == [{"step": 1, "a": 0.5}, {"step": 3}]


@pytest.mark.slow
def test_wrong_types_in_a_saved_config_are_one_sentence(run_cli, trained_run, tiny_args, tones, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    good = json.loads((workdir / "config.json").read_text())
    sections = [name for name, value in good["config"].items() if isinstance(value, dict)]
    keys = [("config", section, key) for section in sections for key in good["config"][section]]
    keys += [("config", "seed"), ("config", "init_from"), *(("data", key) for key in ("source", "key", "label_names"))]
    keys += [("config", section) for section in sections]
    for *sections, key in keys:
        for value in (None, {"a": 1}, [[1]], True if key != "batch_norm" else "yes"):
            if isinstance(value, dict) and not len(sections) > 1 and key not in ("seed", "key"):
                continue  # a section of unknown keys
            saved = copy.deepcopy(good)
            of = functools.reduce(dict.__getitem__, sections, saved)
            if isinstance(of[key], bool) and isinstance(value, bool):
                continue
            of[key] = value
            (workdir / "config.json").write_text(json.dumps(saved))
            with pytest.raises(InputError, match=r"config\.json is damaged"):
                run_dir.load(workdir)
    nameless = json.dumps(good | {"data": good["data"] | {"label_names": []}})
    for content in ("[1]", "null", "", "{}", '{"config": 1, "data": 2}', "[" * 100_000, nameless):
        (workdir / "config.json").write_text(content)
        for command in (("evaluate",), ("predict", tones / "data/01/3_01_0.wav"), ("main", *tiny_args)):
            code, _, err = run_cli(command[0], *command[1:], f"--workdir={workdir}")
            assert code == 1 and "config.json is damaged" in without_progress(err).splitlines()[-1]


SYNTHESISE = """
from pathlib import Path
from audiojax import cli
from audiojax.synthesis import espeak, formant, phrases
digits, words = dict(num_voices=1, num_takes=1, seed=1), dict(part="train", num_voices=1, seed=1)
folder, progress = Path({folder!r}), lambda done, total: None
cli.run(lambda argv: {call})
"""
SYNTHESISERS = {
    "synthetic": "formant.write(folder, **digits, progress=progress)",
    "espeak": "espeak.write(folder, **digits, progress=progress)",
    "synthetic phrases": 'phrases.write_phrases(folder, source="synthetic", **words, progress=progress)',
    "espeak phrases": 'phrases.write_phrases(folder, source="espeak", **words, progress=progress)',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYNTHESISERS)
def test_a_disk_that_fills_up_while_voices_are_synthesised(tmp_path, name):
    if name.startswith("espeak"):
        pytest.importorskip("espeakng_loader")
    code = SYNTHESISE.format(folder=str(tmp_path / "voices"), call=SYNTHESISERS[name])
    limited = ["bash", "-c", f'ulimit -f 8; exec "{sys.executable}" -c "$1"', "bash", code]
    ended = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1 and "make room" in ended.stderr, ended.stderr
    assert ".wav" in ended.stderr and not list(tmp_path.iterdir())


# Root, too, may then write only what permissions allow: CAP_DAC_OVERRIDE is dropped.
BOUND_BY_PERMISSIONS = """
import ctypes, os, sys
if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.slow
def test_evaluate_works_on_a_workdir_that_may_not_be_written(trained_run, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    for name in ("report.html", "calibration.json"):
        (workdir / name).unlink()
    shutil.rmtree(workdir / "plots")
    before = sorted(workdir.rglob("*"))
    for path in (workdir, *workdir.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [sys.executable, "-c", BOUND_BY_PERMISSIONS, "-m", "audiojax.evaluate", f"--workdir={workdir}", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for path in (workdir, *workdir.rglob("*")):
        path.chmod(0o755)
    if done.returncode == 77:
        pytest.skip("root cannot give up the right to write everywhere here")
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1 and str(workdir) in done.stderr, done.stderr
    assert sorted(workdir.rglob("*")) == before
    assert json.loads(done.stdout)["clips"] == 40
