"""Attribution of one answer to the samples or bins of its input."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from audiojax import config as configs
from audiojax.attribution import lrp_layers, methods, sonify
from audiojax.attribution.lrp_layers.parts import Seam
from audiojax.audio.signal import loudest_part
from audiojax.data import batches
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.evaluation import plots
from audiojax.inference import Trained

DEFAULT = "integrated"


class Explanation(NamedTuple):
    """What spoke for `label`, and against it."""

    label: str
    probability: float
    sound: np.ndarray  # i16[t], what was heard
    features: np.ndarray  # f32[t] or f32[frames, bands], behind the front end; 0 is silence
    relevance: np.ndarray  # as features; of the logit


def explain(run: Trained, sound: np.ndarray, method: str = DEFAULT, label: str | None = None) -> Explanation:
    """Why `run` hears `label`, or what it hears most probably, in `sound` i16[t]. Raises InputError as `check` does."""
    check(run, method, label)
    shape = configs.batch_shape(run.config) | {"batch_size": 1}
    if not (run.model.any_length and run.config.train.bucket_samples):
        sound = loudest_part(sound, run.config.train.length_samples)
    clips = Clips.unlabelled([sound], run.config.data.rate_hz)
    [batch] = batches.evaluation(clips, np.arange(1), **shape)
    audio, length = batch["audio"], batch["length"]
    sound = audio[0, : length[0]]  # with the silence that random placement puts before it, as predict does
    probabilities = run.probabilities(run.logits(audio, length))[0]
    number = run.label_names.index(label) if label else int(probabilities.argmax())
    features, heard, shares = jax.device_get(
        _shares(run.model, run.variables, audio, length, np.asarray([number], np.int32), method)
    )
    kept = heard[0] if features.ndim == 2 else heard[0, :, 0]
    return Explanation(run.label_names[number], float(probabilities[number]), sound, features[0][kept], shares[0][kept])


def check(run: Trained, method: str, label: str | None = None) -> None:
    """Raises InputError for a network, method or label that cannot be explained."""
    seam = lrp_layers.seam(run.model)
    if method not in _methods(seam):
        raise InputError("--method lrp-alpha2beta1 grows threefold with every step of a recurrence; choose lrp-z+.")
    if label is not None and label not in run.label_names:
        raise InputError(f"--label {label!r} is not known to this network; choose one of {', '.join(run.label_names)}.")


def _methods(seam: Seam) -> list[str]:
    return [name for name in methods.METHODS if not (seam.recurrent and name == "lrp-alpha2beta1")]


@functools.partial(jax.jit, static_argnames=("model", "method"))
def _shares(
    model: nn.Module, variables: dict[str, Any], audio: jax.Array, length: jax.Array, label: jax.Array, method: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features, which of them are no padding, and their relevance."""
    seam = lrp_layers.seam(model)
    x = seam.features(audio, length)
    return x, seam.heard(x, length), methods.METHODS[method](seam.layers(variables, length), x, label)


def heatmap(run: Trained, of: Explanation) -> np.ndarray:
    """i16[t]: the sound of what spoke for the answer."""
    bins = lrp_layers.seam(run.model).bins
    if bins is None:
        return sonify.of_samples(of.sound, of.relevance, run.config.data.rate_hz)
    size = {name: getattr(bins, name) for name in ("window_samples", "hop_samples", "before_samples")}
    return sonify.of_bins(of.sound, of.relevance, bins.bands, **size)


def draw(run: Trained, of: Explanation, title: str, path: Path) -> Path:
    """The picture of an explanation."""
    rate_hz, bins = run.config.data.rate_hz, lrp_layers.seam(run.model).bins
    if bins is None:
        return plots.relevance_of_samples(of.sound, of.relevance, rate_hz, title, path)
    middle_hz = bins.bands.argmax(axis=0) * rate_hz / (2 * (len(bins.bands) - 1))
    # A frame is drawn as one hop in the middle of its window.
    start = (bins.window_samples - bins.hop_samples) / 2 - bins.before_samples
    seconds = (start + np.asarray([0, len(of.features)]) * bins.hop_samples) / rate_hz
    return plots.relevance_of_bins(of.sound, of.features, of.relevance, middle_hz, rate_hz, seconds, title, path)
