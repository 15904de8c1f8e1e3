"""The pending sound of one stream."""

from typing import Any

import numpy as np

from audiojax.audio.resample import Resampler
from audiojax.audio.signal import check_rate, mono_samples, to_int16
from audiojax.errors import InputError
from audiojax.streaming.decoder import FLUSH_SECONDS


class Slot:
    """The sound of one stream that the network has not processed yet, as i16 samples at the network's sampling rate.

    `steps` counts the network steps that have been processed, and `num_waiting` the samples that wait.
    """

    def __init__(self, network_rate_hz: int) -> None:
        """Starts a stream without sound; `network_rate_hz` is the sampling rate that the network needs."""
        self._network_rate_hz = network_rate_hz
        self.waiting: list[np.ndarray] = []
        self.num_waiting = 0
        self.steps = 0
        self.rate_hz = 0
        self.resampler: Resampler | None = None

    def push(self, samples: Any, rate_hz: Any = None) -> None:
        """Appends samples to the waiting sound, resampled to the network's rate.

        Args:
            samples: An array [t] or [t, channels]: floats in [-1, 1], or integers over the range of their type.
            rate_hz: Their sampling rate in Hz; None for the network's.

        Raises:
            InputError: The samples or the rate are invalid, or the rate differs from that of earlier samples. The
                stream is unchanged.
        """
        rate_hz = self._network_rate_hz if rate_hz is None else check_rate(rate_hz)
        audio = mono_samples(samples)
        if self.rate_hz not in (0, rate_hz):
            raise InputError(f"the stream's rate is {self.rate_hz} Hz and cannot become {rate_hz} Hz; reset it first.")
        if not self.rate_hz and rate_hz != self._network_rate_hz:
            self.resampler = Resampler(rate_hz, self._network_rate_hz)
        self.rate_hz = rate_hz
        if self.resampler:
            scale = np.float32(1 / 32768) if audio.dtype == np.int16 else np.float32(1)
            audio = self.resampler.feed(audio.astype(np.float32) * scale)
        self._add(audio if audio.dtype == np.int16 else to_int16(audio * 32768.0))

    def finish(self, step_samples: int) -> None:
        """Ends the stream: appends the last samples of the resampler, 0.5 s of silence, and zeros up to a whole step.

        `step_samples` is the number of samples per step of the network.
        """
        if self.resampler:
            self._add(to_int16(self.resampler.flush() * 32768.0))
        self._add(np.zeros(round(FLUSH_SECONDS * self._network_rate_hz), np.int16))
        self._add(np.zeros(-self.num_waiting % step_samples, np.int16))

    def take(self, num_samples: int) -> np.ndarray:
        """Removes and returns the first i16[num_samples] of the waiting sound, which has at least that many."""
        audio = np.concatenate(self.waiting) if len(self.waiting) > 1 else self.waiting[0]
        rest = audio[num_samples:]
        self.waiting = [rest if len(rest) >= num_samples else rest.copy()]  # a view would keep the whole array alive
        self.num_waiting -= num_samples
        return audio[:num_samples]

    def _add(self, audio: np.ndarray) -> None:
        if len(audio):
            self.waiting.append(audio)
            self.num_waiting += len(audio)
