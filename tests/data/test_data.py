"""Sources, preprocessing, the cache and the splits, on real files."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pytest
import soundfile
from built_clips import build, clips_of

from audiojax.audio import sound_files
from audiojax.audio.signal import fit_length, loudest_part, prepare_clip
from audiojax.data import cache, sources, splits
from audiojax.data.clips import Clips, Speaker
from audiojax.errors import InputError


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("rate_hz, channels", [(8000, 1), (44100, 2), (48000, 3)])
def test_any_width_rate_and_channel_count_reads_as_the_same_sound(tmp_path, subtype, rate_hz, channels):
    t = np.arange(rate_hz // 2) / rate_hz
    sound = 0.5 * np.sin(2 * np.pi * 440 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([sound] * channels, axis=1), rate_hz, subtype=subtype)
    clip = sound_files.read_sound(tmp_path / "a.wav", 8000)
    assert clip.dtype == np.int16 and abs(len(clip) - 4000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(clip)) / 8000) * 32768
    tolerance = 700 if subtype in ("PCM_U8", "ULAW") else 40
    assert np.abs(clip - expected)[200:-200].max() < tolerance


def test_mono_is_the_average_and_nothing_aliases():
    left, right = np.full(800, 0.5, np.float32), np.full(800, -0.25, np.float32)
    np.testing.assert_array_equal(prepare_clip(np.stack([left, right], 1), 8000, 8000), np.full(800, 4096, np.int16))
    above_nyquist = np.sin(2 * np.pi * 5000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(prepare_clip(above_nyquist, 48000, 8000)[400:-400]).max() <= 1


def test_loud_sound_is_clipped_not_wrapped():
    assert prepare_clip(np.asarray([2.0, -2.0, 1.0], np.float32), 8000, 8000).tolist() == [32767, -32768, 32767]


@pytest.mark.parametrize("audio", [np.zeros(0, np.float32), np.asarray([0.0, np.nan], np.float32)])
def test_unusable_samples_are_refused(audio):
    with pytest.raises(InputError):
        prepare_clip(audio, 48000, 8000)


def test_fit_length_pads_truncates_and_overwrites():
    out = np.full(4, 9, np.int16)
    assert fit_length(np.asarray([1, 2], np.int16), out) == 2 and out.tolist() == [1, 2, 0, 0]
    assert fit_length(np.arange(9, dtype=np.int16), out) == 4 and out.tolist() == [0, 1, 2, 3]


def test_loudest_part_finds_the_word():
    clip = np.zeros(3000, np.int16)
    clip[1700:2400] = 20000
    part = loudest_part(clip, 1000)
    assert len(part) == 1000 and part.astype(float).sum() == clip.astype(float).sum()
    assert loudest_part(clip[:500], 1000) is not None and len(loudest_part(clip[:500], 1000)) == 500


def test_audiomnist_metadata_with_its_oddities(tones, tmp_path):
    root = shutil.copytree(tones, tmp_path / "root")
    meta = {
        "01": {"age": 30, "gender": "male", "accent": "german"},
        "02": {"age": "25", "gender": "female", "accent": "German"},
        "03": {"age": "1234", "gender": "male", "accent": "Chinese"},
    }
    (root / "data" / "audioMNIST_meta.txt").write_text(json.dumps(meta))
    clips = build(root, tmp_path / "cache")
    assert clips.speakers["01"] == Speaker("male", "German", 30)
    assert clips.speakers["02"] == Speaker("female", "German", 25)
    assert clips.speakers["03"] == Speaker("male", "Chinese", None)
    assert clips.speakers["04"] == clips.speakers["05"] == Speaker()


def test_the_cache_holds_every_clip_untruncated_and_grouped_by_label(tones, tmp_path):
    clips = build(tones, tmp_path)
    assert len(clips) == 200 and clips.rate_hz == 8000 and clips.label_names[4] == "four"
    assert (np.diff(clips.label) >= 0).all() and set(clips.label.tolist()) == set(range(10))
    for index in (0, 57, 199):
        expected = sound_files.read_sound(tones / clips.path[index], 8000)
        np.testing.assert_array_equal(clips[index], expected)
        assert clips.path[index].endswith(f"{clips.label[index]}_{clips.speaker[index]}_{clips.take[index]}.wav")


def test_a_second_start_reads_the_cache_and_nothing_else(tones, tmp_path):
    first = build(tones, tmp_path)

    def never(done, total):
        raise AssertionError("built again")

    second = build(tones, tmp_path, progress=never)
    assert isinstance(second.samples, np.memmap)
    for field in dataclasses.fields(Clips):
        assert np.all(getattr(first, field.name) == getattr(second, field.name)), field.name


def test_a_changed_file_or_rate_is_noticed(tones, tmp_path):
    root = shutil.copytree(tones, tmp_path / "root")
    before = build(root, tmp_path / "cache")
    os.utime(root / "data" / "01" / "0_01_0.wav", ns=(1, 1))
    calls = []
    touched = build(root, tmp_path / "cache", progress=lambda done, total: calls.append(done))
    assert calls and touched.key == before.key  # made again, and found the same
    soundfile.write(root / "data" / "01" / "0_01_0.wav", np.tile([0.25, -0.25], 450), 8000)
    after = build(root, tmp_path / "cache")
    assert after.key != before.key and set(np.abs(after[0])) == {8192}
    assert build(root, tmp_path / "cache", rate_hz=4000).rate_hz == 4000


def test_processes_read_what_one_reads(tones, tmp_path, monkeypatch):
    alone = build(tones, tmp_path / "a")
    monkeypatch.setattr(cache, "_CLIPS_PER_TASK", 30)
    together = build(tones, tmp_path / "b")
    np.testing.assert_array_equal(alone.samples, together.samples)
    assert alone.key == together.key


def _build_slowly(root, folder):
    build(root, folder, progress=lambda done, total: time.sleep(0.01))


def test_a_killed_build_leaves_nothing_that_is_believed(tones, tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_build_slowly, args=(tones, tmp_path))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("*.partial-*/samples.int16")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [path.name for path in tmp_path.iterdir() if ".partial-" not in path.name] == []
    assert len(build(tones, tmp_path)) == 200
    assert not list(tmp_path.glob("*.partial-*"))


@pytest.mark.slow
def test_two_first_builds_at_once_make_one_cache_that_its_readers_keep(tones, tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build_slowly, args=(tones, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    made = set()
    while any(process.is_alive() for process in processes):
        made |= {path.stat().st_ino for path in tmp_path.iterdir() if ".partial-" not in path.name}
        time.sleep(0.002)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(made) == 1 and len(list(tmp_path.iterdir())) == 1 and len(build(tones, tmp_path)) == 200


def test_a_damaged_cache_is_made_again(tones, tmp_path):
    whole = np.array(build(tones, tmp_path).samples)
    [samples] = tmp_path.glob("*/samples.int16")
    samples.write_bytes(samples.read_bytes()[:-2])
    again = build(tones, tmp_path)
    np.testing.assert_array_equal(again.samples, whole)


def zero_samples(folder):
    """Overwrites samples in the middle of the file, and gives it the time that it had."""
    path = folder / "samples.int16"
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(stat.st_size // 2)
        file.write(bytes(400))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def swap_blocks(folder):
    path = folder / "samples.int16"
    content = path.read_bytes()
    path.write_bytes(content[2000:4000] + content[:2000] + content[4000:])


def change_manifest(change):
    def damage(folder):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage


def lengthen(manifest):
    """Makes one clip's length negative and another longer, so that the sum stays."""
    length = manifest["clips"]["length"]
    length[:2] = -length[0], 2 * length[0] + length[1]


