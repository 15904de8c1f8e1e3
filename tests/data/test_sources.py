"""What is listed of a data set: every sound, through links, and nothing that a system or tool left behind."""

import re
import shutil
import textwrap
from pathlib import Path

import built_clips
import numpy as np
import pytest
import soundfile
from conftest import ROOT, tone

from audiojax.data import cache, loading, sources, splits
from audiojax.data.clips import Clips
from audiojax.errors import InputError

CNN = f"--config={ROOT}/configs/cnn.py"
FORMATS = {
    "wav": "WAV", "wave": "WAV", "flac": "FLAC", "ogg": "OGG", "oga": "OGG", "opus": "OGG", "mp3": "MP3", "aif": "AIFF",
    "aiff": "AIFF", "aifc": "AIFF", "caf": "CAF", "au": "AU", "snd": "AU", "w64": "W64", "rf64": "RF64", "voc": "VOC",
}  # fmt: skip
APPLE = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + b"\0" * 120


def write(path: Path, label: int, take: int = 0, format: str = "WAV") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "OPUS" if path.suffix.lower() == ".opus" else None
    soundfile.write(path, tone(label, 1, take), 8000, format=format, subtype=subtype)
    return path


@pytest.fixture
def words(tmp_path) -> Path:
    """Two words of three clips."""
    for label, word in enumerate(("no", "yes")):
        for take in range(3):
            write(tmp_path / "words" / word / f"{take}.wav", label, take)
    return tmp_path / "words"


def paths(recordings: sources.Recordings) -> list[str]:
    return [file.path for file in recordings.files]


def build(recordings: sources.Recordings, folder: Path) -> Clips:
    quiet = {"on_bad_file": "stop", "progress": lambda done, total: None}
    return cache.load_or_build(recordings, rate_hz=8000, folder=folder, **quiet)[0]


def test_a_folder_of_words_takes_every_type_that_the_reader_reads(words, tmp_path):
    for take, (suffix, format) in enumerate(FORMATS.items()):
        write(words / "many" / f"a{take}.{suffix}", 3, take, format)
        write(words / "loud" / f"A{take}.{suffix.upper()}", 4, take, format)
    found = sources.folder(words)
    assert len(found.files) == 6 + 2 * len(FORMATS) and found.label_names == ("loud", "many", "no", "yes")
    assert np.bincount(build(found, tmp_path / "cache").label).tolist() == [len(FORMATS)] * 2 + [3, 3]


@pytest.mark.parametrize("suffix", ["WAV", "Wav", "flac", "MP3", "aiff", "caf", "OPUS"])
def test_the_layouts_of_digits_take_them_too(tmp_path, suffix):
    format = FORMATS[suffix.lower()]
    for digit in range(10):
        write(tmp_path / "fsdd" / "recordings" / f"{digit}_THEO_0.{suffix}", digit, 0, format)
        write(tmp_path / "audiomnist" / "data" / "01" / f"{digit}_01_0.{suffix}", digit, 0, format)
    for read in (sources.fsdd, sources.audiomnist):
        found = read(tmp_path / read.__name__)
        assert [file.label for file in found.files] == list(range(10))
        assert len(build(found, tmp_path / "cache")) == 10
    assert sources.fsdd(tmp_path / "fsdd").speakers["THEO"].accent == "USA"


@pytest.mark.parametrize("suffix", ["m4a", "WEBM", "wma", "aac"])
def test_a_sound_of_a_type_that_cannot_be_read_is_named_and_not_passed_over(words, tmp_path, suffix, run_cli):
    path = words / "no" / f"phone.{suffix}"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + b"\0" * 300)
    args = (f"{CNN}:folder", f"--config.data.root={words}", f"--config.data.cache={tmp_path / 'cache'}")
    code, _, err = run_cli("prepare", *args)
    assert code == 1 and str(path) in err
    code, out, err = run_cli("prepare", *args, "--config.data.on_bad_file=skip")
    assert code == 0 and str(path) in err and "1 of 7 files" in err and "6 clips" in out


