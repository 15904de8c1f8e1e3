"""Sonification of relevance: the sound weighted by its positive relevance."""

import numpy as np

SMOOTH_SECONDS = 0.005  # smoothing of the weights, which would otherwise add noise
PEAK = 0.9


def of_samples(sound: np.ndarray, relevance: np.ndarray, rate_hz: int) -> np.ndarray:
    """Returns i16[t], `sound` i16[t] weighted by its positive `relevance` f32[t], smoothed over 5 ms and normalised."""
    window = np.hanning(max(3, round(2 * SMOOTH_SECONDS * rate_hz) | 1))
    padded = np.pad(np.maximum(relevance, 0), len(window) // 2)
    return _normalised(sound * np.convolve(padded, window, mode="valid"))


def of_bins(
    sound: np.ndarray,
    relevance: np.ndarray,
    bands: np.ndarray,
    *,
    window_samples: int,
    hop_samples: int,
    before_samples: int,
) -> np.ndarray:
    """Returns i16[t], `sound` i16[t] with the spectrum of each frame weighted by its positive relevance, normalised.

    Args:
        sound: i16[t].
        relevance: f32[frames, num_bands]; frame n starts at sample n * hop_samples - before_samples.
        bands: f32[bins, num_bands], the filter bank. The weight of a bin is the average over its bands.
        window_samples: Length of a frame in samples.
        hop_samples: Number of samples from the start of one frame to the start of the next.
        before_samples: Number of samples of the first frame that precede the sound.
    """
    share = bands / np.maximum(bands.sum(axis=1, keepdims=True), 1e-12)
    weight = np.maximum(relevance, 0) @ share.T
    size = 2 * (len(bands) - 1)
    window = np.hanning(window_samples + 1)[:-1]
    end = hop_samples * (len(relevance) - 1) + window_samples
    padded = np.pad(sound.astype(np.float64), (before_samples, max(0, end - before_samples - len(sound))))
    weighted, overlap = np.zeros(end), np.full(end, 1e-3)
    for frame, weights in enumerate(weight):
        at = slice(frame * hop_samples, frame * hop_samples + window_samples)
        part = np.fft.irfft(np.fft.rfft(padded[at] * window, size) * weights, size)[:window_samples]
        weighted[at] += part * window
        overlap[at] += np.square(window)
    return _normalised((weighted / overlap)[before_samples : before_samples + len(sound)])


def _normalised(sound: np.ndarray) -> np.ndarray:
    """Returns `sound` f64[t] as i16[t] with a peak of 0.9; silence stays silence."""
    peak = np.abs(sound).max(initial=0.0)
    return np.rint(sound * (PEAK * 32767 / peak if peak > 0 else 0.0)).astype(np.int16)
