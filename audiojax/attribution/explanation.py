"""Attribution of a prediction to the samples or spectrogram bins of its input."""

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
    """The relevance of each input value for the logit of one label: the share of the logit that is attributed to it.

    Attributes:
        label: The name of the label.
        probability: The probability that the network assigns to it.
        sound: i16[t], the input of the network.
        features: The output of the front end, which is explained: samples f32[t] or bins f32[frames, bands]; 0 is
            silence.
        relevance: The relevance of each value of `features`.
    """

    label: str
    probability: float
    sound: np.ndarray  # i16[t], the input of the network
    features: np.ndarray  # f32[t] or f32[frames, bands], the output of the front end; 0 is silence
    relevance: np.ndarray  # of the shape of features


def explain(run: Trained, sound: np.ndarray, method: str = DEFAULT, label: str | None = None) -> Explanation:
    """Returns the relevance of each sample or bin of `sound` i16[t] for the logit of `label`.

    `run` is a network that classifies clips, `method` a name in `methods.METHODS`; the label is by default the
    predicted one. Raises InputError as `check` does.
    """
    check(run, method, label)
    shape = configs.batch_shape(run.config) | {"batch_size": 1}
    if not (run.model.any_length and run.config.train.bucket_samples):
        sound = loudest_part(sound, run.config.train.length_samples)
    clips = Clips.unlabelled([sound], run.config.data.rate_hz)
    [batch] = batches.evaluation(clips, np.arange(1), **shape)
    audio, length = batch["audio"], batch["length"]
    sound = audio[0, : length[0]]  # with the silence of a random placement, as in predict
    probabilities = run.probabilities(run.logits(audio, length))[0]
    number = run.label_names.index(label) if label else int(probabilities.argmax())
    features, valid, shares = jax.device_get(
        _shares(run.model, run.variables, audio, length, np.asarray([number], np.int32), method)
    )
    kept = valid[0] if features.ndim == 2 else valid[0, :, 0]
    return Explanation(run.label_names[number], float(probabilities[number]), sound, features[0][kept], shares[0][kept])


def check(run: Trained, method: str, label: str | None = None) -> None:
    """Raises InputError if the network of `run` does not support the attribution method or have the label."""
    seam = lrp_layers.seam(run.model)
    if method not in _methods(seam):
        raise InputError("--method lrp-alpha2beta1 diverges in recurrent networks; choose lrp-z+.")
    if label is not None and label not in run.label_names:
        raise InputError(
            f"--label {label!r} is not a label of this network; choose one of {', '.join(run.label_names)}."
        )


def _methods(seam: Seam) -> list[str]:
    return [name for name in methods.METHODS if not (seam.recurrent and name == "lrp-alpha2beta1")]


@functools.partial(jax.jit, static_argnames=("model", "method"))
def _shares(
    model: nn.Module, variables: dict[str, Any], audio: jax.Array, length: jax.Array, label: jax.Array, method: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the features, which of them are not padding, and their relevance."""
    seam = lrp_layers.seam(model)
    x = seam.features(audio, length)
    return x, seam.valid(x, length), methods.METHODS[method](seam.layers(variables, length), x, label)


def heatmap(run: Trained, of: Explanation) -> np.ndarray:
    """Returns i16[t], the explained sound weighted by its positive relevance, so that its relevant parts can be heard.

    `of` is an explanation of a prediction by the network of `run`.
    """
    bins = lrp_layers.seam(run.model).bins
    if bins is None:
        return sonify.of_samples(of.sound, of.relevance, run.config.data.rate_hz)
    size = {name: getattr(bins, name) for name in ("window_samples", "hop_samples", "before_samples")}
    return sonify.of_bins(of.sound, of.relevance, bins.bands, **size)


def draw(run: Trained, of: Explanation, title: str, path: Path) -> Path:
    """Plots an explanation of the network of `run` to the PNG file `path`, and returns that path."""
    rate_hz, bins = run.config.data.rate_hz, lrp_layers.seam(run.model).bins
    if bins is None:
        return plots.relevance_of_samples(of.sound, of.relevance, rate_hz, title, path)
    middle_hz = bins.bands.argmax(axis=0) * rate_hz / (2 * (len(bins.bands) - 1))
    # A frame is shown as one hop in the middle of its window.
    start = (bins.window_samples - bins.hop_samples) / 2 - bins.before_samples
    seconds = (start + np.asarray([0, len(of.features)]) * bins.hop_samples) / rate_hz
    return plots.relevance_of_bins(of.sound, of.features, of.relevance, middle_hz, rate_hz, seconds, title, path)
