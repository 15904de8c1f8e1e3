"""Samples continuous training streams that are composed of words, noise and other speech.

Room, microphone, coding, level and noise are sampled for each scene, `SCENE_SEGMENTS` consecutive segments of a stream;
speed and tempo for each word.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from audiojax.audio import noise as corrupt
from audiojax.audio.time_scale import time_scaled
from audiojax.data.clips import Batch
from audiojax.errors import InputError
from audiojax.streaming import scenes
from audiojax.streaming.mixture import SYNTHETIC_ONLY, Mixture
from audiojax.streaming.pools import FLOOR_DB, Pool, Real
from audiojax.streaming.scenes import Scene, Word
from audiojax.streaming.strings import Strings
from audiojax.streaming.targets import targets

SCENE_SEGMENTS = 3  # length of a scene, in training segments
WORD_POWER = 0.01  # of each word or phrase where real recordings are used, before its level is sampled


class StreamBatches:
    """Training batches of stream segments with targets: each row continues its stream, or starts a new one.

    Batch k is a function of (seed, k). An epoch is `num_steps` batches, after which the model is scored.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        others: Sequence[Pool],
        *,
        batch_size: int,
        segment_samples: int,
        step_samples: int,
        num_steps: int,
        rows: slice = slice(None),
        seed: int,
        mixture: Mixture = SYNTHETIC_ONLY,
        real: Real | None = None,
        strings: Strings | None = None,
    ):
        """Configures the batches; raises InputError if `segment_samples` is not a multiple of `step_samples`.

        The words of `pools` are to be recognised (the training set, then synthetic voices), those of `others` are not.
        `real` and `strings` are real recordings, of single and of several words. `mixture` has the shares of all these.
        Only `rows` of each batch are computed. Without `real`, noise and other speech are synthetic.
        """
        if segment_samples % step_samples:
            raise InputError(
                f"config.train.length_samples is {segment_samples}; choose a multiple of the step, {step_samples}."
            )
        self.num_steps, self.clips_per_step = num_steps, float(batch_size)
        self._rows = range(batch_size)[rows]
        self._segment, self._step = segment_samples, step_samples
        self._num_labels = len(pools[0].clips.label_names)
        self._scene = functools.lru_cache(maxsize=len(self._rows) + 1)(
            lambda row, number: sample_scene(
                np.random.default_rng([seed, row, number]),
                pools,
                others,
                SCENE_SEGMENTS * segment_samples,
                mixture,
                real,
                strings,
            )
        )
        self._rate_hz = pools[0].clips.rate_hz
        self._seed, self._mixture = seed, mixture

    def __call__(self, start: int, stop: int) -> Iterator[Batch]:
        """Yields batches `start` to `stop` (exclusive).

        `label` i32[B, N], `mask` f32[B, N], `times` f32[B, N, 2] and `copies` i32[B, N] are the targets of the N steps,
        see `targets.Targets`; `mask` is the weight in the loss. `reset` f32[B] is 1 where a new stream starts.
        """
        for k in range(start, stop):
            segments = [self._part(row, k + row) for row in self._rows]
            yield cast(Batch, {name: np.stack([segment[name] for segment in segments]) for name in segments[0]})

    def _part(self, row: int, segment: int) -> dict[str, Any]:
        number, part = divmod(segment, SCENE_SEGMENTS)
        scene, start = self._scene(row, number), part * self._segment
        steps = self._segment // self._step
        fresh, onset = self._begins(row, segment)
        if segment and self._begins(row, segment - 1)[1] is not None:
            fresh = True  # the previous segment was from another position of its scene
        if onset is not None:
            start = self._first_sample(scene, start, onset)
        target = targets(scene.words, start, steps, self._step, self._num_labels, self._rate_hz, fresh=fresh)
        target.mask[target.label < self._num_labels] *= self._mixture.word_weight
        audio = scene.audio[start : start + self._segment]
        return dict(audio=audio, length=np.int32(self._segment), reset=np.float32(fresh), **target._asdict())

    def _begins(self, row: int, segment: int) -> tuple[bool, np.random.Generator | None]:
        """Returns whether a segment starts a new stream and, if it is to begin with a word, a generator."""
        rng = np.random.default_rng([self._seed, row, segment, 1])
        fresh = bool(rng.random() < self._mixture.fresh_share)
        return fresh, rng if fresh and rng.random() < self._mixture.onset_share else None

    def _first_sample(self, scene: Scene, start: int, rng: np.random.Generator) -> int:
        """Returns the first sample of a segment that begins at most 0.03 s before a word; `start` if there is none."""
        last = len(scene.audio) - self._segment
        onsets = [word.start for word in scene.words if word.label >= 0 and word.start <= last]
        early = int(rng.integers(0, round(0.03 * self._rate_hz)))
        return max(0, int(rng.choice(onsets)) - early) if onsets else start


