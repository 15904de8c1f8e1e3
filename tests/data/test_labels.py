"""What is learnt: digits, or the sex of who speaks, on Becker et al.'s own folds."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from built_clips import clips_of
from conftest import DATA

from audiojax import tasks
from audiojax.data import labels, splits
from audiojax.data.clips import Speaker
from audiojax.data.sources import read_metadata
from audiojax.errors import InputError
from audiojax.training import run_dir

BLOCKS = ("36 47 56 02 44 50", "26 12 57 25 37 45", "43 28 52 48 53 41", "58 59 60 07 23 38")
WOMEN = {name for block in BLOCKS for name in block.split()[:3]}


def sixty(source="audiomnist", unknown=()):
    clips = clips_of([f"{number:02d}" for number in range(1, 61)], takes=1, source=source)
    sexes = {name: "female" if name in WOMEN else "male" for name in clips.speakers} | dict.fromkeys(unknown, "unknown")
    return dataclasses.replace(clips, speakers={name: Speaker(sex) for name, sex in sexes.items()})


def test_digits_are_the_clips_as_they_are_and_the_sex_is_another_label_of_the_same_sound():
    clips = sixty()
    assert labels.choose(clips, "digit") is clips
    sex = labels.choose(clips, "sex")
    assert sex.samples is clips.samples and sex.label_names == ("female", "male") and sex.key != clips.key
    assert {name for name, label in zip(sex.speaker, sex.label, strict=True) if label == 0} == WOMEN


def test_who_is_unknown_is_left_out_with_the_sound():
    clips = sixty(unknown=("01", "36"))
    sex = labels.choose(clips, "sex")
    there = np.flatnonzero(~np.isin(clips.speaker, ["01", "36"]))
    assert len(sex) == len(there) == len(clips) - 20 and not {"01", "36"} & set(sex.speakers)
    for i, index in enumerate(there):
        assert sex.path[i] == clips.path[index]
        np.testing.assert_array_equal(sex[i], clips[index])
    with pytest.raises(InputError, match=r"\b24 speakers.*\b36\b"):
        splits.make(sex, name="folds", fold=0, seed=0)


def test_the_sex_folds_are_beckers():
    clips, tested = labels.choose(sixty(), "sex"), []
    for fold in range(4):
        split = splits.make(clips, name="folds", fold=fold, seed=0)
        parts = {part: set(clips.speaker[indices]) for part, indices in split._asdict().items()}
        block = [set(BLOCKS[(fold + i) % 4].split()) for i in range(4)]
        assert parts == {"train": block[0] | block[1], "validation": block[2], "test": block[3]}
        for indices in split:
            assert (clips.label[indices] == 0).mean() == 0.5
        tested.append(split.test)
    every = np.concatenate(tested)
    assert len(every) == len(set(every.tolist())) == 240
    with pytest.raises(InputError, match="0 to 3"):
        splits.make(clips, name="folds", fold=4, seed=0)


def test_other_sources_deal_both_sexes_to_every_block():
    clips = labels.choose(sixty("synthetic"), "sex")
    for fold in range(4):
        for indices in splits.make(clips, name="folds", fold=fold, seed=0):
            assert 0.1 < (clips.label[indices] == 0).mean() < 0.3  # 12 of 60


def test_half_of_each_published_block_are_women():
    path = DATA / "audiomnist" / "data" / "audioMNIST_meta.txt"
    if not path.exists():
        pytest.skip("the variable AUDIOJAX_DATA does not name a folder that holds audiomnist/data/audioMNIST_meta.txt")
    speakers = read_metadata(path)
    for block in splits.AUDIOMNIST_SEX_BLOCKS:
        assert [speakers[f"{number:02d}"].sex for number in block] == 3 * ["female"] + 3 * ["male"]


@pytest.mark.parametrize("sex, words", [("unknown", "no speaker's sex"), ("male", "only male speakers")])
def test_a_sex_that_cannot_be_learnt_is_one_sentence(sex, words):
    clips = sixty()
    clips = dataclasses.replace(clips, speakers=dict.fromkeys(clips.speakers, Speaker(sex)))
    with pytest.raises(InputError, match=rf"config\.data\.target.*'sex'.*audiomnist.*{words}"):
        labels.choose(clips, "sex")
    with pytest.raises(InputError, match=r"config\.data\.target.*'age'.*digit, sex"):
        labels.choose(clips, "age")


@pytest.mark.slow
def test_a_run_learns_the_sex_and_its_commands_say_so(tiny_config, tones, tmp_path, run_cli):
    root = tmp_path / "tones"
    shutil.copytree(tones, root)
    meta = {f"{i:02d}": {"gender": "female" if i % 2 else "male"} for i in range(1, 5)}  # and nothing of 05
    (root / "data" / "audioMNIST_meta.txt").write_text(json.dumps(meta))
    config = tiny_config(**{"data.root": root, "data.target": "sex", "train.num_epochs": 1})
    tasks.train(config, tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["data"]["label_names"] == ["female", "male"]
    code, out, err = run_cli("evaluate", "--workdir", tmp_path / "run", "--json")
    assert code == 0 and set(json.loads(out.splitlines()[-1])["accuracy_by_label"]) == {"female", "male"}
    assert re.search(r"\b40 of 200 clips of audiomnist\b.*\bsex\b", err)
    code, out, _ = run_cli("predict", "--workdir", tmp_path / "run", "--json", root / "data/01/7_01_0.wav")
    assert code == 0 and json.loads(out)["label"] in ("female", "male")


def test_runs_from_before_a_key_did_what_its_default_does(trained_run, tmp_path):
    saved = json.loads((trained_run / "config.json").read_text())
    del saved["config"]["data"]["target"], saved["config"]["augment"]["max_margin_samples"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    config, data = run_dir.load(tmp_path)
    assert config.data.target == "digit"
    run_dir.check_resumable(tmp_path, run_dir.load(trained_run)[0], data)
