"""Recordings of several words: how they are listed, and how training streams are sampled from them."""

import csv

import numpy as np
import pytest
import soundfile

from audiojax.audio import noise
from audiojax.audio.time_scale import time_scaled
from audiojax.config import base, parse_arg
from audiojax.data import loading, strings
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.schema import DIGITS
from audiojax.streaming import sampler, scenes
from audiojax.streaming.mixture import Mixture
from audiojax.streaming.pools import Pool
from audiojax.streaming.scenes import Word
from audiojax.streaming.strings import Strings
from audiojax.streaming.targets import targets

RATE_HZ = 8000
HZ = {"one": 500, "two": 1000, "?": 1500}
SPOKEN = {"a": ("one:0.2:0.4 two:0.5:0.9", "?:0.3:0.5 two:0.6:0.8"), "b": ("", "two:0.1:0.3 one:0.4:0.6")}


def write_folder(root, rows):
    root.mkdir(exist_ok=True)
    with open(root / strings.LIST, "w", newline="") as file:
        csv.writer(file).writerows([strings.COLUMNS, *rows])


@pytest.fixture
def folder(tmp_path):
    """Four recordings by two speakers: a tone for each word, of another pitch for each label."""
    rows = []
    for speaker, texts in SPOKEN.items():
        for take, text in enumerate(texts):
            sound = np.random.default_rng(take).standard_normal(RATE_HZ).astype(np.float32) * 1e-3
            for label, start, end in (word.split(":") for word in text.split()):
                at = np.arange(round(float(start) * RATE_HZ), round(float(end) * RATE_HZ))
                sound[at] = 0.3 * np.sin(2 * np.pi * HZ[label] * at / RATE_HZ)
            rows.append((f"{speaker}{take}.wav", speaker, text))
            soundfile.write(tmp_path / rows[-1][0], sound, RATE_HZ)
    write_folder(tmp_path, rows)
    return tmp_path


def load(folder):
    config = base(parse_arg(""))
    config.data.cache = str(folder / "cache")
    return strings.load(folder, DIGITS, lambda recordings: loading.cached(config, recordings))


def test_the_list_gives_each_recording_its_words_in_order_of_their_end(folder):
    write_folder(folder, [("a0.wav", "a", "two*3:0.5:0.9 one:0.2:0.4"), ("b0.wav", "b", "")])
    found = load(folder)
    assert found.words == {"a0.wav": (("one", 0.2, 0.4, 1), ("two", 0.5, 0.9, 3)), "b0.wav": ()}
    assert found.clips.path == ("a0.wav", "b0.wav") and list(found.clips.speaker) == ["a", "b"]


@pytest.mark.parametrize(
    "row, complaint",
    [
        (("a0.wav", "a", "ten:0:1"), "'ten:0:1'"),
        (("a0.wav", "a", "one:0.4:0.2"), "'one:0.4:0.2'"),
        (("a0.wav", "a", "one:0.4"), "'one:0.4'"),
        (("a0.wav", "a", "one:0:inf"), "'one:0:inf'"),
        (("a0.wav", "a", "one*4:0:1"), "'one\\*4:0:1'"),
        (("none.wav", "a", ""), "none.wav"),
        (("a0.wav", "a"), "columns"),
    ],
)
def test_a_bad_row_is_named(folder, row, complaint):
    write_folder(folder, [row])
    with pytest.raises(InputError, match=complaint):
        load(folder)


def test_a_folder_without_a_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"strings\.csv cannot be read .*--config\.streams\.strings"):
        load(tmp_path)


def test_each_word_of_a_scene_is_where_the_scene_says(folder):
    found, rng, count = Strings(load(folder), DIGITS), np.random.default_rng(0), 0
    for _ in range(20):
        parts, words = found.sample(rng, 6 * RATE_HZ)
        sound = scenes.laid_out(parts, 6 * RATE_HZ)
        assert all(at + len(part) <= 6 * RATE_HZ for at, part in parts)
        for word in words:
            inside = sound[word.start + 80 : word.end - 80]
            outside = np.concatenate([sound[max(0, word.start - 400) : word.start - 80], sound[word.end + 80 :][:320]])
            assert noise.power(inside) > 100 * noise.power(outside)
            spectrum = np.abs(np.fft.rfft(inside * np.hanning(len(inside))))
            hz = np.argmax(spectrum) * RATE_HZ / len(inside)
            expected = HZ[{-1: "?", 1: "one", 2: "two"}[word.label]]
            assert abs(np.log(hz / expected)) < 0.25  # the speed changes the pitch
            count += 1
    assert count > 50


