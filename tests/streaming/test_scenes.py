"""Streams of words: what is rendered is where it is said to be, and says what it should; training goes on."""

import dataclasses
import itertools

import numpy as np
import pytest

from audiojax.audio import noise as corrupt
from audiojax.audio import resample
from audiojax.audio.resample import Resampler
from audiojax.data.clips import Clips
from audiojax.data.real import RealSound
from audiojax.errors import InputError
from audiojax.schema import DIGITS
from audiojax.streaming import sampler, scenes
from audiojax.streaming.mixture import Mixture
from audiojax.streaming.pools import Pool, Real
from audiojax.streaming.scenes import Plan, Word
from audiojax.streaming.targets import targets

RATE_HZ = 8000


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Six clips by two speakers: a tone of 0.3 s between 0.1 s of silence and 0.05 s of it."""
    sounds = []
    for i in range(6):
        tone = 8000 * np.sin(2 * np.pi * (400 + 200 * i) * np.arange(2400) / RATE_HZ)
        sounds.append(np.concatenate([np.zeros(800), tone, np.zeros(400)]).astype(np.int16))
    label, speaker = np.arange(6, dtype=np.int32) % 3, np.array(["a", "b"] * 3)
    samples, offsets = np.concatenate(sounds), np.cumsum([0, *map(len, sounds)])
    return Clips(
        "tones", RATE_HZ, samples, offsets, label, speaker, np.zeros(6, np.int32), ("",) * 6, ("x", "y", "z"), {}, "k"
    )


def test_a_word_ends_with_its_last_frame_within_30_db(clips):
    assert scenes.span(clips[0], RATE_HZ) == (800, 3200)
    faint = clips[0] + (10 ** (-29 / 20) * 8000 / 3**0.5 * 1.4 * np.resize([1, -1], 3600)).astype(np.int16)
    assert scenes.span(faint, RATE_HZ) == (0, 3600)
    assert scenes.span(faint, RATE_HZ, floor_db=6.0) == (800, 3200)  # what a listener may take for its end


def test_a_plan_puts_each_word_where_it_says(clips):
    plan = Plan(seed=0, clips=(0, 4, 2), gap_seconds=(0.5, 0.0, 0.25, 0.4), peak_db=-20.0)
    scene = scenes.render(plan, clips)
    assert len(scene.audio) == 3 * 3600 + round(1.15 * RATE_HZ)
    assert scene.words == (Word(0, 4800, 7200), Word(1, 8400, 10800), Word(2, 14000, 16400))
    peaks = [np.abs(scene.audio[word.start : word.end]).max() for word in scene.words]
    assert max(peaks) == pytest.approx(3277, abs=2) and min(peaks) > 3000
    between = np.concatenate([scene.audio[: 4800 - 1], scene.audio[7201:8399]])
    assert np.abs(between).max() <= 1  # the dither


@pytest.mark.parametrize("noise", [*corrupt.NOISES, "babble"])
def test_noise_comes_at_its_ratio(clips, noise):
    plan = Plan(0, (0, 4), (1.0, 1.0, 1.0), -35.0, noise, None, (1, 2, 3))
    [quiet, noisy] = (scenes.render(p, clips) for p in [plan, *scenes.with_snr([plan], 5.0)])
    assert quiet.words == noisy.words
    added = (noisy.audio.astype(float) - quiet.audio) / 32768
    words = np.concatenate([quiet.audio[w.start : w.end] for w in quiet.words]) / 32768
    assert 10 * np.log10(np.mean(words**2) / np.mean(added**2)) == pytest.approx(5.0, abs=0.3)


def test_a_noise_that_does_not_exist_is_named(clips):
    with pytest.raises(InputError, match=r"'rain'.*\bwhite\b"):
        scenes.render(Plan(0, (0,), (0.1, 0.1), noise="rain", snr_db=0.0), clips)


def test_test_strings_are_the_same_each_time_and_differ_in_noise_only(clips):
    plans = scenes.sample_plans(clips, np.arange(6), number=50, seed=3)
    assert plans == scenes.sample_plans(clips, np.arange(6), number=50, seed=3)
    assert scenes.with_snr(plans, 10.0) == scenes.sample_plans(clips, np.arange(6), number=50, seed=3, snr_db=10.0)
    assert all(len(set(clips.speaker[list(plan.clips)])) == 1 for plan in plans)  # one speaker a string
    gaps = np.concatenate([plan.gap_seconds[1:-1] for plan in plans])
    assert 0.2 < np.mean(gaps == 0) < 0.4


def test_a_step_says_a_word_just_after_its_end_and_when_it_was():
    words = (Word(1, 1600, 4000),)
    label, mask, times, _ = targets(words, 0, 60, 160, 3, RATE_HZ)
    heard = 0.02 * np.arange(1, 61)
    says = label != 3
    assert set(label[says]) == {1} and (mask[says] == 1).all()
    assert heard[says].min() == pytest.approx(0.6) and heard[says].max() == pytest.approx(0.72)
    np.testing.assert_allclose(times[says][:, 1], heard[says] - 0.5, atol=1e-6)
    np.testing.assert_allclose(times[says][:, 0] - times[says][:, 1], 0.3, atol=1e-6)
    may = (mask == 0) | says
    assert heard[may].min() == pytest.approx(0.48) and heard[may].max() == pytest.approx(0.78)


@pytest.mark.parametrize("second", [Word(2, 3100, 9000), Word(0, 3100, 7780)])
def test_targets_of_a_part_are_part_of_the_targets(second):
    words = (Word(0, 1000, 3000, 2), second)
    whole = targets(words, 0, 100, 160, 3, RATE_HZ)
    for first in range(100):
        part = targets(words, first * 160, 100 - first, 160, 3, RATE_HZ)
        for a, b in zip(whole, part, strict=True):
            np.testing.assert_allclose(a[first:], b, atol=1e-6)
    assert len(targets(words, 0, 0, 160, 3, RATE_HZ).label) == 0


def stream_batches(clips, **changes) -> sampler.StreamBatches:
    pool = sampler.Pool.of(clips, np.arange(6))
    fields = dict(batch_size=4, segment_samples=8000, step_samples=160, num_steps=10, seed=0) | changes
    return sampler.StreamBatches([pool], [], **fields)


def test_a_training_batch_is_a_function_of_seed_and_number(clips):
    [first, again] = (list(stream_batches(clips)(5, 8)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert not np.array_equal(next(stream_batches(clips, seed=1)(5, 6))["audio"], first[0]["audio"])
    assert first[0]["label"].shape == first[0]["mask"].shape == (4, 50) and first[0]["times"].shape == (4, 50, 2)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_each_row_goes_on_where_it_stopped_and_they_begin_apart(clips, row):
    stream, num = stream_batches(clips), sampler.SCENE_SEGMENTS
    parts = [batch["audio"][row] for batch in stream(num - row, 2 * num - row)]
    scene = sampler.sample_scene(
        np.random.default_rng([0, row, 1]), [sampler.Pool.of(clips, np.arange(6))], [], num * 8000
    )
    np.testing.assert_array_equal(np.concatenate(parts), scene.audio)


def test_a_process_makes_its_own_rows_only(clips):
    whole, mine = (next(stream_batches(clips, **rows)(7, 8)) for rows in ({}, {"rows": slice(2, 4)}))
    for name in whole:
        np.testing.assert_array_equal(whole[name][2:4], mine[name])


def test_words_of_training_lie_where_they_are_heard(clips):
    """Of a scene without noise: sound within the words, and next to none outside."""
    pool = sampler.Pool.of(clips, np.arange(6))
    for seed in range(20):
        parts, words = sampler.sample_speech(np.random.default_rng(seed), pool, [], 48_000, True, False)
        sound = scenes.laid_out(parts, 48_000)
        inside = np.zeros(48_000, bool)
        for word in words:
            for edge in (sound[word.start : word.start + 300], sound[word.end - 300 : word.end]):
                assert np.sqrt(np.mean(edge**2)) > 0.05
            inside[max(0, word.start - 200) : word.end + 200] = True
        assert words and np.abs(sound[~inside]).max() < 0.02
        assert all(a.end <= b.start for a, b in itertools.pairwise(words))


@pytest.mark.parametrize("speed, tempo", [(1.0, 1.0), (1.25, 1.0), (1.0, 1.3), (0.9, 0.8)])
def test_speed_moves_pitch_and_tempo_does_not(speed, tempo):
    tone = np.sin(2 * np.pi * 500 * np.arange(8000) / RATE_HZ).astype(np.float32)
    heard, (start, end) = sampler.time_scaled(tone, speed, tempo, (1000, 7000))
    assert len(heard) == pytest.approx(8000 / speed / tempo, abs=2)
    assert (start, end) == pytest.approx((1000 / speed / tempo, 7000 / speed / tempo), abs=1)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 1 << 16))
    assert np.argmax(spectrum) * RATE_HZ / (1 << 16) == pytest.approx(
        500 * speed, rel=0.07
    )  # overlap-add has sidebands


@pytest.mark.parametrize("rate_hz", [8000, 8001, 11025, 16000, 44100, 44101, 48000, 767_999])
def test_a_resampler_keeps_speech_drops_aliases_and_does_not_see_chunks(rate_hz):
    def resampled(sound, sizes):
        resampler, parts, at = Resampler(rate_hz, RATE_HZ), [], 0
        for size in sizes:
            parts.append(resampler.feed(sound[at : at + size]))
            at += size
        return np.concatenate([*parts, resampler.feed(sound[at:]), resampler.flush()])

    time = np.arange(rate_hz) / rate_hz
    speech = np.sin(2 * np.pi * 3000 * time).astype(np.float32)
    whole = resampled(speech, [])
    assert len(whole) == RATE_HZ
    np.testing.assert_allclose(whole[100:-100], np.sin(2 * np.pi * 3000 * np.arange(8000) / 8000)[100:-100], atol=1e-3)
    np.testing.assert_array_equal(resampled(speech, [1, 7, 441, 0, 3000, 80]), whole)
    if rate_hz > 2 * 4600:
        alias = resampled(np.sin(2 * np.pi * 4600 * time).astype(np.float32), [])
        assert np.abs(alias[100:-100]).max() < 1e-3


@pytest.mark.parametrize("rate_hz", [48_000, 44_101, 767_999])
def test_a_resampler_needs_4_ms_of_what_follows(rate_hz):
    heard = Resampler(rate_hz, RATE_HZ).feed(np.ones(rate_hz, np.float32))
    assert RATE_HZ - len(heard) <= 33


@pytest.mark.parametrize("rate_hz", [8001, 11027, 44101, 191_999])
def test_a_resampler_that_interpolates_its_filter_is_as_good_as_16_bits(rate_hz, monkeypatch):
    noise = np.random.default_rng(0).uniform(-1, 1, rate_hz // 50).astype(np.float32)
    coarse = Resampler(rate_hz, RATE_HZ).feed(noise)
    monkeypatch.setattr(Resampler, "PHASES", 16 * Resampler.PHASES)
    resample._kernel.cache_clear()
    fine = Resampler(rate_hz, RATE_HZ).feed(noise)
    resample._kernel.cache_clear()
    error_db = 10 * np.log10(np.mean((coarse - fine) ** 2) / np.mean(fine**2))
    assert -140 < error_db < -98


def test_a_resampler_is_as_exact_after_a_hundred_years():
    sound = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    fresh, old = Resampler(767_999, RATE_HZ), Resampler(767_999, RATE_HZ)
    seconds = 100 * 365 * 86_400
    old._done, old._first = seconds * RATE_HZ, seconds * 767_999 - old._reach
    np.testing.assert_array_equal(old.feed(sound), fresh.feed(sound))


def recorded(clips, unsure=(), label_names=DIGITS) -> Real:
    """Real recordings to sample from: the words of `clips`, and one clip each of speech and noise."""
    rng = np.random.default_rng(0)
    speech, noise = (
        dataclasses.replace(
            Clips.unlabelled([np.round(level * rng.standard_normal(6 * RATE_HZ)).astype(np.int16)], RATE_HZ),
            path=(f"{name}/0.ogg",),
            label_names=(name,),
        )
        for name, level in (("reading", 3000), ("rooms", 100))
    )
    at = np.arange(6)
    text = {path: clips.label_names[label] for path, label in zip(clips.path, clips.label, strict=True)}
    text["reading/0.ogg"] = "read aloud"
    sound = RealSound(clips, at, speech, at[:1], noise, at[:1], {}, {"reading/0.ogg": list(unsure)}, text)
    return Real(sound, label_names)


def test_streams_with_real_recordings_are_a_function_of_seed_and_number(clips):
    mixture = Mixture(real_words=0.5, fresh_share=0.5, repeat_share=0.3, overlap_seconds=0.05)
    [first, again] = (list(stream_batches(clips, mixture=mixture, real=recorded(clips))(5, 9)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    without = list(stream_batches(clips)(5, 9))
    assert any(not np.array_equal(a["audio"], b["audio"]) for a, b in zip(first, without, strict=True))
    assert 0 < sum(batch["reset"].sum() for batch in first) < 16


def test_segments_may_begin_with_a_word_and_the_next_starts_anew(clips):
    words = Mixture(shares=(1.0, 0.0, 0.0, 0.0), fresh_share=0.5)
    usual, begun = (
        list(stream_batches(clips, mixture=words._replace(onset_share=share))(0, 40)) for share in (0.0, 1.0)
    )
    step_seconds = 160 * np.arange(1, 51) / RATE_HZ
    at_once, fresh = [], np.stack([batch["reset"] for batch in usual])
    for batch, onsets in zip(begun, fresh > 0, strict=True):
        starts = np.where(batch["label"] < len(clips.label_names), step_seconds - batch["times"][..., 0], np.inf)
        at_once += list(((starts > -1e-3) & (starts < 0.031)).any(axis=1)[onsets])
    # Some segments are new only because the one before was taken from another place.
    expected = fresh[1:].astype(bool) | fresh[:-1].astype(bool)
    np.testing.assert_array_equal(np.stack([batch["reset"] for batch in begun])[1:], expected)
    assert np.mean(at_once) > 0.8  # some scenes have no word that a whole segment follows


def test_a_segment_from_the_initial_state_leaves_words_cut_by_it_open(clips):
    usual, fresh = (list(stream_batches(clips, mixture=Mixture(fresh_share=share))(0, 40)) for share in (0.0, 1.0))
    cut = 0
    for a, b in zip(usual, fresh, strict=True):
        np.testing.assert_array_equal(a["audio"], b["audio"])
        np.testing.assert_array_equal(a["label"], b["label"])
        assert not a["reset"].any() and b["reset"].all()
        began_before = a["times"][..., 0] > 160 * np.arange(1, 51) / RATE_HZ
        is_cut = (a["label"] < len(clips.label_names)) & began_before
        np.testing.assert_array_equal(b["mask"], np.where(is_cut, 0, a["mask"]))
        cut += int(is_cut.sum())
    assert cut > 0


def test_connected_words_come_in_groups_of_one_voice(clips):
    mixture = Mixture(shares=(1.0, 0.0, 0.0, 0.0), connected_share=1.0, overlap_seconds=0.05)
    pools, rng, gaps = [Pool.of(clips, np.arange(6))], np.random.default_rng(0), []
    for _ in range(20):
        _, words = sampler.sample_speech(rng, pools[0], [], 20 * RATE_HZ, True, False, mixture)
        gaps += [(after.start - before.end) / RATE_HZ for before, after in itertools.pairwise(words)]
        labels = {word.label for word in words}
        assert labels <= set(clips.label[clips.speaker == "a"]) or labels <= set(clips.label[clips.speaker == "b"])
    gaps = np.asarray(gaps)
    assert np.mean(gaps < 0.3) > 0.5 and 0.1 < np.mean(gaps > 0.3) < 0.5


def test_the_steps_at_which_a_word_has_ended_weigh_as_the_mixture_says(clips):
    usual, heavy = (list(stream_batches(clips, mixture=Mixture(word_weight=weight))(0, 4)) for weight in (1.0, 2.5))
    for a, b in zip(usual, heavy, strict=True):
        is_word = a["label"] < len(clips.label_names)
        np.testing.assert_array_equal(b["mask"], np.where(is_word, 2.5 * a["mask"], a["mask"]))
        assert is_word.any()


@pytest.mark.slow
def test_speech_with_a_stretch_that_may_hold_a_digit_is_left_out(clips):
    real, rng = recorded(clips, unsure=[(2.0, 3.0)]), np.random.default_rng(0)
    whole = real._sound.speech[0]
    for _ in range(30):
        part = real.speech(rng)
        [start] = np.flatnonzero((np.lib.stride_tricks.sliding_window_view(whole, len(part)) == part).all(axis=1))
        assert start + len(part) <= 2 * RATE_HZ or start >= 3 * RATE_HZ


def test_own_words_have_the_digits_of_real_recordings_as_other_speech_alone(clips):
    """But for digits that are own words, too; those are neither."""
    clips = dataclasses.replace(clips, path=tuple(f"digits/{index}.ogg" for index in range(len(clips))))
    real, rng = recorded(clips, label_names=("left", "X")), np.random.default_rng(0)
    known = {clips[index].tobytes(): clips.label_names[clips.label[index]] for index in range(len(clips))}
    sampled = {known.get(real.speech(rng).tobytes(), "reading") for _ in range(100)}
    assert real.words is None and sampled == {"reading", "y", "z"}
    assert recorded(clips).words is not None


def test_real_noise_has_no_gap_and_unit_power(clips):
    noise = recorded(clips).noise(np.random.default_rng(0), 20 * RATE_HZ)
    assert np.mean(noise**2) == pytest.approx(1, rel=1e-3)
    assert np.mean(noise.reshape(-1, RATE_HZ // 10) ** 2, axis=1).min() > 0.2


def test_the_span_of_a_recorded_word_leaves_out_breath_and_clicks():
    rng = np.random.default_rng(0)
    sound = 30 * rng.standard_normal(RATE_HZ)
    sound[3000:5000] += 8000 * np.sin(2 * np.pi * 500 * np.arange(2000) / RATE_HZ)
    sound[7000:7080] += 6000 * rng.standard_normal(80)  # a click, 0.25 s after the word
    start, end = scenes.spoken_span(sound.astype(np.int16), RATE_HZ)
    assert start == pytest.approx(3000, abs=80) and end == pytest.approx(5000, abs=80)
    assert scenes.span(sound.astype(np.int16), RATE_HZ)[1] > 7000  # which the span of a clean clip does not


@pytest.mark.parametrize("apart_seconds", [0.24, 0.3, 0.5])
def test_a_repeated_word_has_a_gap_between_its_targets(apart_seconds):
    first, second = Word(2, 4000, 8000), Word(2, 8000, 8000 + round(apart_seconds * RATE_HZ))
    label, mask, *_ = targets([first, second], 0, 100, 160, 10, RATE_HZ)
    [starts] = np.nonzero((label == 2) & (np.roll(label, 1) != 2))
    assert len(starts) == 2
    gap = slice(starts[1] - 4, starts[1])
    assert (label[gap] == 10).all() and (mask[gap] == 1).all()
    label, mask, *_ = targets([first, second._replace(label=3)], 0, 100, 160, 10, RATE_HZ)
    end = 160 * np.arange(1, 101)
    assert not mask[(label == 10) & (end > first.end) & (end <= first.end + 0.28 * RATE_HZ)].any()  # of another word
