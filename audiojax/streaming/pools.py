"""The sources of training streams: clips grouped by speaker, and real recordings grouped by corpus."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from audiojax.audio import noise as corrupt
from audiojax.data.clips import Clips
from audiojax.data.real import RealSound, by_corpus
from audiojax.schema import DIGITS
from audiojax.streaming import scenes

FLOOR_DB = 6.0  # argument of `scenes.span`, so that the span ends with the word also in a noisy clip


@dataclass(frozen=True)
class Pool:
    """Clips of single words, grouped by speaker, from which training streams are composed.

    Attributes:
        clips: The clips of a source; only those in `by_speaker` are used.
        by_speaker: The indices of one speaker's clips in each array.
        spans: A cache of the results of `span`, by the index of the clip.
        in_rooms: Whether the clips have background noise before and after the word.
    """

    clips: Clips
    by_speaker: list[np.ndarray]
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    in_rooms: bool = False  # whether the clips have background noise before and after the word

    @classmethod
    def of(cls, clips: Clips, indices: np.ndarray, *, in_rooms: bool = False) -> "Pool":
        """Returns a pool of the clips at `indices`; `in_rooms` is whether they have noise around the word."""
        return cls(clips, scenes.by_speaker(clips, indices), in_rooms=in_rooms)

    def span(self, index: int) -> tuple[int, int]:
        """Returns the first sample, and the end (exclusive), of the word in the clip at `index`."""
        if index not in self.spans:
            clip, rate_hz = self.clips[index], self.clips.rate_hz
            in_rooms = self.in_rooms
            self.spans[index] = scenes.spoken_span(clip, rate_hz) if in_rooms else scenes.span(clip, rate_hz, FLOOR_DB)
        return self.spans[index]

    def sample(self, rng: np.random.Generator, number: int) -> np.ndarray:
        """Returns the indices of `number` clips of one random speaker, sampled with replacement.

        Speakers have equal probability; in a pool of recordings in rooms, it is proportional to the square root of
        their number of clips.
        """
        if not self.in_rooms:
            return rng.choice(self.by_speaker[rng.integers(len(self.by_speaker))], number)
        shares = np.sqrt([len(indices) for indices in self.by_speaker])
        return rng.choice(self.by_speaker[int(rng.choice(len(shares), p=shares / shares.sum()))], number)


# Relative sampling frequencies of the corpora of other speech and of noise.
SPEECH_WEIGHTS = {"speech_commands_words": 4.0, "librispeech": 3.0, "wake_words": 2.0, "coffee": 2.0, "mycroft": 2.5}
NOISE_WEIGHTS = {"rooms": 4.0, "esc10": 1.5, "speech_commands_background": 1.5, "speech_commands_silence": 1.5}


class Real:
    """Real recordings for training streams: words grouped by speaker; other speech and noise grouped by corpus.

    `words` is the pool of words to recognise; None if none are recorded.
    """

    def __init__(self, sound: RealSound, label_names: Sequence[str] = DIGITS):
        """Groups the recordings in `sound` by speaker and by corpus.

        If `label_names`, the words to recognise, are not the digits, `words` is None, and the recorded digits are other
        speech. Recordings of a word in `label_names` are left out of other speech.
        """
        is_digits = tuple(label_names) == DIGITS
        self.words = Pool.of(sound.digits, sound.digit_indices, in_rooms=True) if is_digits else None
        self._sound = sound
        spoken = [(sound.speech, sound.speech_indices), *([] if is_digits else [(sound.digits, sound.digit_indices)])]
        names = {name.lower() for name in label_names}
        self._speech = [
            group
            for clips, indices in spoken
            for group in _by_corpus(clips, _without(sound, clips, indices, names), SPEECH_WEIGHTS)
        ]
        self._noise = _by_corpus(sound.noise, sound.noise_indices, NOISE_WEIGHTS)

    def speech(self, rng: np.random.Generator) -> np.ndarray:
        """Returns a random segment of speech, i16[t], that avoids words to recognise, labelled or possible ones.

        It lasts 0.6 to 4 s, or less if the recording is shorter.
        """
        while True:
            clips, indices, _ = self._speech[_weighted(rng, self._speech)]
            index = int(rng.choice(indices))
            clip, rate_hz = clips[index], clips.rate_hz
            size = min(len(clip), round(rng.uniform(0.6, 4.0) * rate_hz))
            first = int(rng.integers(len(clip) - size + 1))
            unsure = self._sound.unsure.get(clips.path[index], ())
            if all(end * rate_hz <= first or start * rate_hz >= first + size for start, end in unsure):
                return clip[first : first + size]

    def noise(self, rng: np.random.Generator, num_samples: int) -> np.ndarray:
        """Returns noise f32[num_samples] of mean power 1: recordings of one corpus, joined by cross-fades of 50 ms."""
        clips, indices, _ = self._noise[_weighted(rng, self._noise)]
        fade = round(0.05 * clips.rate_hz)
        sound = np.zeros(num_samples + fade, np.float32)
        same, at = rng.random() < 0.3, 0  # whether one recording is repeated
        index = int(rng.choice(indices))
        while at < num_samples:
            clip = clips[index].astype(np.float32)
            clip = clip[int(rng.integers(max(1, len(clip) // 2))) :]
            clip = clip / np.sqrt(corrupt.power(clip)) * np.float32(10 ** (rng.normal(0, 2) / 20))
            clip = scenes.faded(clip, fade)
            kept = clip[: len(sound) - at]
            sound[at : at + len(kept)] += kept
            at += max(len(clip) - fade, fade)
            index = index if same else int(rng.choice(indices))
        sound = sound[:num_samples]
        return sound / np.sqrt(corrupt.power(sound))


_Group = tuple[Clips, np.ndarray, float]  # clips, the indices of a corpus, and its relative sampling frequency


def _by_corpus(clips: Clips, indices: np.ndarray, weights: dict[str, float]) -> list[_Group]:
    return [(clips, mine, weights.get(name, 1.0)) for name, mine in by_corpus(clips, indices).items()]


def _without(sound: RealSound, clips: Clips, indices: np.ndarray, names: Collection[str]) -> np.ndarray:
    """Returns the `indices` of clips whose spoken word is not one of `names`."""
    return indices[[sound.text[clips.path[index]].lower() not in names for index in indices]]


def _weighted(rng: np.random.Generator, groups: Sequence[_Group]) -> int:
    weights = np.asarray([weight for *_, weight in groups])
    return int(rng.choice(len(groups), p=weights / weights.sum()))
