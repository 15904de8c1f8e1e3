"""Scenes: audio segments composed of words, other speech and noise.

A `Plan` describes a test scene: its clips, gaps, level and noise; `render` computes its sound. Training scenes are
sampled in `sampler`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from audiojax.audio import noise as corrupt
from audiojax.audio.signal import to_int16
from audiojax.data.clips import Clips
from audiojax.errors import InputError

FRAME_SECONDS = 0.01


class Word(NamedTuple):
    """A spoken word in a sound: the index of its label, its first sample, and its end (exclusive) in samples."""

    label: int  # -1 for a sound that may or may not be a word, which the loss ignores
    start: int
    end: int
    copies: int = 1  # how many times it counts: 2 for the five in "double five"


class Scene(NamedTuple):
    """An audio segment, `audio` i16[t], and the words in it, each with its start and end in samples of `audio`."""

    audio: np.ndarray  # i16[t]
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Plan:
    """The composition of a test scene, a string of words with noise. The same plan and clips yield the same sound.

    Attributes:
        seed: Seed of the noise.
        clips: Indices of the clips with the words, in order of time.
        gap_seconds: Seconds of silence before each clip, and after the last.
        peak_db: Level of the loudest sample of the words; full scale is 0 dB.
        noise: A key of `audio.noise.NOISES`, or "babble".
        snr_db: Power of the words over that of the noise; None is without noise.
        babble: Indices of the clips that babble noise consists of; they are reversed.
    """

    seed: int
    clips: tuple[int, ...]
    gap_seconds: tuple[float, ...]
    peak_db: float = -10.0
    noise: str = "white"
    snr_db: float | None = None
    babble: tuple[int, ...] = ()


def span(clip: np.ndarray, rate_hz: int, floor_db: float | None = None) -> tuple[int, int]:
    """Returns the first sample, and the end (exclusive), of the word in `clip` i16[t].

    These are the limits of the 10 ms frames within 30 dB of the loudest frame. With `floor_db`, frames must also be
    that many dB above the 10th percentile of frame power, or within 12 dB of the loudest, so that the span ends in a
    noisy clip too.
    """
    power_db, size = _frame_power_db(clip, rate_hz)
    threshold = power_db.max() - 30
    if floor_db is not None:
        threshold = max(threshold, min(np.percentile(power_db, 10) + floor_db, power_db.max() - 12))
    loud = np.flatnonzero(power_db >= threshold)
    return int(loud[0]) * size, min(int(loud[-1] + 1) * size, len(clip))


def spoken_span(clip: np.ndarray, rate_hz: int) -> tuple[int, int]:
    """Returns the first sample, and the end (exclusive), of the word in a recording i16[t] with background noise.

    Frames of 10 ms within 22 dB of the loudest are grouped into runs, separated by pauses of more than 120 ms; the span
    is the run with the most energy. This leaves out breath, clicks and rumble before and after the word.
    Frames less than 12 dB above the 10th percentile are ignored, unless they are within 12 dB of the loudest.
    """
    power_db, size = _frame_power_db(clip, rate_hz)
    threshold = power_db.max() - 22
    threshold = max(threshold, min(np.percentile(power_db, 10) + 12, power_db.max() - 12))
    loud = np.flatnonzero(power_db >= threshold)
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > round(0.12 / FRAME_SECONDS)) + 1)
    run = max(runs, key=lambda frames: float(np.sum(10 ** (power_db[frames] / 10))))
    return int(run[0]) * size, min(int(run[-1] + 1) * size, len(clip))


def _frame_power_db(clip: np.ndarray, rate_hz: int) -> tuple[np.ndarray, int]:
    """Returns the power of each frame in dB, and the length of a frame in samples."""
    size = max(1, int(FRAME_SECONDS * rate_hz))
    padded = np.pad(clip.astype(np.float32), (0, -len(clip) % size)).reshape(-1, size)
    return 10 * np.log10(np.mean(np.square(padded), axis=1) + 1e-3), size


def render(plan: Plan, clips: Clips) -> Scene:
    """Computes the sound and the words of a test scene: the unmodified clips with gaps, one common gain, then noise.

    `plan` describes the scene by indices of `clips`.
    """
    rng, rate_hz = np.random.default_rng(plan.seed), clips.rate_hz
    parts, words, at = [], [], 0
    for gap, index in zip(plan.gap_seconds, plan.clips, strict=False):
        clip = clips[index]
        at += round(gap * rate_hz)
        start, end = span(clip, rate_hz)
        parts.append((at, clip.astype(np.float32) / 32768))
        words.append(Word(int(clips.label[index]), at + start, at + end))
        at += len(clip)
    sound = laid_out(parts, at + round(plan.gap_seconds[-1] * rate_hz))
    sound = levelled(sound, words, plan.peak_db)
    if plan.snr_db is not None:
        noise = noise_of(plan.noise, rng, len(sound), clips, plan.babble)
        reference = speech_power(sound, words) if words else 10 ** ((plan.peak_db - 12) / 10)
        sound = corrupt.mixed(sound, noise, reference, plan.snr_db)
    return Scene(quantised(sound, rng), tuple(words))


def faded(sound: np.ndarray, num_samples: int, *, opens: bool = True) -> np.ndarray:
    """Returns `sound` f32[t] faded out over its last `num_samples`, and faded in over its first ones if `opens`.

    In a sound shorter than two fades, each fade takes half.
    """
    ramp = np.linspace(0, 1, min(num_samples, len(sound) // 2 + 1), dtype=np.float32)
    sound = sound.copy()
    if opens:
        sound[: len(ramp)] *= ramp
    sound[len(sound) - len(ramp) :] *= ramp[::-1]
    return sound


def laid_out(parts: Sequence[tuple[int, np.ndarray]], num_samples: int) -> np.ndarray:
    """Returns f32[num_samples], the sum of sounds that begin at given samples, cropped at its end.

    `parts` are pairs of the first sample and the sound f32[t].
    """
    sound = np.zeros(num_samples, np.float32)
    for at, part in parts:
        kept = part[: max(0, num_samples - at)]
        sound[at : at + len(kept)] += kept
    return sound


def levelled(sound: np.ndarray, words: Sequence[Word], peak_db: float) -> np.ndarray:
    """Returns `sound` f32[t], scaled so that the loudest sample of its words is at `peak_db`; 0 dB is full scale."""
    peak = max((float(np.abs(sound[word.start : word.end]).max(initial=0.0)) for word in words), default=1.0)
    return sound * np.float32(10 ** (peak_db / 20) / max(peak, 1e-5))


def speech_power(sound: np.ndarray, words: Sequence[Word]) -> float:
    """Returns the mean square of the samples of `sound` f32[t] that are in one of `words`."""
    return corrupt.power(np.concatenate([sound[word.start : word.end] for word in words]))


def noise_of(name: str, rng: np.random.Generator, num_samples: int, clips: Clips, babble: Iterable[int]) -> np.ndarray:
    """Returns noise f32[num_samples] of mean power 1, at the sampling rate of `clips`.

    `name` is a key of `audio.noise.NOISES`; or "babble", which is the sum of the clips at the indices `babble`,
    reversed and repeated. Raises InputError for an unknown name.
    """
    if name == "babble":
        sound = np.zeros(num_samples, np.float32)
        for index in babble:  # each is one reversed clip, repeated
            clip = clips[index][::-1].astype(np.float32)
            talk = np.resize(np.concatenate([clip, np.zeros(rng.integers(1, 4000))]), num_samples + len(clip))
            start = rng.integers(len(clip))
            sound += talk[start : start + num_samples] / np.sqrt(corrupt.power(clip))
        return (sound / np.sqrt(corrupt.power(sound))).astype(np.float32)
    if name not in corrupt.NOISES:
        raise InputError(f"there is no noise {name!r}; choose one of {', '.join([*corrupt.NOISES, 'babble'])}.")
    return corrupt.NOISES[name](rng, num_samples, clips.rate_hz)


def quantised(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns `sound` f32[t] in [-1, 1] as i16[t], with dither of one quantisation step."""
    dithered = sound * 32768 + rng.random(len(sound), np.float32) - 0.5
    return to_int16(dithered)


