"""MelCNN and AlexNet as layers, from spectrogram bins f32[B, frames, bands] to logits."""

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
    """Returns a MelCNN split in two: its front end, and the layers after it, which are explained.

    The layers exclude the front end "logmel" but include the trainable "filterbank", so that with it samples are
    explained. Raises InputError for other front ends.
    """

    def layers(variables: dict[str, Any], length: jax.Array) -> list[Layer]:
        return melcnn_layers(model, variables, length)

    if model.frontend == "logmel":
        return log_mel_seam(model, model.margin, model.num_frames, layers)
    if model.frontend == "filterbank":
        return samples_seam(
            "none", lambda variables, length: filterbank_layers(model, variables) + layers(variables, length)
        )
    raise InputError(
        f"config.model.frontend is {model.frontend!r}; explain supports logmel and filterbank only for this network."
    )


def filterbank_layers(model: MelCNN, variables: dict[str, Any]) -> list[Layer]:
    """Returns a MelCNN's front end "filterbank" as layers, from samples f32[B, T] in [-1, 1] to bins above their floor.

    A band's relevance is divided among the filters by their power in it; the logarithm passes relevance on unchanged.
    `variables` are the parameters and statistics of the network.
    """
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
    """Returns a MelCNN's layers from log-mel bins f32[B, frames, bands] above their floor to logits.

    `variables` are its parameters and statistics, and `length` i32[B] the number of samples of each clip without
    padding. Each BatchNorm is folded into its convolution. A bin's relevance is that of its normalised value: the means
    that are subtracted, over the training clips and over its own clip, are treated as constants.
    """
    num_valid = model.num_frames(length)

    def normalised(x: jax.Array) -> jax.Array:
        x = x + FLOOR
        if model.normalise != "none":
            x = standardised(x, variables["batch_stats"]["norm"])
        return model.levelled(x, num_valid)

    return [
        Through(normalised),
        Select(lambda x: x[..., None]),
        *convolved(variables, "0a", num_valid),
        *stages(variables, num_valid, len(model.channels) - 1),
    ]


def alexnet_seam(model: AlexNet) -> Seam:
    """Returns an AlexNet split in two: its spectrogram, and the layers after it, which are explained.

    Bins are decibels above the lowest level; frame n is centred on sample (n + 2) hop.
    """
    window, hop = melcnn.WINDOW_SAMPLES, melcnn.HOP_SAMPLES

    def features(audio: jax.Array, length: jax.Array) -> jax.Array:
        return alexnet.decibel_picture(audio).swapaxes(1, 2) - melcnn.LOWEST_DB

    def valid(x: jax.Array, length: jax.Array) -> jax.Array:
        return jnp.broadcast_to(residual.valid_mask(x, jnp.maximum(-(-length // hop) - 2, 1)), x.shape)

    # A window of 512 samples has more bins than one of 455: each lies between two bands.
    place = np.arange(257) * window / 512
    bands = np.maximum(0, 1 - abs(place[:, None] - np.arange(window // 2))).astype(np.float32)
    bins = Bins("bins of the spectrogram", bands, window, hop, window // 2 - 2 * hop)
    return Seam(features, valid, lambda variables, length: alexnet_layers(variables), bins)


def alexnet_layers(variables: dict[str, Any]) -> list[Layer]:
    """Returns an AlexNet's layers from bins f32[B, frames, bins], decibels above the lowest level, to logits.

    The network itself takes decibels below the loudest bin. `variables` are its parameters.
    """
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
