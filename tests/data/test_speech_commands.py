"""Google's Speech Commands: words, the lists, the noises, and the tasks that are made of them."""

import csv
import dataclasses

import numpy as np
import pytest
import soundfile
from conftest import DATA, ROOT, tone

from audiojax import cli, tasks
from audiojax.data import loading, speech_commands
from audiojax.errors import InputError
from audiojax.schema import DIGITS

OTHERS = ("bed", "cat", "tree")
PARTS = {"validation": "5", "test": "6"}  # by speaker; all others are for training


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The layout of version 2 with seven speakers, a take each of 23 words, and two noises."""
    root = tmp_path_factory.mktemp("speech_commands")
    listed = {part: [] for part in PARTS}
    for label, word in enumerate((*speech_commands.COMMANDS, *DIGITS, *OTHERS)):
        (root / word).mkdir()
        for speaker in range(7):
            path = f"{word}/{speaker}abcdef{speaker}_nohash_0.wav"
            soundfile.write(root / path, tone(label, speaker, 0), 8000)
            for part, who in PARTS.items():
                listed[part] += [path] if str(speaker) == who else []
    for part, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        (root / name).write_text("\n".join(listed[part]) + "\n")
    (root / speech_commands.NOISE).mkdir()
    for number, name in enumerate(("running_tap", "white_noise")):
        noise = np.random.default_rng(number).integers(-9000, 9000, 20_000).astype(np.int16)
        soundfile.write(root / speech_commands.NOISE / f"{name}.wav", noise, 8000)
    (root / "README.md").write_text("not a sound")
    return root


def loaded(root, target, cache, *flags):
    args = [f"--config={ROOT}/configs/spectrogram.py:speech_commands", f"--config.data.root={root}", *flags]
    args += [f"--config.data.target={target}", f"--config.data.cache={cache}"]
    return loading.load_split(read(*args))


def read(*args):
    return cli.parse_with_config(cli.parser("test", ""), args)[1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("target, number", [("words35", 23), ("digit", 10)])
def test_words_and_digits_are_split_by_the_lists(root, cache, target, number, capsys):
    clips, split = loaded(root, target, cache)
    assert len(clips.label_names) == number and speech_commands.NOISE not in clips.label_names
    assert target == "words35" or clips.label_names == DIGITS
    assert [len(part) for part in split] == [5 * number, number, number]
    for part, who in PARTS.items():
        assert {name[0] for name in clips.speaker[getattr(split, part)]} == {who}
    index = int(split.test[3])
    word = clips.label_names[clips.label[index]]
    expected = soundfile.read(root / f"{word}/6abcdef6_nohash_0.wav", dtype="int16")[0]
    np.testing.assert_array_equal(clips[index], expected)
    assert "left out" not in capsys.readouterr().err


def test_twelve_labels_have_a_tenth_of_unknown_words_and_of_silence(root, cache):
    clips, split = loaded(root, "words12", cache)
    assert clips.label_names == (*speech_commands.COMMANDS, "_unknown_", "_silence_")
    counts = [np.bincount(clips.label[part], minlength=12).tolist() for part in split]
    assert counts == [[5] * 12, [1] * 12, [1] * 12]  # of 50, 10 and 10 commands
    again, _ = loaded(root, "words12", cache)
    np.testing.assert_array_equal(clips.samples, again.samples)
    assert clips.key == again.key != loaded(root, "words35", cache)[0].key
    noises = [soundfile.read(path, dtype="int16")[0] for path in sorted((root / speech_commands.NOISE).iterdir())]
    for index in np.flatnonzero(clips.label == 11):
        sound = clips[index].astype(float)
        assert len(sound) == 8000
        fits = [max(np.correlate(noise / np.linalg.norm(noise), sound)) for noise in noises]
        assert 0 < np.abs(sound).max() <= 9000 and max(fits) > 0.5 * np.linalg.norm(sound)
    unknown = {clips.path[index].partition("/")[0] for index in np.flatnonzero(clips.label == 10)}
    assert unknown <= {*DIGITS, *OTHERS} and len(unknown) > 2


@pytest.mark.parametrize("target", ["digit", "words35", "words12"])
def test_background_noises_are_kept_for_augmentation(root, cache, target):
    clips, split = loaded(root, target, cache)
    paths = sorted((root / speech_commands.NOISE).iterdir())
    of_source = loading.Data(clips, split, None).noises
    assert len(of_source) == len(paths)
    for noise, path in zip(of_source, paths, strict=True):
        np.testing.assert_array_equal(noise, soundfile.read(path, dtype="int16")[0])
    digits = loaded(root, "digit", cache)[0]
    assert len(loading.Data(dataclasses.replace(digits, noises=()), split, digits).noises) == len(paths)
    assert len(digits.joined(clips).noises) == 2 * len(paths)


def test_a_run_mixes_the_background_noises_into_training_clips(root, cache, tmp_path):
    args = [f"--config={ROOT}/configs/spectrogram.py:speech_commands,runlocal", f"--config.data.root={root}"]
    args += [f"--config.data.cache={cache}", "--config.train.num_epochs=1", "--config.wandb.mode=disabled"]
    args += ["--config.model.channels=(4,)", "--config.augment.recorded_noise=0.8"]
    losses = [tasks.train(read(*args, *more), tmp_path / name)["test/loss"] for name, more in (
        ("recorded", []), ("again", []), ("white", ["--config.augment.recorded_noise=0.0"]))]  # fmt: skip
    assert losses[0] == losses[1] != losses[2]
    without = tmp_path / "without"
    without.mkdir()
    for path in root.iterdir():
        if path.name != speech_commands.NOISE:
            (without / path.name).symlink_to(path)
    with pytest.raises(InputError, match=r"config\.augment\.recorded_noise is 0\.8, but the data has no recordings"):
        tasks.train(read(*args, f"--config.data.root={without}"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("target, absent", [("digit", "nine"), ("words12", "_background_noise_")])
def test_what_a_task_lacks_is_one_sentence(root, tmp_path, target, absent):
    for path in root.iterdir():
        if path.name != absent:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(InputError, match=rf"config\.data\.target is '{target}'.*{absent}"):
        loaded(tmp_path, target, tmp_path / "cache")
    with pytest.raises(InputError, match=r"config\.data\.target is 'words12'; choose one of digit, sex for audiomnist"):
        from audiojax.data import labels, sources

        labels.choose(sources.Recordings("audiomnist", root, (), DIGITS, {}).unread(), "words12")


def test_real_recordings_in_the_layout_of_the_archive(tmp_path, cache):
    index = DATA / "real" / "index.csv"
    if not index.exists():
        pytest.skip("the variable AUDIOJAX_DATA does not name a folder that holds real/index.csv")
    names = {"speech_commands", "speech_commands_words"}
    rows = [row for row in csv.DictReader(index.open()) if row["source"] in names and row["use"] == "train"]
    takes: dict[str, int] = {}
    for row in rows:
        word, speaker = row["label"], row["speaker"].removeprefix("sc_")
        if takes.setdefault(word, 0) == 6:
            continue
        sound, rate_hz = soundfile.read(DATA / "real" / row["file"], dtype="int16")
        (tmp_path / word).mkdir(exist_ok=True)
        soundfile.write(tmp_path / word / f"{speaker}_nohash_{takes[word]}.wav", sound, rate_hz)
        takes[word] += 1
    clips, split = loaded(tmp_path, "words35", cache, "--config.split.name=random")
    assert len(clips.label_names) == len(takes) == 35 and len(clips) == sum(takes.values())
    assert all(len(part) for part in split) and 0.9 < np.median(clips.length) / 8000 <= 1
    assert loaded(tmp_path, "digit", cache, "--config.split.name=random")[0].label_names == DIGITS