def sample_plans(
    clips: Clips,
    indices: np.ndarray,
    *,
    number: int,
    seed: int,
    snr_db: float | None = None,
    noises: Sequence[str] = ("white", "pink", "brown", "babble", "hum", "siren"),
) -> list[Plan]:
    """Samples the composition of `number` strings of 1 to 8 words, each by one speaker; 30 % of their gaps are zero.

    `indices` are those of the clips to choose from. The noise is one of `noises` in turn, `snr_db` dB below the words;
    None is without noise. Two calls with one seed that differ in `snr_db` yield the same strings at two noise levels.
    """
    speakers = by_speaker(clips, indices)
    plans = []
    for i in range(number):
        rng = np.random.default_rng([seed, i])
        mine = speakers[rng.integers(len(speakers))]
        chosen = rng.choice(mine, int(rng.integers(1, 9)))
        between = np.where(rng.random(len(chosen) - 1) < 0.3, 0.0, rng.exponential(0.5, len(chosen) - 1))
        plans.append(
            Plan(
                seed=int(rng.integers(2**31)),
                clips=tuple(chosen.tolist()),
                gap_seconds=(
                    round(float(rng.uniform(0.3, 1.5)), 3),
                    *np.round(np.minimum(between, 3), 3).tolist(),
                    1.0,
                ),
                peak_db=round(float(rng.uniform(-40, 0)), 1),
                noise=str(noises[i % len(noises)]),
                snr_db=snr_db,
                babble=tuple(rng.choice(indices, 6).tolist()),
            )
        )
    return plans