def sample_scene(
    rng: np.random.Generator,
    pools: Sequence[Pool],
    others: Sequence[Pool],
    num_samples: int,
    mixture: Mixture = SYNTHETIC_ONLY,
    real: Real | None = None,
    strings: Strings | None = None,
) -> Scene:
    """Samples a training scene: words, other speech, both or neither, with reverberation, noise and coding.

    `pools` have the words to recognise (the training set, then synthetic voices), `others` the other speech.
    """
    rate_hz = pools[0].clips.rate_hz
    kind = rng.choice(4, p=np.asarray(mixture.shares) / sum(mixture.shares))
    if real and real.words and rng.random() < mixture.real_words:
        pool = real.words
    elif len(pools) == 1 or rng.random() >= mixture.synthetic_words:
        pool = pools[0]
    else:
        pool = pools[int(rng.integers(1, len(pools)))]
    if strings and rng.random() < mixture.strings_share:
        parts, words = strings.sample(rng, num_samples)
    else:
        parts, words = sample_speech(rng, pool, others, num_samples, kind in (0, 1), kind in (1, 2), mixture, real)
    sound = scenes.laid_out(parts, num_samples)
    sound = scenes.levelled(sound, [Word(0, at, at + len(part)) for at, part in parts], 0.0)

    gains: list[Callable[..., Any]] = (
        [functools.partial(corrupt.response, rng, filter_db=12.0)] if rng.random() < 0.8 else []
    )
    impulse = corrupt.room(rng, rate_hz) if rng.random() < 0.35 else None
    if gains or impulse is not None:
        sound = corrupt.filtered(sound, impulse, gains, rate_hz)
        sound /= max(float(np.abs(sound).max()), 1e-5)
    loudness = corrupt.power(np.concatenate([part for _, part in parts])) if parts else 0.02
    _add_noise(rng, sound, loudness, pool, mixture, real)
    if real and rng.random() < 0.5:  # so that the bandwidth does not identify the corpus
        sound = corrupt.filtered(sound, None, [corrupt.low_pass(rng.uniform(2800, 3900))], rate_hz)
    sound *= np.float32(10 ** (rng.uniform(-40, 0) / 20))
    if mixture.coded_share and rng.random() < mixture.coded_share:
        sound = corrupt.compressed(sound, rate_hz, *corrupt.CODECS[int(rng.integers(len(corrupt.CODECS)))])
    else:
        sound = _coded(rng, sound, rate_hz)
    return Scene(scenes.quantised(sound, rng), tuple(words))


def _add_noise(
    rng: np.random.Generator, sound: np.ndarray, loudness: float, pool: Pool, mixture: Mixture, real: Real | None
) -> None:
    """Adds noise to `sound` f32[t], in place.

    Signal-to-noise ratios refer to `loudness`, the mean power of the speech. `pool` is the scene's pool of words.
    """
    real_noise = real is not None and rng.random() < mixture.real_noise
    names = ["real"] if real_noise else []
    if not (real_noise and rng.random() < 0.6):
        names += _noises(rng)
    low_db, high_db = mixture.snr_db
    if pool.in_rooms:  # noise must not start and end with a recorded word
        names, high_db = names or ["pink"], max(low_db, min(high_db, 25.0))
    for name in names:
        if name == "real":
            assert real
            noise, easy_db = real.noise(rng, len(sound)), 0.0
        else:
            noise = scenes.noise_of(name, rng, len(sound), pool.clips, pool.sample(rng, int(rng.integers(1, 7))))
            easy_db = 10.0 if name in ("hum", "rumble", "clicks", "beeps") else 0.0  # these mask little of a word
        snr_db = rng.uniform(low_db, high_db) - rng.uniform(0, easy_db)
        sound += noise * np.float32(np.sqrt(loudness * 10 ** (-snr_db / 10)))


def _noises(rng: np.random.Generator) -> list[str]:
    number, names = rng.choice([0, 1, 2, 3], p=[0.25, 0.45, 0.2, 0.1]), list(corrupt.TRAINED)
    return list(rng.choice(names, number, replace=False, p=list(corrupt.TRAINED.values())))


def _coded(rng: np.random.Generator, sound: np.ndarray, rate_hz: int) -> np.ndarray:
    coding = rng.random()
    if coding < 0.05:
        return corrupt.eight_bit(sound)
    if coding < 0.15:
        return corrupt.mu_law(corrupt.filtered(sound, None, [corrupt.telephone], rate_hz))
    if coding < 0.2:
        return np.clip(sound * np.float32(rng.uniform(1, 4)), -1, 1)  # overdriven
    if coding < 0.6:
        return sound + rng.standard_normal(len(sound), np.float32) * np.float32(10 ** (rng.uniform(-90, -60) / 20))
    return sound