DAMAGES = {
    "zeroed": zero_samples,
    "swapped": swap_blocks,
    "labels shifted": change_manifest(lambda m: m["clips"]["label"].append(m["clips"]["label"].pop(0))),
    "a label of 99": change_manifest(lambda m: m["clips"]["label"].__setitem__(7, 99)),
    "a negative length": change_manifest(lengthen),
    "a speaker": change_manifest(lambda m: m["clips"]["speaker"].__setitem__(7, "05")),
    "a take": change_manifest(lambda m: m["clips"]["take"].__setitem__(7, 3000)),
    "a path": change_manifest(lambda m: m["clips"]["path"].reverse()),
    "names": change_manifest(lambda m: m["label_names"].reverse()),
    "the table": change_manifest(lambda m: m["speakers"].__setitem__("01", ["female", "French", 20])),
    "the rate": change_manifest(lambda m: m.__setitem__("rate_hz", 16000)),
    "the key": change_manifest(lambda m: m.__setitem__("key", "0")),
    "skipped": change_manifest(lambda m: m["skipped"].append("a.wav is bad.")),
    "checksums": change_manifest(lambda m: m.__setitem__("checksums", [])),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_of_the_right_size_is_found_by_the_next_process(tones, tmp_path, damage, monkeypatch):
    before = build(tones, tmp_path)
    expected = dataclasses.replace(before, samples=np.array(before.samples))  # the other one is mapped
    [folder] = tmp_path.iterdir()
    damage(folder)
    monkeypatch.setattr(cache, "_verified", set())  # as in a process that starts now
    calls = []
    after = build(tones, tmp_path, progress=lambda done, total: calls.append(done))
    assert calls
    for field in dataclasses.fields(Clips):
        assert np.all(getattr(expected, field.name) == getattr(after, field.name)), field.name


def test_samples_are_compared_once_for_each_file(tones, tmp_path, monkeypatch):
    compared, checksums = [], cache._checksums
    build(tones, tmp_path)
    monkeypatch.setattr(cache, "_verified", set())
    monkeypatch.setattr(cache, "_checksums", lambda samples: compared.append(len(samples)) or checksums(samples))
    for _ in range(3):
        build(tones, tmp_path)
    assert len(compared) == 1
    [path] = tmp_path.glob("*/samples.int16")
    os.utime(path, ns=(1, 1))
    build(tones, tmp_path)
    assert len(compared) == 2
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)  # in the same process: another time of change
    calls = []
    build(tones, tmp_path, progress=lambda done, total: calls.append(done))
    assert calls and path.read_bytes() != content


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: [],
        lambda manifest: None,
        lambda manifest: manifest | {"clips": None},
        lambda manifest: manifest | {"clips": manifest["clips"] | {"label": [0]}},
        lambda manifest: manifest | {"speakers": {"01": 5}},
        lambda manifest: {name: value for name, value in manifest.items() if name != "key"},
    ],
)
def test_a_manifest_of_another_shape_is_no_cache(tones, tmp_path, change):
    before = build(tones, tmp_path)
    [path] = tmp_path.glob("*/manifest.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    after = build(tones, tmp_path)
    assert after.key == before.key and len(after) == len(after.path) == 200 and after.speakers == before.speakers


@pytest.mark.parametrize(
    "path, content, words",
    [
        ("data/01/x_01_0.wav", b"", "not named like"),
        ("data/01/0_02_0.wav", b"", "not named like"),
        ("data/01/0_01_9.wav", b"no sound at all", "cannot be read as sound"),
        ("data/01/0_01_9.wav", b"", "cannot be read as sound .it is empty"),
        ("data/audioMNIST_meta.txt", b"[1, 2", "table of speakers"),
    ],
)
def test_bad_files_are_named(tones, tmp_path, path, content, words):
    root = shutil.copytree(tones, tmp_path / "root")
    (root / path).write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        build(root, tmp_path / "cache")
    assert str(root / path) in str(error.value)


@pytest.mark.parametrize("read", [sources.audiomnist, sources.fsdd])
def test_a_missing_or_empty_root_is_one_sentence(tmp_path, read):
    with pytest.raises(InputError, match=r"config\.data\.root"):
        read(tmp_path / "nowhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "recordings").mkdir()
    with pytest.raises(InputError, match="holds no"):
        read(tmp_path)


@pytest.mark.slow
def test_real_fsdd(real_fsdd, tmp_path):
    clips = build(real_fsdd, tmp_path, read=sources.fsdd)
    assert len(clips) == 3000 and sorted(clips.speakers) == [
        "george",
        "jackson",
        "lucas",
        "nicolas",
        "theo",
        "yweweler",
    ]
    assert (np.bincount(clips.label) == 300).all() and clips.length.max() > 16000
    official = splits.official(clips)
    assert [len(part) for part in official] == [2400, 300, 300]
    assert set(clips.take[official.test]) == set(range(5))


AUDIOMNIST = clips_of([f"{number:02d}" for number in range(1, 61)], takes=5)
SYNTHETIC = clips_of([f"{number:02d}" for number in range(1, 21)], source="synthetic")
FSDD = clips_of(["george", "jackson", "lucas", "nicolas", "theo", "yweweler"], takes=50, source="fsdd")


@pytest.mark.parametrize("clips", [AUDIOMNIST, SYNTHETIC, FSDD], ids=lambda clips: clips.source)
@pytest.mark.parametrize("name, fold", [("random", 0), ("folds", 0), ("folds", 3), ("speaker", 5)])
def test_every_clip_is_on_one_side_only(clips, name, fold):
    split = splits.make(clips, name=name, fold=fold, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(len(clips)))
    if name != "random":
        voices = [set(clips.speaker[part]) for part in split]
        assert not (voices[0] & voices[1] or voices[0] & voices[2] or voices[1] & voices[2])


def test_the_random_split_is_80_20_in_each_label_and_seeded():
    split = splits.random(FSDD, seed=3)
    assert [len(part) for part in split] == [2160, 240, 600]
    assert (np.bincount(FSDD.label[split.test]) == 60).all() and (np.bincount(FSDD.label[split.validation]) == 24).all()
    assert (np.diff(FSDD.label[split.train]) < 0).any()  # shuffled
    for part, same in zip(split, splits.random(FSDD, seed=3), strict=True):
        np.testing.assert_array_equal(part, same)
    assert (split.test != splits.random(FSDD, seed=4).test).any()


def test_the_folds_are_beckers():
    for fold, first in enumerate(["26", "28", "36", "43", "12"]):  # the first test speaker: blocks E, A, B, C, D
        split = splits.folds(AUDIOMNIST, fold=fold)
        assert [len(part) for part in split] == [1800, 600, 600]
        test_block = (fold + 4) % 5
        expected = {f"{number:02d}" for number in splits.AUDIOMNIST_BLOCKS[test_block]}
        assert set(AUDIOMNIST.speaker[split.test]) == expected and first in expected
    assert sorted(np.concatenate(splits.AUDIOMNIST_BLOCKS).tolist()) == list(range(1, 61))
    assert set(AUDIOMNIST.speaker[splits.folds(AUDIOMNIST, fold=0).validation]) == {
        "12", "47", "59", "15", "27", "41", "04", "11", "21", "31", "44", "50",
    }  # fmt: skip


def test_leaving_one_speaker_out():
    split = splits.speaker(FSDD, fold=5)
    assert set(FSDD.speaker[split.test]) == {"yweweler"} and set(FSDD.speaker[split.validation]) == {"george"}


@pytest.mark.parametrize(
    "clips, name, fold, words",
    [
        (FSDD, "kfold", 0, "random, official, folds or speaker"),
        (FSDD, "folds", 5, "0 to 4"),
        (FSDD, "random", 1, "has no folds"),
        (FSDD, "official", 2, "has no folds"),
        (FSDD, "speaker", 6, "0 to 5"),
        (SYNTHETIC, "official", 0, "belongs to fsdd"),
        (clips_of(["01", "02"]), "folds", 0, "all 60 speakers"),
        (clips_of(["a", "b"], source="fsdd"), "speaker", 0, "no clip for train"),
    ],
)
def test_a_split_that_cannot_be_is_one_sentence(clips, name, fold, words):
    with pytest.raises(InputError, match=words):
        splits.make(clips, name=name, fold=fold, seed=0)