def test_links_are_followed_once(words, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for take in range(2):
        write(elsewhere / "maybe" / f"{take}.wav", 5, take)
        write(elsewhere / f"{take}.wav", 6, take)
    (words / "maybe").symlink_to("../elsewhere/maybe")
    (words / "no" / "linked.wav").symlink_to(elsewhere / "0.wav")
    (elsewhere / "maybe" / "loop").symlink_to(words)
    (words / "no" / "self").symlink_to(".")
    (words / "no" / "above").symlink_to(tmp_path)
    (words / "again").symlink_to("yes")
    found = sources.folder(words)
    assert paths(found) == [
        "maybe/0.wav", "maybe/1.wav",
        "no/0.wav", "no/1.wav", "no/2.wav", "no/linked.wav",
        "yes/0.wav", "yes/1.wav", "yes/2.wav",
    ]  # fmt: skip
    assert sum(found.left_out.values()) == 4 and found.empty == ()
    (tmp_path / "link").symlink_to(words)
    assert paths(sources.folder(tmp_path / "link")) == paths(found)


def test_links_are_followed_in_the_layouts_of_digits(tones, tmp_path):
    (tmp_path / "data").mkdir()
    for folder in (tones / "data").iterdir():
        (tmp_path / "data" / folder.name).symlink_to(folder)
    assert paths(sources.audiomnist(tmp_path)) == paths(sources.audiomnist(tones))


@pytest.mark.parametrize("name", ["no/3.wav", "maybe", "no/3.wav/self"])
def test_a_link_to_nothing_is_named(words, name):
    path = words / name.removesuffix("/self")
    path.symlink_to("nowhere" if not name.endswith("self") else path.name)
    with pytest.raises(InputError, match="cannot be followed") as error:
        sources.folder(words)
    assert str(path) in str(error.value)
    left = sources.folder(words, "skip")
    assert len(left.files) == 6 and str(path) in left.skipped[0]


def leave_behind(root: Path, deepest: Path, sound: Path) -> None:
    """Puts into `root` and the folder `deepest` below it what systems and tools put there."""
    for folder in {root, deepest, *(above for above in deepest.parents if root in above.parents)}:
        (folder / f"._{sound.name}").write_bytes(APPLE)
        (folder / "._.DS_Store").write_bytes(APPLE)
        (folder / ".hidden.wav").write_bytes(b"")
        for name in (".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", f"{sound.name}~", "Desktop.ini"):
            (folder / name).write_bytes(b"no sound")
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "$RECYCLE.BIN", "System Volume Information"):
            (folder / name / "no").mkdir(parents=True)
            shutil.copy(sound, folder / name / f"{sound.stem}-checkpoint.wav")
            (folder / name / "no" / f"._{sound.name}").write_bytes(APPLE)
        (folder / "lost+found").mkdir(mode=0)


def test_what_systems_and_tools_leave_behind_is_no_sound_in_any_source(words, tones, tmp_path):
    digits = tmp_path / "fsdd" / "recordings"
    for digit in range(10):
        write(digits / f"{digit}_theo_0.wav", digit)
    audiomnist = shutil.copytree(tones, tmp_path / "audiomnist")
    for read, root, deepest in (
        (sources.folder, words, words / "no"),
        (sources.fsdd, digits.parent, digits),
        (sources.audiomnist, audiomnist, audiomnist / "data" / "01"),
    ):
        before = read(root)
        leave_behind(root, deepest, root / before.files[0].path)
        after = read(root)
        assert (after.files, after.skipped, after.empty) == (before.files, before.skipped, before.empty)
        assert after.left_out


