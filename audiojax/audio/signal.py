"""Preprocessing of sound: mono, resampled, 16 bit; truncation and padding to a fixed length."""

import io
from typing import Any

import numpy as np
import soundfile
import soxr

from audiojax.errors import InputError, one_line

MIN_RATE_HZ, MAX_RATE_HZ = 1000, 768_000  # the range of sound cards
MAX_CHANNELS = 32  # a longer second axis is time
_LOUDEST = 8.0  # a larger sample indicates a wrong scale: 1 is full scale


def mono(audio: np.ndarray) -> np.ndarray:
    """Returns the average f32[t] of the channels of `audio` f32[t] or f32[t, channels]."""
    with np.errstate(all="ignore"):  # prepare_clip refuses values that are not finite
        return audio.mean(axis=1) if audio.ndim == 2 else audio


def to_int16(units: np.ndarray) -> np.ndarray:
    """Returns `units`, floats at int16 scale, rounded and clipped to i16, -32768 to 32767."""
    return np.clip(np.rint(units), -32768, 32767).astype(np.int16)


def prepare_clip(audio: np.ndarray, source_rate_hz: int, rate_hz: int) -> np.ndarray:
    """Averages the channels, resamples with soxr HQ (aliases are below -143 dB), and rounds to 16 bit.

    Args:
        audio: f32[t] or f32[t, channels] in [-1, 1]; larger values are clipped.
        source_rate_hz: The sampling rate of `audio`.
        rate_hz: The sampling rate of the result.

    Returns:
        i16[t * rate_hz / source_rate_hz], at least one sample.

    Raises:
        InputError: There are no samples, or samples that are not finite or above 8 in magnitude.
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
    return to_int16(np.clip(audio, -1, 1) * 32768.0)


def wav_file(clip: np.ndarray, rate_hz: int) -> bytes:
    """Returns the bytes of a WAV file, 16 bit, of `clip` i16[t] or f32[t] in [-1, 1]."""
    out = io.BytesIO()
    soundfile.write(out, clip, rate_hz, format="WAV", subtype="PCM_16")
    return out.getvalue()


def fit_length(clip: np.ndarray, out: np.ndarray) -> int:
    """Copies `clip` i16[t] into `out` i16[T], cropped or zero right-padded; returns the number of samples kept."""
    kept = min(len(clip), len(out))
    out[:kept] = clip[:kept]
    out[kept:] = 0
    return kept


def loudest_part(clip: np.ndarray, num_samples: int) -> np.ndarray:
    """Returns the part i16[min(t, num_samples)] of `clip` i16[t] with the most energy, the first of several."""
    if len(clip) <= num_samples:
        return clip
    energy = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
    start = int(np.argmax(energy[num_samples:] - energy[:-num_samples]))
    return clip[start : start + num_samples]


def check_rate(rate_hz: Any) -> int:
    """Returns a sampling rate as an int. Raises InputError unless it is a whole number from 1,000 to 768,000 Hz."""
    number = np.asarray(rate_hz) if np.isscalar(rate_hz) or hasattr(rate_hz, "dtype") else np.empty(0)
    range_hz = f"from {MIN_RATE_HZ} to {MAX_RATE_HZ}."
    if number.shape or number.dtype.kind not in "iuf" or number != np.rint(number):
        given = repr(rate_hz) if isinstance(rate_hz, str) else rate_hz
        raise InputError(f"the sample rate is {one_line(given)} Hz; give a whole number {range_hz}")
    if not MIN_RATE_HZ <= number <= MAX_RATE_HZ:
        raise InputError(f"the sample rate is {one_line(number)} Hz; give one {range_hz}")
    return int(number)


def mono_samples(samples: Any) -> np.ndarray:
    """Returns any array of samples as a new mono array that shares no memory with it.

    Args:
        samples: [t] or [t, channels], of any byte order; or lists. Floats are in [-1, 1]; integers use the full range
            of their type; the middle of an unsigned range is silence. Channels are averaged.

    Returns:
        i16[t] unchanged, or f32[t] scaled to [-1, 1]; NaN becomes 0, infinities become +-1.

    Raises:
        InputError: The shape or type is not supported, or the values do not fit the scale of their type.
    """
    audio = _sample_array(samples)
    if audio.ndim == 2 and audio.shape[1] == 1:
        audio = audio[:, 0]
    if audio.ndim == 1 and audio.dtype.kind == "i" and audio.dtype.itemsize == 2:
        return audio.astype(np.int16, copy=True)
    if audio.dtype.kind == "f":
        scaled = np.nan_to_num(audio.astype(np.float64), nan=0.0, posinf=1.0, neginf=-1.0)
        peak = float(np.abs(scaled).max(initial=0.0))
        if peak > _LOUDEST:
            raise InputError(
                f"float samples reach {peak:.6g}, and full scale is 1; divide samples at int16 scale by 32768."
            )
    else:
        full_scale = 2.0 ** (8 * audio.dtype.itemsize - 1)
        scaled = (audio.astype(np.float64) - (full_scale if audio.dtype.kind == "u" else 0)) / full_scale
        peak = float(np.abs(scaled).max(initial=0.0))
        if audio.dtype.itemsize == 8 and 0 < peak < 2.0**-32:  # below the least significant bit of 32 bit
            raise InputError(
                f"{audio.dtype} samples reach {peak * full_scale:.6g} of {full_scale:.0f}, which is silence; "
                "convert them to the integer type whose range they use, for example samples.astype(np.int16)."
            )
    return mono(scaled).astype(np.float32)


def _sample_array(samples: Any) -> np.ndarray:
    """Returns `samples` as an array of numbers, [t] or [t, channels]. Raises InputError if they are not."""
    advice = "give an array of float32 in [-1, 1] or of int16, [samples] or [samples, channels]."
    if isinstance(samples, bytes | bytearray | memoryview | str):
        kind = type(samples).__name__
        raise InputError(f'samples are {kind}, of unknown format; {advice[:-1]}, such as np.frombuffer(x, "<i2").')
    try:
        audio = np.asarray(samples)
    except Exception as error:  # conversion can raise anything
        raise InputError(f"samples are not an array ({one_line(error)}); {advice}") from None
    if audio.dtype.kind not in "iuf":
        raise InputError(f"samples have the type {audio.dtype}, which is not numeric; {advice}")
    if audio.ndim not in (1, 2) or (audio.ndim == 2 and not 1 <= audio.shape[1] <= MAX_CHANNELS):
        raise InputError(f"samples have the shape {audio.shape}; {advice}")
    return audio
