"""What predictions tell beyond their accuracy: how sure one may be of it, and of each probability. numpy only."""

from dataclasses import dataclass

import numpy as np

from audiojax.errors import InputError


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """f64[..., labels] of probabilities: of `logits` / `temperature`."""
    scaled = np.asarray(logits, np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def wilson(num_correct: int, num_clips: int) -> tuple[float, float]:
    """The 95 % score interval of an accuracy, in [0, 1] (Wilson 1927, JASA 22, 209-212)."""
    if num_clips < 1:
        raise InputError("no clips have no accuracy; choose a split that holds some.")
    z, share = 1.959964, num_correct / num_clips
    centre = share + z**2 / (2 * num_clips)
    reach = z * np.sqrt(share * (1 - share) / num_clips + (z / (2 * num_clips)) ** 2)
    scale = 1 + z**2 / num_clips
    low, high = (centre - reach) / scale, (centre + reach) / scale
    return max(0.0, min(float(low), share)), min(1.0, max(float(high), share))  # rounding must not exclude 0 and 1


@dataclass(frozen=True)
class Reliability:
    """Predictions by their confidence, in bins of equal width over [0, 1]; empty bins have nan."""

    confidence: np.ndarray  # f64[bins], mean
    accuracy: np.ndarray  # f64[bins]
    clips: np.ndarray  # i64[bins]

    @property
    def error(self) -> float:
        """The expected calibration error: mean gap of accuracy and confidence, in [0, 1] (Guo et al. 2017, eq. 5)."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(np.sum(gaps * self.clips) / self.clips.sum())


def reliability(probabilities: np.ndarray, label: np.ndarray, num_bins: int = 15) -> Reliability:
    """How often `probabilities` f64[n, labels] are right about `label` i32[n], by the largest of each row."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=num_bins) / count for values in (confidence, right)]
    return Reliability(means[0], means[1], count)


def cross_entropy(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> float:
    """The mean of -log p(label), in nats."""
    chosen = softmax(logits, temperature)[np.arange(len(label)), label]
    return float(-np.log(np.maximum(chosen, 1e-300)).mean())


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """The temperature in [0.05, 20] whose probabilities fit `label` best (Guo et al. 2017, section 4.2).

    It changes no decision. Fit it on validation clips; where all are right or none is, it ends at a bound.
    """
    from scipy.optimize import minimize_scalar

    bounds = (np.log(0.05), np.log(20.0))
    found = minimize_scalar(lambda x: cross_entropy(logits, label, np.exp(x)), bounds=bounds, method="bounded")
    return float(np.exp(found.x))