def test_words_without_a_clip_are_named_and_the_rest_is_counted(words, tmp_path, run_cli):
    (words / "eight").mkdir()
    (words / "nine").mkdir()
    (words / "nine" / "notes.txt").write_text("to be recorded")
    (words / "ten").mkdir()
    (words / "ten" / "a.wav").write_bytes(b"no sound")
    (words / "_noise_").mkdir()
    write(words / "_noise_" / "a.wav", 1)
    (words / ".DS_Store").write_bytes(b"")
    args = (f"{CNN}:folder", f"--config.data.root={words}", f"--config.data.cache={tmp_path / 'cache'}")
    for _ in range(2):
        code, out, err = run_cli("prepare", *args, "--config.data.on_bad_file=skip")
        assert code == 0 and "6 clips" in out and "eight, nine, ten" in err and "_noise_" not in err
        assert [line.split()[2] for line in out.splitlines() if line.startswith("left out")] == ["1", "1", "1"]
    shutil.rmtree(words / "yes")
    with pytest.raises(InputError, match=r"\(eight, nine\b"):
        shutil.rmtree(words / "ten")
        sources.folder(words)


@pytest.mark.parametrize("name", ["a_nohash_0.wav.wav", "b.WAV.wav", "b.mp3.MP3"])
def test_a_suffix_that_stands_twice_is_reported(words, name):
    write(words / "no" / name, 1)
    with pytest.raises(InputError, match="suffix twice") as error:
        sources.folder(words)
    assert str(words / "no" / name) in str(error.value)
    left = sources.folder(words, "skip")
    assert len(left.files) == 6 and name in left.skipped[0]


@pytest.fixture
def listed(tmp_path) -> Path:
    """Two words as Speech Commands has them, with its lists, as Windows may write them too."""
    root = tmp_path / "listed"
    for label, word in enumerate(("no", "yes")):
        for speaker in range(7):
            write(root / word / f"{speaker:08x}_nohash_0.wav", label, speaker)
    (root / "testing_list.txt").write_text("no/00000000_nohash_0.wav\nyes/00000000_nohash_0.wav\nup/1_nohash_0.wav\n")
    lines = (r".\no\00000001_nohash_0.wav", "yes/00000001_nohash_0.wav", "")
    (root / "validation_list.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    return root


def test_the_official_split_of_a_folder_is_that_of_its_lists(listed, tmp_path):
    clips = build(sources.folder(listed), tmp_path / "cache")
    split = splits.make(clips, name="official", fold=0, seed=0)
    speakers = [sorted(set(clips.speaker[part].tolist())) for part in split]
    assert speakers == [[f"{number:08x}" for number in part] for part in ((2, 3, 4, 5, 6), (1,), (0,))]
    assert [len(part) for part in split] == [10, 2, 2]


def test_lists_that_change_the_official_split_change_the_run(listed, tiny_config, capsys):

    def key(**changes):
        return loading.load_clips(tiny_config(**{"data.source": "folder", "data.root": listed, **changes})).key

    random = key()
    assert "official" not in capsys.readouterr().err
    official = key(**{"split.name": "official"})
    assert "1 of 5 paths in its official lists" in capsys.readouterr().err
    assert official != random and official == key(**{"split.name": "official"})
    (listed / "testing_list.txt").write_text("no/00000002_nohash_0.wav\nyes/00000002_nohash_0.wav\n")
    assert key(**{"split.name": "official"}) != official and key() == random


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda root: (root / "testing_list.txt").unlink(), "testing_list.txt cannot be found"),
        (lambda root: (root / "validation_list.txt").write_text(""), "no clip for validation"),
        (lambda root: shutil.copy(root / "testing_list.txt", root / "validation_list.txt"), "no/00000000_nohash_0"),
    ],
)
def test_lists_that_give_no_split_are_one_sentence_where_they_are_used(listed, change, words):
    change(listed)
    clips = sources.folder(listed).unread()
    with pytest.raises(InputError, match=words):
        splits.make(clips, name="official", fold=0, seed=0)
    assert len(splits.make(clips, name="random", fold=0, seed=0).test) == 2


