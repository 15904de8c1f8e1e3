"""Networks as the layers that `relevance.py` shares relevance out to: what a `Seam` needs of each kind of network.

The seam lies behind the front end: relevance is that of the samples of AudioNet, after their scale, and that of the
bins of a network behind log-mel, in nats above its floor. So 0 is silence in both. All of it is float32.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.models import frontend
from audiojax.models.audionet import HIDDEN, AudioNet, max_pool
from audiojax.models.cells import GRUCell, MinGRUCell, linear_scan
from audiojax.models.gru import GRU, LEVEL_KEEP, READOUTS
from audiojax.relevance import Layer, Linear, Recurrent, Select, Through
from audiojax.types import InputError

FLOOR = math.log(frontend.POWER_FLOOR)  # of log-mel
BATCH_NORM_EPSILON = 1e-5  # flax's


class Seam(NamedTuple):
    """A network cut in two: front end, and what is explained."""

    features: Callable[[jax.Array, jax.Array], jax.Array]  # audio i16[B, T], length i32[B] -> f32[B, ...], 0 is silence
    heard: Callable[[jax.Array, jax.Array], jax.Array]  # features, length -> bool, as features: no padding
    layers: Callable[[dict, jax.Array], list[Layer]]  # variables, length -> the layers from features to logits
    in_time: bool  # features are samples f32[B, T]; else log-mel bins f32[B, frames, bands]


def seam(model: nn.Module) -> Seam:
    """Raises InputError for a network of another kind, or one that listens."""
    if isinstance(model, AudioNet):
        return _audionet_seam(model)
    if not isinstance(model, GRU) or model.listens:
        what = "a listener" if isinstance(model, GRU) else type(model).__name__
        raise InputError(f"the network is {what}; explain one that classifies clips (configs/cnn.py, configs/gru.py).")
    if model.frontend != "logmel":
        raise InputError(f"config.model.frontend is {model.frontend!r}; explain needs logmel before a recurrence.")
    return _gru_seam(model)


def dense(params: dict) -> Linear:
    """flax's Dense."""
    return Linear(lambda kernel, x: x @ kernel, params["kernel"], _row(params["bias"]))


def conv(params: dict) -> Linear:
    """A convolution of stride 1, SAME, over one or two axes: [B, *space, C] -> [B, *space, features]."""
    kernel = params["kernel"]
    axes = "HW"[: kernel.ndim - 2]
    names = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def apply(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1,) * len(axes), "SAME", dimension_numbers=names)

    return Linear(apply, kernel, params["bias"].reshape((1,) * (kernel.ndim - 1) + (-1,)))


def folded(params: dict, norm: dict, statistics: dict) -> dict:
    """The parameters of a convolution or dense layer that does the BatchNorm behind it as well, as in evaluation."""
    factor = norm["scale"] * jax.lax.rsqrt(statistics["var"] + BATCH_NORM_EPSILON)
    kernel = params["kernel"] * factor.reshape((1,) * (params["kernel"].ndim - 1) + (-1,))
    return {"kernel": kernel, "bias": (params["bias"] - statistics["mean"]) * factor + norm["bias"]}


def _row(x: jax.Array) -> jax.Array:
    return x.reshape(1, -1)


def _audionet_seam(model: AudioNet) -> Seam:
    def features(audio: jax.Array, length: jax.Array) -> jax.Array:
        return frontend.rescale(frontend.to_unit_range(audio, jnp.dtype("float32")), length, model.scale)

    def heard(x: jax.Array, length: jax.Array) -> jax.Array:
        return jnp.arange(x.shape[1], dtype=jnp.int32)[None] < length[:, None]

    return Seam(features, heard, lambda variables, length: audionet_layers(model, variables), in_time=True)


def audionet_layers(model: AudioNet, variables: dict) -> list[Layer]:
    """From samples f32[B, T], scaled, to logits; each BatchNorm is folded into the convolution before it."""
    params, becker = variables["params"], model.variant == "becker"
    layers: list[Layer] = [Select(lambda x: x[..., None])]
    for i in range(sum(name.startswith("conv_") for name in params)):
        block = params[f"conv_{i}"]
        if f"norm_{i}" in params:
            block = folded(block, params[f"norm_{i}"], variables["batch_stats"][f"norm_{i}"])
        layers += [conv(block), Select(_wide_pool if becker and i == 0 else max_pool), Through(nn.relu)]
    layers.append(Select(lambda x: x.reshape(len(x), -1)))
    for i in range(len(HIDDEN)):
        layers += [dense(params[f"dense_{i}"])] + ([] if becker else [Through(nn.relu)])
    return [*layers, dense(params["logits"])] + ([Through(nn.relu)] if model.relu_on_logits else [])


def _wide_pool(x: jax.Array) -> jax.Array:
    """Caffe's: three wide, and the last window may reach beyond the end."""
    return nn.max_pool(x, (3,), strides=(2,), padding=[(0, 1 - x.shape[1] % 2)])


def log_mel(model: nn.Module) -> frontend.LogMel:
    """The front end of a network that has `frontend.LogMel`'s fields."""
    names = ("window_samples", "hop_samples", "num_bands", "low_hz", "high_hz", "rate_hz")
    return frontend.LogMel(**{name: getattr(model, name) for name in names})


