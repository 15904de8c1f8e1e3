"""Streaming resampling."""

import functools
import math
from typing import NamedTuple

import numpy as np

from audiojax.audio.signal import check_rate


class _Kernel(NamedTuple):
    """A polyphase filter; with `steps`, it is interpolated linearly between phases."""

    reach: int  # source samples on each side
    phases: int
    taps: np.ndarray  # f32[phases, 2 * reach + 1]
    steps: np.ndarray | None  # f32[phases, 2 * reach + 1], differences of adjacent phases; None without interpolation


class Resampler:
    """Resamples a stream in chunks of any size; the result does not depend on the sizes.

    It is a windowed-sinc filter (Kaiser, -70 dB) with a latency of 4 ms at 8 kHz; the streaming resampler of soxr 1.1
    has 40 to 155 ms (LQ and HQ). If the ratio of the rates needs many phases, the filter is interpolated between fewer,
    which limits the memory to half a megabyte.
    """

    HALF_WIDTH = 32  # samples of the lower rate on each side
    PHASES = 256  # per sample of the lower rate, with interpolation: the error is below -90 dB
    MAX_TAPS = 1 << 16  # of all phases, without interpolation
    BLOCK_TAPS = 1 << 16  # per matrix product

    def __init__(self, source_rate_hz: int, rate_hz: int):
        """Computes the filter from `source_rate_hz` to `rate_hz`. Raises InputError for an invalid source rate."""
        source_rate_hz = check_rate(source_rate_hz)
        divisor = math.gcd(source_rate_hz, rate_hz)
        self._up, self._down = rate_hz // divisor, source_rate_hz // divisor
        self._kernel = _kernel(self._up, self._down)
        self._reach = self._kernel.reach
        self._kept = np.zeros(self._reach, np.float32)  # the source samples that are still needed
        self._done = 0  # samples returned
        self._first = -self._reach  # the position of the first kept sample in the source

    def feed(self, audio: np.ndarray) -> np.ndarray:
        """Takes the next samples of the stream; returns f32[n], the samples at the new rate that they complete."""
        source = np.concatenate([self._kept, audio.astype(np.float32)])
        last = self._first + len(source) - 1 - self._reach  # the last position within reach
        stop = max(self._done, last * self._up // self._down + 1)
        place, phase = divmod(self._done * self._down, self._up)  # Python integers, which do not overflow
        number = phase + np.arange(stop - self._done) * self._down
        out = self._filter(source, place - self._reach - self._first + number // self._up, number % self._up)
        self._done = stop
        drop = max(0, min(stop * self._down // self._up - self._reach - self._first, len(source)))
        self._kept, self._first = source[drop:].copy(), self._first + drop
        return out

    def flush(self) -> np.ndarray:
        """Returns the remaining f32[n] samples at the end of the stream, as if silence followed."""
        return self.feed(np.zeros(self._reach, np.float32))

    def _filter(self, source: np.ndarray, place: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """Returns f32[n], the filter at n phases applied at n positions of `source`, in blocks."""
        out = np.empty(len(place), np.float32)
        reach, phases, taps, steps = self._kernel
        number, left = np.divmod(phase * phases, self._up)
        fraction = (left / self._up).astype(np.float32)
        size = max(1, self.BLOCK_TAPS // (2 * reach + 1))
        for start in range(0, len(place), size):
            block = slice(start, start + size)
            windows = np.lib.stride_tricks.sliding_window_view(source, 2 * reach + 1)[place[block]]
            out[block] = np.einsum("nt,nt->n", windows, taps[number[block]])
            if steps is not None:
                out[block] += fraction[block] * np.einsum("nt,nt->n", windows, steps[number[block]])
        return out


@functools.lru_cache(maxsize=64)
def _kernel(up: int, down: int) -> _Kernel:
    """Returns the filter that maps `down` samples to `up`; they have no common divisor."""
    slower = min(1.0, up / down)
    reach = math.ceil(Resampler.HALF_WIDTH / slower)
    whole = up * (2 * reach + 1) <= Resampler.MAX_TAPS
    phases = up if whole else math.ceil(Resampler.PHASES * slower)
    offsets = np.arange(-reach, reach + 1)
    at = (offsets[None, :] - np.arange(phases + 1)[:, None] / phases) * slower
    window = np.i0(7.0 * np.sqrt(np.maximum(0, 1 - np.square(at / Resampler.HALF_WIDTH)))) / np.i0(7.0)
    kernel = np.sinc(0.94 * at) * window * (abs(at) <= Resampler.HALF_WIDTH)
    kernel /= kernel.sum(axis=1, keepdims=True)
    steps = None if whole else np.diff(kernel, axis=0).astype(np.float32)
    return _Kernel(reach, phases, kernel[:-1].astype(np.float32), steps)
