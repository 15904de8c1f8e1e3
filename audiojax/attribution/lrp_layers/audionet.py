"""AudioNet and ResNet1D as layers, from scaled samples f32[B, T] to logits.

Each BatchNorm is folded into the convolution before it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.attribution.lrp import Layer, Select, Through
from audiojax.attribution.lrp_layers.parts import Seam, conv, convolved, dense, folded, samples_seam, stages
from audiojax.models.audionet import HIDDEN, AudioNet, max_pool, max_pool_wide
from audiojax.models.resnet1d import ResNet1D


def audionet_seam(model: AudioNet) -> Seam:
    """Returns an AudioNet split in two: the scaling of the samples, and the layers after it, which are explained."""
    return samples_seam(model.scale, lambda variables, length: audionet_layers(model, variables))


def audionet_layers(model: AudioNet, variables: dict[str, Any]) -> list[Layer]:
    """Returns an AudioNet's layers from scaled samples f32[B, T] to logits.

    `variables` are its parameters and statistics.
    """
    params, becker = variables["params"], model.variant == "becker"
    layers: list[Layer] = [Select(lambda x: x[..., None])]
    for i in range(sum(name.startswith("conv_") for name in params)):
        block = params[f"conv_{i}"]
        if f"norm_{i}" in params:
            block = folded(block, params[f"norm_{i}"], variables["batch_stats"][f"norm_{i}"])
        layers += [conv(block), Select(max_pool_wide if becker and i == 0 else max_pool), Through(nn.relu)]
    layers.append(Select(lambda x: x.reshape(len(x), -1)))
    for i in range(len(HIDDEN)):
        layers += [dense(params[f"dense_{i}"])] + ([] if becker else [Through(nn.relu)])
    return [*layers, dense(params["logits"])] + ([Through(nn.relu)] if model.relu_on_logits else [])


def resnet_seam(model: ResNet1D) -> Seam:
    """Returns a ResNet1D split in two: the scaling of the samples, and the layers after it, which are explained."""
    return samples_seam(model.scale, lambda variables, length: resnet_layers(model, variables, length))


def resnet_layers(model: ResNet1D, variables: dict[str, Any], length: jax.Array) -> list[Layer]:
    """Returns a ResNet1D's layers from scaled samples f32[B, T], zero right-padded, to logits.

    `variables` are its parameters and statistics, and `length` i32[B] the number of samples of each clip without
    padding.
    """
    num_valid = -(-length // model.hop_samples)
    return [
        Select(lambda x: jnp.pad(x, ((0, 0), model.margin(x.shape[1])))[..., None]),
        *convolved(variables, "0", num_valid, stride=model.hop_samples, padding="VALID"),
        *stages(variables, num_valid, len(model.channels) - 1),
    ]
