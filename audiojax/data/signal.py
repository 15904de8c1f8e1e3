"""The one preprocessing of sound: mono, resampled, 16 bit; and the one way to make it a fixed length."""

import io

import numpy as np
import soundfile
import soxr

from audiojax.types import InputError


def mono(audio: np.ndarray) -> np.ndarray:
    """f32[t] of `audio` f32[t] or f32[t, channels]: their average."""
    with np.errstate(all="ignore"):  # what is not finite is prepare_clip's to refuse
        return audio.mean(axis=1) if audio.ndim == 2 else audio


def prepare_clip(audio: np.ndarray, source_rate_hz: int, rate_hz: int) -> np.ndarray:
    """Mono, resampled with soxr HQ (alias -143 dB), rounded to 16 bit.

    Args:
        audio: f32[t] or f32[t, channels] in [-1, 1] at `source_rate_hz`; what is louder is clipped.
        rate_hz: the rate of the result.

    Returns:
        i16[t * rate_hz / source_rate_hz], at least one sample.

    Raises:
        InputError: no samples, or samples that are not finite.
    """
    audio = mono(audio)
    if not audio.size:
        raise InputError("holds no samples")
    if not np.isfinite(audio).all():
        raise InputError("holds samples that are not finite numbers")
    if source_rate_hz != rate_hz:
        audio = soxr.resample(np.clip(audio, -8, 8), source_rate_hz, rate_hz, quality="HQ")  # 1e38 overflows in soxr
    if not audio.size:
        raise InputError(f"is shorter than one sample at {rate_hz} Hz")
    return np.clip(np.rint(np.clip(audio, -1, 1) * 32768.0), -32768, 32767).astype(np.int16)


def wav_file(clip: np.ndarray, rate_hz: int) -> bytes:
    """A WAV file of `clip` i16[t]."""
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