def _gru_seam(model: GRU) -> Seam:
    front_end = log_mel(model)

    def features(audio: jax.Array, length: jax.Array) -> jax.Array:
        behind = -audio.shape[1] % model.step_samples
        sound = frontend.to_unit_range(audio, jnp.dtype("float32"))
        return front_end(jnp.pad(sound, ((0, 0), (front_end.context_samples, behind)))) - FLOOR

    def heard(x: jax.Array, length: jax.Array) -> jax.Array:
        frames = jnp.arange(x.shape[1], dtype=jnp.int32)[None] * model.hop_samples < length[:, None]
        return jnp.broadcast_to(frames[..., None], x.shape)

    return Seam(features, heard, lambda variables, length: gru_layers(model, variables, length), in_time=False)


def gru_layers(model: GRU, variables: dict, length: jax.Array) -> list[Layer]:
    """From log-mel bins f32[B, frames, bands] above their floor to logits.

    A bin's relevance is that of its normalised value: what it is compared with, over the training clips and over the
    frames before, is taken as given.
    """
    params, stack = variables["params"], model.stack_frames
    layers: list[Layer] = [Through(lambda x: _normalised(model, variables, x))]
    layers.append(Select(lambda x: x.reshape(x.shape[0], x.shape[1] // stack, stack * x.shape[2])))
    if model.dense:
        layers += [_dense_in_time(params["inputs"]), Through(nn.relu)]
    cells = {"gru": _gru, "min_gru": _min_gru}
    layers += [cells[model.cell](params[f"layers_{i}"]) for i in range(model.num_layers)]
    layers += [_readout(model, length), Select(lambda x: x.reshape(len(x), -1)), dense(params["logits"])]
    return layers


def _normalised(model: GRU, variables: dict, x: jax.Array) -> jax.Array:
    if model.normalise == "none":
        return x + FLOOR
    statistics = variables["batch_stats"]["norm"]
    mean, var = (statistics[name].reshape(1, 1, -1) for name in ("mean", "var"))
    x = (x + FLOOR - mean) * jax.lax.rsqrt(var + BATCH_NORM_EPSILON)
    if model.normalise == "fixed":
        return x
    x = x.swapaxes(0, 1)
    levels = linear_scan(jnp.zeros_like(x[0]), jnp.full_like(x, LEVEL_KEEP), (1 - LEVEL_KEEP) * x)
    return (x - levels).swapaxes(0, 1)


def _dense_in_time(params: dict) -> Linear:
    return Linear(lambda kernel, x: x @ kernel, params["kernel"], params["bias"].reshape(1, 1, -1))


def _gru(params: dict) -> Recurrent:
    project, kernel, bias = params["project"], params["kernel"], params["bias"]
    size = kernel.shape[0]
    cell = GRUCell(size)
    into, of_state = (jnp.split(k, 3, axis=1) for k in (project["kernel"], kernel))
    biases = jnp.split(_row(project["bias"]), 3, axis=1)

    def run(x: jax.Array) -> jax.Array:
        return jnp.asarray(cell.apply({"params": params}, jnp.zeros((x.shape[1], size)), x, method="run"))

    def gates(x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        r, keep = (nn.sigmoid(x @ into[i] + before @ of_state[i] + biases[i][None]) for i in range(2))
        return r, keep

    return Recurrent(run, gates, (into[2], of_state[2]), (biases[2], bias), jnp.tanh)


def _min_gru(params: dict) -> Recurrent:
    keeps, candidate = params["keep"], params["candidate"]
    size = candidate["kernel"].shape[1]
    cell = MinGRUCell(size)

    def run(x: jax.Array) -> jax.Array:
        return jnp.asarray(cell.apply({"params": params}, jnp.zeros((x.shape[1], size)), x, method="run"))

    def gates(x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        keep = nn.sigmoid(x @ keeps["kernel"] + keeps["bias"].reshape(1, 1, -1))
        return jnp.zeros_like(keep), keep

    kernels = (candidate["kernel"], jnp.zeros((size, size)))
    return Recurrent(run, gates, kernels, (_row(candidate["bias"]), jnp.zeros((1, size))), lambda x: x)


def _readout(model: GRU, length: jax.Array) -> Linear:
    """The averages [B, averages, features] of the states [B, N, features]."""
    keeps = jnp.asarray(READOUTS[model.readout])

    def apply(one: jax.Array, x: jax.Array) -> jax.Array:
        num_steps = -(-length // model.step_samples) if model.mask_padding else jnp.full_like(length, x.shape[1])
        ahead = num_steps[:, None] - 1 - jnp.arange(x.shape[1], dtype=jnp.int32)[None]
        weight = keeps[:, None, None] ** jnp.maximum(ahead, 0).astype(jnp.float32)[None]
        weight = jnp.where(ahead[None] >= 0, weight, 0.0)
        return one * jnp.einsum("bnf,rbn->brf", x, weight / weight.sum(axis=2, keepdims=True))

    return Linear(apply, jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1)))