def sample_speech(
    rng: np.random.Generator,
    pool: Pool,
    others: Sequence[Pool],
    num_samples: int,
    with_words: bool,
    with_others: bool,
    mixture: Mixture = SYNTHETIC_ONLY,
    real: Real | None = None,
) -> tuple[list[tuple[int, np.ndarray]], list[Word]]:
    """Samples words of `pool`, other speech, or both; returns the sounds as [(first sample, f32[t])], and the words."""
    parts: list[tuple[int, np.ndarray]] = []
    words: list[Word] = []
    if not (with_words or with_others):
        return parts, words
    rate_hz, clips = pool.clips.rate_hz, pool.clips
    busy, mine, same_voice = rng.uniform(0.1, 1.2), pool.sample(rng, 40), rng.random() < 0.8
    speed, tempo = rng.uniform(-0.15, 0.15), rng.uniform(-0.25, 0.6)
    trims = rng.random() < (0.85 if pool.in_rooms else 0.65)
    paced = rng.random() < 0.6
    at, index, group = round(rng.exponential(busy) * rate_hz), -1, 0
    # A number read aloud: one voice, quick, in groups with pauses.
    connected = bool(mixture.connected_share) and not with_others and rng.random() < mixture.connected_share
    if connected:
        same_voice, trims, paced, tempo = True, True, True, rng.uniform(0.0, 0.6)
        close = rng.uniform(0.02, 0.15)
    while True:
        is_word = with_words and not (with_others and rng.random() < 0.5)
        if not (index >= 0 and words and rng.random() < mixture.repeat_share):  # else the word is repeated
            index = int(mine[rng.integers(len(mine))] if same_voice else pool.sample(rng, 1)[0])
        clip = clips[index] if is_word else _no_word(rng, clips[index], rate_hz, others, mixture, real)
        faster = np.exp(speed + rng.normal(0, 0.03)), np.exp(tempo + rng.normal(0, 0.1)) if paced else 1.0
        start, end = pool.span(index) if is_word else scenes.span(clip, rate_hz, FLOOR_DB)
        if trims:
            spare = rate_hz // (24 if connected else 12) if is_word and pool.in_rooms else 0
            margins = rng.integers(0, rate_hz // 20, 2) + spare
            first, last = max(0, start - margins[0]), min(len(clip), end + margins[1])
            clip, start, end = clip[first:last], start - first, end - first
        sound, places = time_scaled(clip.astype(np.float32) / 32768, *faster, (start, end))
        if real:  # so that the level does not identify the corpus
            sound *= np.float32(np.sqrt(WORD_POWER / corrupt.power(sound[places[0] : places[1]])))
        sound = scenes.faded(sound, 240 if pool.in_rooms else 40) * np.float32(
            10 ** (rng.normal(0, 3 if real else 2) / 20)
        )
        if at + len(sound) > num_samples - rate_hz // 3:
            return parts, words
        parts.append((at, sound))
        if is_word:
            words.append(Word(int(clips.label[index]), at + places[0], at + places[1]))
        at += len(sound)
        if connected:
            group = group - 1 if group else int(rng.integers(1, 5))
            seconds = rng.uniform(-mixture.overlap_seconds, close) if group else 0.15 + rng.exponential(0.35)
            at += max(round(seconds * rate_hz), -len(sound) // 4)
        elif rng.random() >= 0.4:
            at += round(rng.exponential(busy) * rate_hz)
        elif mixture.overlap_seconds and trims:
            at -= min(round(rng.uniform(0, mixture.overlap_seconds) * rate_hz), len(sound) // 4)


def _no_word(
    rng: np.random.Generator,
    clip: np.ndarray,
    rate_hz: int,
    others: Sequence[Pool],
    mixture: Mixture,
    real: Real | None,
) -> np.ndarray:
    """Samples i16[t] of speech without any of the words: other words, or `clip` reversed, reordered or cut."""
    if real and rng.random() < mixture.real_speech:
        return real.speech(rng)
    kind = rng.random()
    if others and kind < 0.6:
        other = others[int(rng.integers(len(others)))]
        return other.clips[other.sample(rng, 1)[0]]
    if real and kind < 0.7:  # the beginning or the end of a word
        start, end = scenes.span(clip, rate_hz, FLOOR_DB)
        part, least = round((end - start) * rng.uniform(0.25, 0.45)), rate_hz // 20
        return clip[: max(start + part, least)] if rng.random() < 0.5 else clip[max(0, end - max(part, least)) :]
    if kind < 0.8:
        return clip[::-1]
    pieces = np.array_split(clip, rng.integers(3, 6))
    order = rng.permutation(len(pieces))
    return np.concatenate([pieces[i][::-1] if rng.random() < 0.5 else pieces[i] for i in order])
