"""The recurrent network as layers, from log-mel bins to logits."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.attribution.lrp import Layer, Linear, Recurrent, Select, Through
from audiojax.attribution.lrp_layers.parts import FLOOR, Seam, dense, log_mel_seam, row, standardised
from audiojax.errors import InputError
from audiojax.models.gru import GRU
from audiojax.models.layers.averages import readout_weights, running_levels
from audiojax.models.layers.causal_conv import WIDTH, patches
from audiojax.models.layers.cells import GRUCell, MinGRUCell


def gru_seam(model: GRU) -> Seam:
    """Returns a GRU split in two: its log-mel front end, and the layers after it, which are explained.

    Raises InputError for a network for streams, and for other front ends.
    """
    if model.task == "streams":
        raise InputError(
            "config.task is 'streams', but explain supports clip classifiers only (configs/cnn.py, configs/gru.py)."
        )
    if model.frontend != "logmel":
        raise InputError(f"config.model.frontend is {model.frontend!r}; explain supports logmel only for this network.")

    def margin(num_samples: int) -> tuple[int, int]:
        return model.window_samples - model.hop_samples, -num_samples % model.step_samples

    def num_frames(length: jax.Array) -> jax.Array:
        return -(-length // model.hop_samples)

    seam = log_mel_seam(model, margin, num_frames, lambda variables, length: gru_layers(model, variables, length))
    return seam._replace(recurrent=True)


def gru_layers(model: GRU, variables: dict[str, Any], length: jax.Array) -> list[Layer]:
    """Returns a GRU's layers from log-mel bins f32[B, frames, bands] above their floor to logits.

    `variables` are its parameters and statistics, and `length` i32[B] the number of samples of each clip without
    padding. A bin's relevance is that of its normalised value: the means that are subtracted, over the training clips
    and over the previous frames, are treated as constants.
    """
    params, stack = variables["params"], model.stack_frames
    layers: list[Layer] = [Through(lambda x: _normalised(model, variables, x))]
    layers.append(Select(lambda x: x.reshape(x.shape[0], x.shape[1] // stack, stack, x.shape[2])))
    if model.channels:
        layers.append(Select(lambda x: x.swapaxes(2, 3)))
        for i in range(len(model.channels)):
            layers += [_causal_conv(params[f"convolutions_{i}"]), Through(nn.relu)]
    layers.append(Select(lambda x: x.reshape(*x.shape[:2], -1)))
    if model.dense:
        layers += [_dense_in_time(params["inputs"]), Through(nn.relu)]
    cells = {"gru": _gru, "min_gru": _min_gru}
    layers += [cells[model.cell](params[f"layers_{i}"]) for i in range(model.num_layers)]
    layers += [_readout(model, length), Select(lambda x: x.reshape(len(x), -1)), dense(params["logits"])]
    return layers


def _normalised(model: GRU, variables: dict[str, Any], x: jax.Array) -> jax.Array:
    if model.normalise == "none":
        return x + FLOOR
    x = standardised(x + FLOOR, variables["batch_stats"]["norm"])
    if model.normalise == "fixed":
        return x
    x = x.swapaxes(0, 1)
    return (x - running_levels(jnp.zeros_like(x[0]), x, model.normalise_decay)).swapaxes(0, 1)


def _causal_conv(params: dict[str, Any]) -> Linear:
    def apply(kernel: jax.Array, x: jax.Array) -> jax.Array:
        steps = jnp.pad(x.swapaxes(0, 1), ((WIDTH - 1, 0), (0, 0), (0, 0), (0, 0)))
        return (patches(steps) @ kernel).swapaxes(0, 1)

    return Linear(apply, params["kernel"], params["bias"].reshape(1, 1, 1, -1))


def _dense_in_time(params: dict[str, Any]) -> Linear:
    return Linear(lambda kernel, x: x @ kernel, params["kernel"], params["bias"].reshape(1, 1, -1))


def _gru(params: dict[str, Any]) -> Recurrent:
    project, kernel, bias = params["project"], params["kernel"], params["bias"]
    size = kernel.shape[0]
    cell = GRUCell(size)
    into, of_state = (jnp.split(k, 3, axis=1) for k in (project["kernel"], kernel))
    biases = jnp.split(row(project["bias"]), 3, axis=1)

    def run(x: jax.Array) -> jax.Array:
        return cast(jax.Array, cell.apply({"params": params}, jnp.zeros((x.shape[1], size)), x, method="run"))

    def gates(x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        r, keep = (nn.sigmoid(x @ into[i] + before @ of_state[i] + biases[i][None]) for i in range(2))
        return r, keep

    return Recurrent(run, gates, (into[2], of_state[2]), (biases[2], bias), jnp.tanh)


def _min_gru(params: dict[str, Any]) -> Recurrent:
    keeps, candidate = params["keep"], params["candidate"]
    size = candidate["kernel"].shape[1]
    cell = MinGRUCell(size)

    def run(x: jax.Array) -> jax.Array:
        return cast(jax.Array, cell.apply({"params": params}, jnp.zeros((x.shape[1], size)), x, method="run"))

    def gates(x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        keep = nn.sigmoid(x @ keeps["kernel"] + keeps["bias"].reshape(1, 1, -1))
        return jnp.zeros_like(keep), keep

    kernels = (candidate["kernel"], jnp.zeros((size, size)))
    return Recurrent(run, gates, kernels, (row(candidate["bias"]), jnp.zeros((1, size))), lambda x: x)


def _readout(model: GRU, length: jax.Array) -> Linear:
    """Returns the layer that averages the states, [B, N, features] -> [B, averages, features]."""

    def apply(one: jax.Array, x: jax.Array) -> jax.Array:
        num_steps = -(-length // model.step_samples) if model.mask_padding else jnp.full_like(length, x.shape[1])
        return one * jnp.einsum("bnf,rnb->brf", x, readout_weights(model.readout, num_steps, x.shape[1]))

    return Linear(apply, jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1)))