def with_snr(plans: Sequence[Plan], snr_db: float | None) -> list[Plan]:
    """Returns copies of `plans` with the signal-to-noise ratio `snr_db`; None is without noise."""
    return [replace(plan, snr_db=snr_db) for plan in plans]


def by_speaker(clips: Clips, indices: np.ndarray) -> list[np.ndarray]:
    """Returns the `indices` of clips grouped by speaker, as one array i64[n] for each speaker, sorted by name."""
    speakers = clips.speaker[indices]
    return [indices[speakers == name] for name in np.unique(speakers)]


def background(name: str, seed: int, seconds: float, clips: Clips, indices: np.ndarray) -> np.ndarray:
    """Returns `seconds` of a noise or of silence, i16[t], whose level changes every 20 seconds.

    `name` is a noise of `noise_of`; or "silence", which is digital zero or faint white noise like that of a
    microphone. Babble uses the `clips` at `indices`.
    """
    parts, rate_hz = [], clips.rate_hz
    for number in range(math.ceil(seconds / 20)):
        rng = np.random.default_rng([seed, number])
        if name == "silence":
            sound = rng.standard_normal(20 * rate_hz, np.float32) * np.float32(rng.choice([0, 1e-5, 1e-4, 1e-3]))
            parts.append(to_int16(sound * 32768))
            continue
        sound = noise_of(name, rng, 20 * rate_hz, clips, rng.choice(indices, 6))
        parts.append(quantised(sound * np.float32(10 ** (rng.uniform(-55, -15) / 20)), rng))
    return np.concatenate(parts)[: int(seconds * rate_hz)]


def chatter(seed: int, seconds: float, clips: Clips, indices: np.ndarray, *, backwards: bool = False) -> np.ndarray:
    """Returns `seconds` of the clips at `indices` in random order, i16[t], with pauses, each at a random level.

    The clips are reversed if `backwards`.
    """
    rng, num_samples, rate_hz = np.random.default_rng(seed), int(seconds * clips.rate_hz), clips.rate_hz
    sound, at = rng.standard_normal(num_samples, np.float32) * np.float32(1e-4), 0
    while True:
        clip = clips[rng.choice(indices)][:: -1 if backwards else 1].astype(np.float32)
        clip *= np.float32(10 ** (rng.uniform(-35, -3) / 20) / max(float(np.abs(clip).max()), 1.0))
        at += round(rng.exponential(0.5) * rate_hz)
        if at + len(clip) > num_samples:
            return quantised(sound, rng)
        sound[at : at + len(clip)] += clip
        at += len(clip)
