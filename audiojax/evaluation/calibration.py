"""Confidence intervals of accuracies and calibration of probabilities."""

from dataclasses import dataclass

import numpy as np

from audiojax.errors import InputError
from audiojax.inference import softmax


def wilson(num_correct: int, num_clips: int) -> tuple[float, float]:
    """Returns the lower and upper end of the 95 % confidence interval of an accuracy, in [0, 1].

    It is the score interval of Wilson 1927 (JASA 22, 209-212) for `num_correct` of `num_clips`.
    """
    if num_clips < 1:
        raise InputError("the accuracy of no clips is undefined; choose a split with clips.")
    from scipy.stats import binomtest  # late: it takes half a second

    low, high = binomtest(num_correct, num_clips).proportion_ci(method="wilson")
    return float(low), float(high)


@dataclass(frozen=True)
class Reliability:
    """Mean confidence, accuracy and number of clips for predictions of similar confidence, to judge calibration.

    The confidence is the probability of the predicted label; its range [0, 1] is divided into bins of equal width. In
    empty bins, the confidence and accuracy are NaN.
    """

    confidence: np.ndarray  # f64[bins], mean
    accuracy: np.ndarray  # f64[bins]
    clips: np.ndarray  # i64[bins]

    @property
    def error(self) -> float:
        """Returns the expected calibration error in [0, 1] (Guo et al. 2017, eq. 5).

        It is the mean absolute difference of confidence and accuracy, weighted by the clips of each bin.
        """
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(np.sum(gaps * self.clips) / self.clips.sum())


def reliability(probabilities: np.ndarray, label: np.ndarray, num_bins: int = 15) -> Reliability:
    """Returns the accuracy by confidence of n predictions, `probabilities` f64[n, labels].

    `label` i32[n] are the true labels, and `num_bins` is the number of intervals of the confidence.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == label
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=num_bins) / count for values in (confidence, right)]
    return Reliability(means[0], means[1], count)


def cross_entropy(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> float:
    """Returns the mean cross-entropy, in nats, of `logits` [n, labels] / `temperature` for the true `label` i32[n]."""
    chosen = softmax(logits, temperature)[np.arange(len(label)), label]
    return float(-np.log(np.maximum(chosen, 1e-300)).mean())


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """Returns the divisor of the logits in [0.05, 20] with the lowest cross-entropy, called temperature.

    It calibrates probabilities and does not change predictions (Guo et al. 2017, section 4.2). `logits` [n, labels] and
    the true `label` i32[n] should be of validation clips; if all or none are correct, the result is one of the bounds.
    """
    from scipy.optimize import minimize_scalar

    bounds = (np.log(0.05), np.log(20.0))
    found = minimize_scalar(lambda x: cross_entropy(logits, label, np.exp(x)), bounds=bounds, method="bounded")
    return float(np.exp(found.x))