def test_a_word_that_stands_for_several_keeps_its_count_in_scenes_and_targets(folder):
    write_folder(folder, [("a0.wav", "a", "one:0.2:0.4 two*2:0.5:0.9")])
    _, words = Strings(load(folder), DIGITS).sample(np.random.default_rng(0), 6 * RATE_HZ)
    assert len(words) > 2 and all(word.copies == word.label for word in words)
    target = targets(words, 0, 300, 160, 10, RATE_HZ)
    for label in (1, 2):
        assert (target.copies[target.label == label] == label).all() and (target.label == label).sum() > 5
    assert (target.copies == 0).sum() > 100
    [word, *_] = words
    at = word.end // 160 + np.arange(-5, 18)
    near = (at[:, None] + 1) * 160 - word.end
    known = ((near > -0.04 * RATE_HZ) & (near <= 0.28 * RATE_HZ)).ravel()
    assert (target.copies[at[known]] > 0).all()  # an event may come before its target


def test_a_stream_that_is_reset_within_double_five_has_no_target_for_its_count():
    words = [Word(5, 12_000, 14_000, 2), Word(6, 40_000, 42_000, 2), Word(7, 30_000, 34_000)]
    for start, known in ((0, {5, 6, 7}), (8000, {6, 7}), (13_000, {6, 7}), (30_000, {7, 6}), (36_000, set())):
        whole = targets(words, start, 150, 160, 10, RATE_HZ)
        fresh = targets(words, start, 150, 160, 10, RATE_HZ, fresh=True)
        counted = {int(label) for label in fresh.label[(fresh.copies > 0) & (fresh.label < 10)]}
        assert counted == known & {int(label) for label in whole.label if label < 10}
        began = np.isin(whole.label, [label for label, first, *_ in words if first < start])
        np.testing.assert_array_equal(fresh.mask, np.where(began, 0, whole.mask))


def test_the_loss_ignores_a_word_that_may_be_one_or_not():
    words = [Word(-1, 8000, 12_000), Word(2, 12_000, 16_000)]
    label, mask, *_ = targets(words, 0, 200, 160, 10, RATE_HZ)
    alone, alone_mask, *_ = targets(words[1:], 0, 200, 160, 10, RATE_HZ)
    end = 160 * np.arange(1, 201)
    unsure = (end > 8000) & (end <= 12_000 + 0.28 * RATE_HZ)
    np.testing.assert_array_equal(label, alone)
    np.testing.assert_array_equal(mask, np.where(unsure & (label == 10), 0, alone_mask))
    assert unsure.sum() > 20


def words_of(number, mixture, found):
    """Returns the labels in each of `number` scenes; the pool has the labels from 3 on."""
    samples = np.random.default_rng(0).integers(-9999, 9999, 40_000).astype(np.int16)
    offsets, zeros = np.arange(0, 40_001, 4000), np.zeros(10, np.int32)
    clips = Clips("c", RATE_HZ, samples, offsets, zeros + 3, zeros.astype(str), zeros, ("",) * 10, DIGITS, {}, "k")
    pools = [Pool.of(clips, np.arange(10))]
    drawn = (
        sampler.sample_scene(np.random.default_rng(k), pools, [], 32_000, mixture, None, found) for k in range(number)
    )
    return [{word.label for word in scene.words} for scene in drawn]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_strings_are_a_share_of_the_scenes(folder, share):
    mixture = Mixture(shares=(1.0, 0.0, 0.0, 0.0), strings_share=share)
    drawn = words_of(40, mixture, Strings(load(folder), DIGITS))
    of_strings = sum(bool(words & {-1, 1, 2}) for words in drawn) / sum(map(bool, drawn))
    assert of_strings == share if share in (0, 1) else 0.2 < of_strings < 0.8
    assert all(words <= {-1, 1, 2} or words <= {3} for words in drawn)


def test_time_scaling_moves_the_places_with_the_sound():
    click = np.zeros(8000, np.float32)
    click[2000] = click[6000] = 1
    for speed, tempo in ((1.25, 1.0), (0.8, 1.0)):
        sound, places = time_scaled(click, speed, tempo, [2000, 6000])
        assert np.flatnonzero(sound > 0.3).tolist() == places and len(sound) == int(8000 / speed)
    tone = np.sin(np.arange(8000, dtype=np.float32))
    tone[:2000] = tone[6000:] = 0
    sound, (start, end) = time_scaled(tone, 1.0, 1.5, [2000, 6000])
    loud = np.flatnonzero(np.abs(sound) > 0.3)
    assert abs(loud[0] - start) < 200 and abs(loud[-1] - end) < 200


@pytest.mark.parametrize("codec", noise.CODECS)
def test_a_codec_changes_a_sound_and_does_not_move_it(codec):
    rng, times = np.random.default_rng(0), np.arange(24_000) / RATE_HZ
    sound = (0.3 * np.sin(2 * np.pi * (300 + 200 * times) * times) * (np.sin(12 * times) > 0)).astype(np.float32)
    sound += rng.standard_normal(len(sound)).astype(np.float32) * 0.01
    decoded = noise.compressed(sound, RATE_HZ, *codec)
    assert decoded.shape == sound.shape and not np.array_equal(decoded, sound)
    spectra = np.fft.rfft([sound, decoded], 2 * len(sound))
    assert abs(np.argmax(np.roll(np.fft.irfft(spectra[1] * spectra[0].conj()), 100)) - 100) <= 1
    assert np.corrcoef(sound, decoded)[0, 1] > 0.7