@pytest.mark.parametrize("command", ["prepare", "main"])
@pytest.mark.parametrize(
    "source, fold, number",
    [("audiomnist", 9, 4), ("folder,split=speaker", 5, 4), ("folder,split=random", 1, 0), ("synthetic", 5, 4)],
)
def test_a_fold_that_does_not_exist_is_refused_before_a_file_is_prepared(
    command, source, fold, number, tones, tmp_path, run_cli
):
    root = tones if source == "audiomnist" else tmp_path / "words"
    if source.startswith("folder"):
        for speaker in range(5):
            for word in ("no", "yes"):
                write(root / word / f"{speaker}_nohash_0.wav", speaker)
    if source == "audiomnist":  # whose published folds need 60 speakers
        source = "audiomnist,split=speaker"
    args = [f"--config.data.root={root}", f"--config.data.cache={tmp_path / 'cache'}"]
    workdir = [] if command == "prepare" else [f"--workdir={tmp_path / 'run'}"]
    code, out, err = run_cli(command, f"{CNN}:{source},fold={fold}", *args, *workdir)
    assert code == 1 and out == "" and len(err.splitlines()) == 1 and f"config.split.fold is {fold}" in err
    assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()
    if number:
        assert f"0 to {number}" in err


def test_copies_leave_training_and_nothing_else(words, tmp_path):
    """Of the random split: a copy in a label of its own too, and in another format."""
    for word in ("no", "yes"):
        for take in range(3, 10):
            write(words / word / f"{take}.wav", len(word), take)
        for take in range(10):
            shutil.copy(words / word / f"{take}.wav", words / word / f"{take} copy.wav")
            sound, rate_hz = soundfile.read(words / word / f"{take}.wav", dtype="int16")
            soundfile.write(words / word / f"{take} again.flac", sound, rate_hz)
    clips = build(sources.folder(words), tmp_path / "cache")
    for seed in range(3):
        whole = splits.choose(clips, name="random", fold=0, seed=seed)
        split = splits.make(clips, name="random", fold=0, seed=seed)
        assert np.array_equal(split.validation, whole.validation) and np.array_equal(split.test, whole.test)
        held = {clips[index].tobytes() for index in splits.held_out(split)}
        assert [index for index in whole.train if clips[index].tobytes() not in held] == split.train.tolist()
        assert 0 < len(split.train) < len(whole.train)


def test_copies_are_counted_and_stay_where_a_split_was_published(words, tmp_path, tiny_config, capsys):

    root = tmp_path / "fsdd" / "recordings"
    for digit in range(10):
        for take in range(12):
            write(root / f"{digit}_theo_{take}.wav", digit, take)
    shutil.copy(root / "3_theo_2.wav", root / "3_theo_11.wav")  # of the test set, in training
    shutil.copy(root / "4_theo_2.wav", root / "4_theo_6.wav")  # in validation
    keys = {"data.source": "fsdd", "data.root": root.parent, "data.cache": tmp_path / "cache"}
    _, split = loading.load_split(tiny_config(**keys, **{"split.name": "official"}))
    err = capsys.readouterr().err
    assert [len(part) for part in split] == [20, 50, 50]
    assert "1 training clips of fsdd are copies" in err and "1 test clips of fsdd are copies" in err
    config = tiny_config(**keys)
    clips, split = loading.load_split(config)
    removed = 120 - sum(map(len, split))
    assert (f"{removed} training clips of fsdd are copies" in capsys.readouterr().err) == (removed > 0)
    again = {"data.extra_source": "fsdd", "data.extra_root": tmp_path / "also"}
    shutil.copytree(root.parent, tmp_path / "also")
    write(tmp_path / "also" / "recordings" / "7_lucas_0.wav", 8)
    also = loading.load_extra(tiny_config(**keys, **again), clips, splits.held_out(split))
    held = {clips[index].tobytes() for index in splits.held_out(split)}
    assert 0 < len(also) < 121 and not any(also[index].tobytes() in held for index in range(len(also)))


def unread(root: Path, counts: dict[str, int], name: str = "{}") -> Clips:
    for word, number in counts.items():
        for take in range(number):
            write(root / word / f"{name.format(take)}.wav", len(word), take)
    return sources.folder(root).unread()


