"""The one preprocessing of sound: mono, resampled, 16 bit; and the one way to make it a fixed length."""

import io
import math

import numpy as np
import soundfile
import soxr

from audiojax.types import InputError

MIN_RATE_HZ, MAX_RATE_HZ = 1000, 768_000  # what sound cards have
_LOUDEST = 8.0  # a larger sample is a fault of the scale: 1 is full scale


def mono(audio: np.ndarray) -> np.ndarray:
    """f32[t] of `audio` f32[t] or f32[t, channels]: their average."""
    with np.errstate(all="ignore"):  # what is not finite is prepare_clip's to refuse
        return audio.mean(axis=1) if audio.ndim == 2 else audio


def prepare_clip(audio: np.ndarray, source_rate_hz: int, rate_hz: int) -> np.ndarray:
    """Mono, resampled with soxr HQ (alias -143 dB), rounded to 16 bit.

    Args:
        audio: f32[t] or f32[t, channels] in [-1, 1] at `source_rate_hz`; what is somewhat louder is clipped.
        rate_hz: the rate of the result.

    Returns:
        i16[t * rate_hz / source_rate_hz], at least one sample.

    Raises:
        InputError: no samples, or samples that are not finite or far beyond full scale.
    """
    audio = mono(audio)
    if not audio.size:
        raise InputError("holds no samples")
    if not np.isfinite(audio).all():
        raise InputError("holds samples that are not finite numbers")
    if (peak := np.abs(audio).max()) > _LOUDEST:  # 1e38 overflows in soxr
        raise InputError(f"holds samples up to {peak:.6g}, where 1 is full scale; scale them (int16: divide by 32768)")
    if source_rate_hz != rate_hz:
        audio = soxr.resample(audio, source_rate_hz, rate_hz, quality="HQ")
    if not audio.size:
        raise InputError(f"is shorter than one sample at {rate_hz} Hz")
    return np.clip(np.rint(np.clip(audio, -1, 1) * 32768.0), -32768, 32767).astype(np.int16)


def wav_file(clip: np.ndarray, rate_hz: int) -> bytes:
    """A WAV file, 16 bit, of `clip` i16[t] or f32[t] in [-1, 1]."""
    out = io.BytesIO()
    soundfile.write(out, clip, rate_hz, format="WAV", subtype="PCM_16")
    return out.getvalue()


def fit_length(clip: np.ndarray, out: np.ndarray) -> int:
    """Copies `clip` i16[t] into `out` i16[T], truncated or zero right-padded; returns the samples kept, min(t, T)."""
    kept = min(len(clip), len(out))
    out[:kept] = clip[:kept]
    out[kept:] = 0
    return kept


def loudest_part(clip: np.ndarray, num_samples: int) -> np.ndarray:
    """i16[min(t, num_samples)]: the stretch of `clip` i16[t] that holds the most energy; the first of equals."""
    if len(clip) <= num_samples:
        return clip
    energy = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
    start = int(np.argmax(energy[num_samples:] - energy[:-num_samples]))
    return clip[start : start + num_samples]


class Resampler:
    """Sound of one rate to another as it comes, in chunks of any size, with the same samples for any chunking.

    A windowed-sinc filter (Kaiser, -70 dB) that needs 4 ms of what comes after a sample at 8 kHz; a library's streaming
    resampler waits for 40 to 155 ms (soxr 1.1, LQ and HQ), which a person would notice.
    """

    HALF_WIDTH = 32  # samples of the slower rate on each side

    def __init__(self, source_rate_hz: int, rate_hz: int):
        """Raises InputError for a rate that no sound card has."""
        if not MIN_RATE_HZ <= source_rate_hz <= MAX_RATE_HZ:
            raise InputError(f"the sample rate is {source_rate_hz} Hz; give one from {MIN_RATE_HZ} to {MAX_RATE_HZ}.")
        divisor = math.gcd(source_rate_hz, rate_hz)
        self._up, self._down = rate_hz // divisor, source_rate_hz // divisor
        slower = min(1.0, rate_hz / source_rate_hz)
        self._reach = math.ceil(self.HALF_WIDTH / slower)
        offsets = np.arange(-self._reach, self._reach + 1)
        at = (offsets[None, :] - np.arange(self._up)[:, None] / self._up) * slower
        window = np.i0(7.0 * np.sqrt(np.maximum(0, 1 - np.square(at / self.HALF_WIDTH)))) / np.i0(7.0)
        kernel = np.sinc(0.94 * at) * window * (abs(at) <= self.HALF_WIDTH)
        self._kernel = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)  # [phase, tap]
        self._kept = np.zeros(self._reach, np.float32)  # what comes before the next sample's reach
        self._done = 0  # samples given
        self._first = -self._reach  # the place of `_kept`'s first sample in the source

    def feed(self, audio: np.ndarray) -> np.ndarray:
        """f32[n] at the new rate, as far as `audio` f32[t] makes it certain."""
        heard = np.concatenate([self._kept, audio.astype(np.float32)])
        last = self._first + len(heard) - 1 - self._reach  # the last place whose surroundings are known
        stop = max(self._done, last * self._up // self._down + 1)
        number = np.arange(self._done, stop) * self._down
        place, phase = number // self._up - self._reach - self._first, number % self._up
        if len(place):
            windows = np.lib.stride_tricks.sliding_window_view(heard, 2 * self._reach + 1)[place]
            out = np.einsum("nt,nt->n", windows, self._kernel[phase])
        else:
            out = np.empty(0, np.float32)
        self._done = stop
        drop = max(0, min(stop * self._down // self._up - self._reach - self._first, len(heard)))
        self._kept, self._first = heard[drop:].copy(), self._first + drop
        return out

    def flush(self) -> np.ndarray:
        """The rest, as if silence followed."""
        return self.feed(np.zeros(self._reach, np.float32))
