"""The convolutional networks on pictures of sound as layers, from their bins f32[B, frames, bands] to logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.attribution.lrp import Layer, Linear, Select, Through
from audiojax.attribution.lrp_layers.parts import (
    FLOOR,
    Bins,
    Seam,
    conv,
    convolved,
    dense,
    log_mel_seam,
    samples_seam,
    stages,
    standardised,
)
from audiojax.errors import InputError
from audiojax.models import alexnet, melcnn
from audiojax.models.alexnet import AlexNet
from audiojax.models.layers import frontend, residual
from audiojax.models.melcnn import MelCNN


def melcnn_seam(model: MelCNN) -> Seam:
    """Before frames that are learnt the features are samples. Raises InputError for other frames than those of log-mel
    and "filterbank"."""

    def layers(variables: dict[str, Any], length: jax.Array) -> list[Layer]:
        return melcnn_layers(model, variables, length)

    if model.frontend == "logmel":
        return log_mel_seam(model, model.margin, model.num_heard, layers)
    if model.frontend == "filterbank":
        return samples_seam(
            "none", lambda variables, length: filterbank_layers(model, variables) + layers(variables, length)
        )
    raise InputError(
        f"config.model.frontend is {model.frontend!r}; explain needs logmel or filterbank before a MelCNN."
    )


def filterbank_layers(model: MelCNN, variables: dict[str, Any]) -> list[Layer]:
    """`frontend.Filterbank`, from samples f32[B, T] in [-1, 1] to bins above their floor; the power of a wave has its
    share in each band, and the logarithm passes all on."""
    waves, bands = frontend.of(model).bind({"params": variables["params"]["front_end"]}).weights()
    filters = {"kernel": waves[:, None], "bias": jnp.zeros(waves.shape[1])}
    return [
        Select(lambda x: jnp.pad(x, ((0, 0), model.margin(x.shape[1])))[..., None]),
        conv(filters, stride=model.hop_samples, padding="VALID"),
        Through(jnp.square),
        Linear(lambda kernel, x: x @ kernel, jnp.vstack([bands, bands]), jnp.zeros((1, 1, bands.shape[1]))),
        Through(lambda x: jnp.log(x + frontend.POWER_FLOOR) - FLOOR),
    ]


def melcnn_layers(model: MelCNN, variables: dict[str, Any], length: jax.Array) -> list[Layer]:
    """From log-mel bins above their floor; each BatchNorm is folded into the convolution before it.

    A bin's relevance is that of its normalised value: what it is compared with, over the training clips and over its
    own clip, is taken as given.
    """
    num_heard = model.num_heard(length)

    def normalised(x: jax.Array) -> jax.Array:
        x = x + FLOOR
        if model.normalise != "none":
            x = standardised(x, variables["batch_stats"]["norm"])
        return model.levelled(x, num_heard)

    return [
        Through(normalised),
        Select(lambda x: x[..., None]),
        *convolved(variables, "0a", num_heard),
        *stages(variables, num_heard, len(model.channels) - 1),
    ]


def alexnet_seam(model: AlexNet) -> Seam:
    """Its bins are decibels above the picture's lowest; frame n is the window around sample (n + 2) hop."""
    window, hop = melcnn.WINDOW_SAMPLES, melcnn.HOP_SAMPLES

    def features(audio: jax.Array, length: jax.Array) -> jax.Array:
        return alexnet.decibel_picture(audio).swapaxes(1, 2) - melcnn.LOWEST_DB

    def heard(x: jax.Array, length: jax.Array) -> jax.Array:
        return jnp.broadcast_to(residual.hears(x, jnp.maximum(-(-length // hop) - 2, 1)), x.shape)

    # A window of 512 samples has more bins than one of 455: each lies between two bands.
    place = np.arange(257) * window / 512
    bands = np.maximum(0, 1 - abs(place[:, None] - np.arange(window // 2))).astype(np.float32)
    bins = Bins("bins of the spectrogram", bands, window, hop, window // 2 - 2 * hop)
    return Seam(features, heard, lambda variables, length: alexnet_layers(variables), bins)


def alexnet_layers(variables: dict[str, Any]) -> list[Layer]:
    """A bin's relevance is that of its decibels below the loudest, as the network reads them."""
    params = variables["params"]
    layers: list[Layer] = [Through(lambda x: x + melcnn.LOWEST_DB)]
    layers.append(Select(lambda x: x.swapaxes(1, 2)[..., None]))
    for i, (_, _, stride, groups, _, pools) in enumerate(alexnet.ALEXNET):
        padding = "VALID" if stride > 1 else "SAME"
        layers += [conv(params[f"conv_{i}"], stride=stride, padding=padding, groups=groups), Through(nn.relu)]
        if pools:
            layers.append(Select(lambda x: nn.max_pool(x, (3, 3), strides=(2, 2))))
    layers.append(Select(lambda x: x.reshape(len(x), -1)))
    for i in range(2):
        layers += [dense(params[f"dense_{i}"]), Through(nn.relu)]
    return [*layers, dense(params["logits"])]