ONE_EACH = "{}_nohash_0"


@pytest.mark.parametrize(
    "counts, name, split, said, advised",
    [
        ({"no": 2, "yes": 2}, "{}", "random", ["'no' has 2 clips", "'yes' has 2 clips", "needs 3"], []),
        ({"no": 9, "rare": 1, "yes": 9}, "{}", "random", ["'rare' has 1 clip,", "needs 3"], []),
        ({"no": 9, "rare": 1, "yes": 9}, ONE_EACH, "random", ["'rare' has 1 clip,", "needs 3"], ["folds"]),
        ({"no": 9, "yes": 9}, "{}", "speaker", ["all 18 clips belong to one unknown", "needs 3"], ["random"]),
        ({"no": 9, "yes": 9}, "{}", "folds", ["all 18 clips belong to one unknown", "needs 5"], ["random"]),
        ({"no": 2, "yes": 2}, "{}", "folds", ["all 4 clips belong to one unknown", "needs 5"], []),
        ({"no": 3, "yes": 3}, ONE_EACH, "folds", ["3 speakers", "needs 5"], ["random", "speaker"]),
        ({"no": 9, "rare": 1, "yes": 9}, ONE_EACH, "speaker", ["'rare' has 1 clip,", "at least 1"], ["folds"]),
    ],
)
def test_too_few_clips_name_the_word_and_advise_what_is_possible(tmp_path, counts, name, split, said, advised):
    clips = unread(tmp_path, counts, name)
    with pytest.raises(InputError) as error:
        splits.make(clips, name=split, fold=0, seed=0)
    for words in said:
        assert words in str(error.value)
    assert re.findall(r"(?:choose|or) split=(\w+)", str(error.value)) == advised
    for other in advised:
        assert len(splits.make(clips, name=other, fold=0, seed=0).test)


@pytest.mark.parametrize("number", range(3, 12))
def test_the_random_split_has_every_word_in_every_part(tmp_path, number):
    clips = unread(tmp_path, {"no": number, "yes": number + 1})
    for part in splits.make(clips, name="random", fold=0, seed=number):
        assert set(clips.label[part].tolist()) == {0, 1}


def test_prepare_reports_too_few_clips_and_main_refuses_them(tmp_path, run_cli):
    unread(tmp_path / "words", {"no": 4, "rare": 1, "yes": 4})
    args = (f"{CNN}:folder", f"--config.data.root={tmp_path / 'words'}", f"--config.data.cache={tmp_path / 'cache'}")
    code, out, err = run_cli("prepare", *args)
    assert code == 0 and "9 clips of 1 unknown speaker" in out and "'rare' has 1 clip" in err
    code, out, err = run_cli("main", *args, f"--workdir={tmp_path / 'run'}")
    assert code == 1 and out == "" and "'rare' has 1 clip" in err and not (tmp_path / "run").exists()
    assert len(err.splitlines()) == 1


def test_the_reader_that_contributing_shows_reads_its_layout(tmp_path):
    code = (ROOT / "CONTRIBUTING.md").read_text().split("```python\n")[1].split("```")[0]
    names = {"re": re, "Path": Path, **vars(sources)}
    exec(textwrap.dedent(code), names)
    for speaker in ("ann", "bob"):
        for digit in range(10):
            path = tmp_path / "clips" / speaker / f"{digit}_2.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(digit, ord(speaker[0]), 2), 8000)
    (tmp_path / "clips" / "ann" / "seven.wav").write_bytes(b"not a sound")
    with pytest.raises(InputError, match=r"seven\.wav is not named like SPEAKER/DIGIT_TAKE"):
        built_clips.build(tmp_path / "clips", tmp_path / "cache", read=names["read"])
    clips = built_clips.build(tmp_path / "clips", tmp_path / "cache", read=names["read"], on_bad_file="skip")
    assert len(clips) == 20 and sorted(clips.speakers) == ["ann", "bob"] and set(clips.take) == {2}
