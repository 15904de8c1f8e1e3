"""Samples the speech of training scenes from recordings of several words, such as numbers that are read aloud."""

from collections.abc import Sequence

import numpy as np

from audiojax.audio import noise as corrupt
from audiojax.audio.time_scale import time_scaled
from audiojax.data.strings import UNSURE, StringRecordings
from audiojax.streaming import scenes
from audiojax.streaming.scenes import Word

SPEECH_POWER = 0.005  # of each recording, its pauses included, before its level is sampled


class Strings:
    """Word strings for training scenes: recordings of several words each, with start and end times of the words."""

    def __init__(self, recordings: StringRecordings, label_names: Sequence[str]):
        """Converts the times of the words to samples, and their labels to indices of `label_names`.

        The index -1 is for a word that may or may not be one of the labels, which the loss ignores.
        """
        self._clips = recordings.clips
        self._by_speaker = scenes.by_speaker(self._clips, np.arange(len(self._clips)))
        numbers = {name: label for label, name in enumerate(label_names)} | {UNSURE: -1}
        rate_hz = self._clips.rate_hz
        self._words = [
            [Word(numbers[name], round(start * rate_hz), round(end * rate_hz), n) for name, start, end, n in words]
            for words in (recordings.words[path] for path in self._clips.path)
        ]

    def sample(self, rng: np.random.Generator, num_samples: int) -> tuple[list[tuple[int, np.ndarray]], list[Word]]:
        """Samples recordings of one speaker to fill `num_samples`, with random speed, tempo, level and pauses.

        Returns:
            The recordings as [(first sample, f32[t])], and the words in them; all positions are in samples, from 0 to
            `num_samples`.
        """
        parts: list[tuple[int, np.ndarray]] = []
        words: list[Word] = []
        rate_hz, mine = self._clips.rate_hz, self._by_speaker[rng.integers(len(self._by_speaker))]
        speed, tempo = rng.uniform(-0.15, 0.15), rng.uniform(-0.3, 0.35) if rng.random() < 0.7 else 0.0
        pause, at = rng.uniform(0.1, 1.0), round(rng.exponential(0.4) * rate_hz)
        for _ in range(40):
            index = int(rng.choice(mine))
            sound, places = time_scaled(
                self._clips[index].astype(np.float32) / 32768,
                float(np.exp(speed + rng.normal(0, 0.02))),
                float(np.exp(tempo)) if tempo else 1.0,
                [place for word in self._words[index] for place in (word.start, word.end)],
            )
            if at + len(sound) > num_samples:
                break
            level_db = rng.normal(0, 2)
            sound *= np.float32(np.sqrt(SPEECH_POWER / corrupt.power(sound)) * 10 ** (level_db / 20))
            parts.append((at, sound))
            words += [
                word._replace(start=at + start, end=at + end)
                for word, start, end in zip(self._words[index], places[::2], places[1::2], strict=True)
            ]
            at += len(sound) + round(rng.exponential(pause) * rate_hz)
        return parts, words
