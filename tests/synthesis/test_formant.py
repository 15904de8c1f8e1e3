"""The embedded data: real files in AudioMNIST's layout, each a function of (seed, voice, digit, take) alone."""

import dataclasses
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import soundfile

from audiojax.data import sources
from audiojax.synthesis import formant, phonemes, voices


def write(folder, num_voices=3, num_takes=2, seed=0):
    formant.write(folder, num_voices=num_voices, num_takes=num_takes, seed=seed, progress=lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("synthetic") / "voices")


def test_the_layout_is_audiomnists_and_its_reader_reads_it(folder):
    recordings = sources.audiomnist(folder)
    assert len(recordings.files) == 60 and list(recordings.speakers) == ["01", "02", "03"]
    assert all(speaker.accent == "Synthetic" and speaker.age == 30 for speaker in recordings.speakers.values())
    for file in recordings.files:
        info = soundfile.info(folder / file.path)
        assert (info.samplerate, info.channels, info.subtype) == (48000, 1, "PCM_16")
        assert 0.2 < info.duration <= 0.99
        assert 0.01 < np.abs(soundfile.read(folder / file.path)[0]).max() < 1.0


@pytest.mark.slow
def test_a_file_depends_on_its_seed_voice_digit_and_take_alone(folder, tmp_path):
    more = write(tmp_path / "more", num_voices=4, num_takes=3)
    for file in sources.audiomnist(folder).files:
        assert (folder / file.path).read_bytes() == (more / file.path).read_bytes()
    sounds = {path.read_bytes() for path in more.rglob("*.wav")}
    assert len(sounds) == 120
    other = write(tmp_path / "other", num_voices=1, num_takes=1, seed=1)
    assert not sounds & {path.read_bytes() for path in other.rglob("*.wav")}


def test_the_voices_differ_widely():
    many = [voices.make_voice(0, number) for number in range(1, 21)]
    ranges = {"formant_scale": 1.35, "pitch_hz": 2.0, "rate": 1.6, "tilt_hz": 3.0, "breathiness": 5.0}
    for name, ratio in ranges.items():
        values = [getattr(voice, name) for voice in many]
        assert max(values) / min(values) > ratio, name
    assert max(v.peak_db for v in many) - min(v.peak_db for v in many) > 20
    assert max(v.snr_db for v in many) - min(v.snr_db for v in many) > 20


def test_other_words_can_be_said():
    rng = np.random.default_rng(0)
    sound = formant.synthesise(["S", "T", "AA", "P"], voices.NEUTRAL, rng)
    assert sound.dtype == np.float32 and 0.2 * 16000 < len(sound) <= 0.99 * 16000 and np.isfinite(sound).all()
    said = {name for variants in phonemes.PRONUNCIATIONS.values() for word in variants for name in word.split()}
    assert said < set(phonemes.PHONEMES) and list(phonemes.PRONUNCIATIONS) == list(phonemes.DIGITS)


def test_knocks_are_heard_and_stay_below_the_word():
    many = [voices.make_voice(1, number) for number in range(1, 21)]
    assert all(1 <= voice.knocks <= 3.5 for voice in many)
    rng = np.random.default_rng(0)
    sounds = [formant._knocks(3.0, 8000, 1.0, rng) for _ in range(50)]
    peaks = np.array([np.abs(sound).max() for sound in sounds])
    assert not formant._knocks(0.0, 8000, 1.0, rng).any()
    assert (peaks > 0).sum() > 40 and np.median(peaks[peaks > 0]) < 10 ** (-5 / 20) * 1.2
    quiet, loud = (
        formant.synthesise("six", dataclasses.replace(voices.NEUTRAL, knocks=knocks), np.random.default_rng(3))
        for knocks in (0.0, 40.0)
    )
    assert np.abs(quiet[-400:]).mean() < 0.3 * np.abs(loud[-400:]).mean()


def test_formants_are_where_the_inventory_puts_them():
    """The strongest part of a long "IY" lies near its F1, and its F2 stands out far above that of "AA"."""
    power = {}
    for name in ("IY", "AA"):
        sound = formant.synthesise([name] * 3, voices.NEUTRAL, np.random.default_rng(0))
        middle = sound[len(sound) // 3 : len(sound) // 3 + 4096] * np.hanning(4096)
        power[name] = np.abs(np.fft.rfft(middle)) ** 2
    hz = np.fft.rfftfreq(4096, 1 / formant.RATE_HZ)
    share = {name: p[(hz > 1800) & (hz < 2400)].sum() / p[(hz > 900) & (hz < 1500)].sum() for name, p in power.items()}
    assert 200 < hz[power["IY"].argmax()] < 420 < hz[power["AA"].argmax()] < 1400
    assert share["IY"] > 30 * share["AA"]


def _write_many(folder):
    os.setsid()  # so that the workers can be killed with it
    write(folder, num_voices=50, num_takes=20)


def test_a_killed_writer_leaves_no_folder_that_is_believed(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_write_many, args=(tmp_path / "voices",))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "voices").exists() and list(tmp_path.glob("*.partial-*"))
    write(tmp_path / "voices", num_voices=1, num_takes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["voices"]
