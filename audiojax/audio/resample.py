"""Streaming resampling."""

import functools
import math
from typing import NamedTuple

import numpy as np

from audiojax.audio.signal import check_rate


class _Kernel(NamedTuple):
    """A filter at a number of phases, between which it is linear where there are steps."""

    reach: int  # source samples on each side
    phases: int
    taps: np.ndarray  # f32[phases, 2 * reach + 1]
    steps: np.ndarray | None  # f32[phases, 2 * reach + 1], from each phase to the next; None where every phase is there


class Resampler:
    """Sound of one rate to another as it comes, in chunks of any size, with the same samples for any chunking.

    A windowed-sinc filter (Kaiser, -70 dB) that needs 4 ms of what comes after a sample at 8 kHz; a library's streaming
    resampler waits for 40 to 155 ms (soxr 1.1, LQ and HQ), which a person would notice. Rates whose ratio has many
    phases share some of them and interpolate, so that no rate takes more than half a megabyte.
    """

    HALF_WIDTH = 32  # samples of the slower rate on each side
    PHASES = 256  # a sample of the slower rate: between them the filter is linear, which is wrong by less than -90 dB
    MAX_TAPS = 1 << 16  # of all phases, where none is left out
    BLOCK_TAPS = 1 << 16  # that are multiplied at once

    def __init__(self, source_rate_hz: int, rate_hz: int):
        """Raises InputError for a rate that no sound card has."""
        source_rate_hz = check_rate(source_rate_hz)
        divisor = math.gcd(source_rate_hz, rate_hz)
        self._up, self._down = rate_hz // divisor, source_rate_hz // divisor
        self._kernel = _kernel(self._up, self._down)
        self._reach = self._kernel.reach
        self._kept = np.zeros(self._reach, np.float32)  # what comes before the next sample's reach
        self._done = 0  # samples given
        self._first = -self._reach  # the place of `_kept`'s first sample in the source

    def feed(self, audio: np.ndarray) -> np.ndarray:
        """f32[n] at the new rate, as far as `audio` f32[t] makes it certain."""
        heard = np.concatenate([self._kept, audio.astype(np.float32)])
        last = self._first + len(heard) - 1 - self._reach  # the last place whose surroundings are known
        stop = max(self._done, last * self._up // self._down + 1)
        place, phase = divmod(self._done * self._down, self._up)  # integers of any size, as a stream has no end
        number = phase + np.arange(stop - self._done) * self._down
        out = self._filter(heard, place - self._reach - self._first + number // self._up, number % self._up)
        self._done = stop
        drop = max(0, min(stop * self._down // self._up - self._reach - self._first, len(heard)))
        self._kept, self._first = heard[drop:].copy(), self._first + drop
        return out

    def flush(self) -> np.ndarray:
        """The rest, as if silence followed."""
        return self.feed(np.zeros(self._reach, np.float32))

    def _filter(self, heard: np.ndarray, place: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """f32[n]: the filter at n phases on what begins at n places of `heard`, a block at a time."""
        out = np.empty(len(place), np.float32)
        reach, phases, taps, steps = self._kernel
        number, left = np.divmod(phase * phases, self._up)
        fraction = (left / self._up).astype(np.float32)
        size = max(1, self.BLOCK_TAPS // (2 * reach + 1))
        for start in range(0, len(place), size):
            block = slice(start, start + size)
            windows = np.lib.stride_tricks.sliding_window_view(heard, 2 * reach + 1)[place[block]]
            out[block] = np.einsum("nt,nt->n", windows, taps[number[block]])
            if steps is not None:
                out[block] += fraction[block] * np.einsum("nt,nt->n", windows, steps[number[block]])
        return out


@functools.lru_cache(maxsize=64)
def _kernel(up: int, down: int) -> _Kernel:
    """The filter that takes `down` samples to `up`; up and down have no common divisor."""
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
