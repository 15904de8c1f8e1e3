"""Networks split in two after their front end, and the layers that several networks share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.attribution.lrp import Layer, Linear, Residual, Select, Through
from audiojax.models.layers import frontend, residual

FLOOR = math.log(frontend.POWER_FLOOR)  # of log-mel
BATCH_NORM_EPSILON = 1e-5  # flax's

Layers = Callable[[dict[str, Any], jax.Array], list[Layer]]
Margin = Callable[[int], tuple[int, int]]  # number of samples -> zeros before and after them
NumFrames = Callable[[jax.Array], jax.Array]  # length i32[B] -> frames i32[B]


class Bins(NamedTuple):
    """The positions of spectrogram bins in the sound: frame n begins at sample n * hop_samples - before_samples.

    Attributes:
        what: A description of the bins, shown to the user.
        bands: f32[bins, num_bands], the weights of a filter bank for spectra from 0 Hz to half the sampling rate.
        window_samples: Length of a frame in samples.
        hop_samples: Number of samples from the start of one frame to the start of the next.
        before_samples: Number of samples of the first frame that precede the sound.
    """

    what: str
    bands: np.ndarray  # f32[bins, num_bands], of a spectrum whose last bin is half the rate
    window_samples: int
    hop_samples: int
    before_samples: int

    def of_clip(self, num_frames: int, length: jax.Array) -> jax.Array:
        """Returns which frames contain a sample of clips of `length` i32[B], as bool[B, num_frames, 1]."""
        begin = jnp.arange(num_frames, dtype=jnp.int32) * self.hop_samples - self.before_samples
        return ((begin + self.window_samples > 0)[None, :] & (begin[None, :] < length[:, None]))[..., None]


class Seam(NamedTuple):
    """A network split in two: a front end, and the layers after it, through which the logits are explained.

    Attributes:
        features: Computes the front end's output for audio i16[B, T] and its length i32[B]: samples f32[B, T], or bins
            f32[B, frames, bands], where 0 is silence.
        valid: Returns, for the features and the length, which features are not padding, as bool of their shape.
        layers: Returns, for the network's variables and the length, the layers from features to logits.
        bins: The positions of the bins in the sound; None where the features are samples.
        recurrent: Whether the layers have a recurrence.
    """

    features: Callable[[jax.Array, jax.Array], jax.Array]  # audio i16[B, T], length i32[B] -> f32[B, ...], 0 is silence
    valid: Callable[[jax.Array, jax.Array], jax.Array]  # features, length -> bool, as features: False for padding
    layers: Layers  # variables, length -> the layers from features to logits
    bins: Bins | None  # of features f32[B, frames, bands]; None where they are samples f32[B, T]
    recurrent: bool = False


def samples_seam(scale: str, layers: Layers) -> Seam:
    """Returns a network whose front end only scales the samples, split in two after it.

    `scale` is "rms", "percentile" or "none", the argument of `frontend.rescale`; `layers` returns, for the network's
    variables and the length i32[B] of clips, the layers from scaled samples to logits.
    """

    def features(audio: jax.Array, length: jax.Array) -> jax.Array:
        return frontend.rescale(frontend.to_unit_range(audio, jnp.dtype("float32")), length, scale)

    return Seam(features, residual.valid_mask, layers, bins=None)


def log_mel_seam(model: nn.Module, margin: Margin, num_frames: NumFrames, layers: Layers) -> Seam:
    """Returns a network with a log-mel front end, split in two after it.

    Args:
        model: The network.
        margin: Maps a number of samples to the numbers of zeros that the network adds before and after them.
        num_frames: Maps the lengths of clips in samples, i32[B], to their numbers of frames, i32[B].
        layers: Returns, for the network's variables and the length, the layers after the front end.
    """
    front_end = cast(frontend.LogMel, frontend.of(model))

    def features(audio: jax.Array, length: jax.Array) -> jax.Array:
        sound = frontend.to_unit_range(audio, jnp.dtype("float32"))
        return front_end(jnp.pad(sound, ((0, 0), margin(audio.shape[1])))) - FLOOR

    def valid(x: jax.Array, length: jax.Array) -> jax.Array:
        return jnp.broadcast_to(residual.valid_mask(x, num_frames(length)), x.shape)

    window, hop = front_end.window_samples, front_end.hop_samples
    bins = Bins("bins of log-mel", front_end.matrices()[1], window, hop, margin(0)[0])
    return Seam(features, valid, layers, bins)


def standardised(x: jax.Array, statistics: dict[str, Any]) -> jax.Array:
    """Returns frames f32[B, N, bands] minus the mean of the training frames, divided by their standard deviation.

    `statistics` has the "mean" and "var" of each band.
    """
    mean, var = (statistics[name].reshape(1, 1, -1) for name in ("mean", "var"))
    return (x - mean) * jax.lax.rsqrt(var + BATCH_NORM_EPSILON)


def dense(params: dict[str, Any]) -> Linear:
    """Returns a dense layer with the parameters "kernel" and "bias", [B, inputs] -> [B, outputs]."""
    return Linear(lambda kernel, x: x @ kernel, params["kernel"], row(params["bias"]))


def conv(params: dict[str, Any], *, stride: int = 1, padding: Any = "SAME", groups: int = 1) -> Linear:
    """Returns a convolution over one or two axes as a layer, [B, *space, C] -> [B, *space, features].

    `params` has its "kernel" and "bias", in the layout of flax; `stride` is the same on all axes, `padding` and
    `groups` are as in `jax.lax.conv_general_dilated`.
    """
    kernel = params["kernel"]
    axes = "HW"[: kernel.ndim - 2]
    names = (f"N{axes}C", f"{axes}IO", f"N{axes}C")

    def apply(kernel: jax.Array, x: jax.Array) -> jax.Array:
        strides = (stride,) * len(axes)
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=names, feature_group_count=groups
        )

    return Linear(apply, kernel, params["bias"].reshape((1,) * (kernel.ndim - 1) + (-1,)))


def folded(params: dict[str, Any], norm: dict[str, Any], statistics: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a convolution or dense layer with the BatchNorm after it folded in.

    `params` has the layer's "kernel" and perhaps "bias", `norm` the "scale" and "bias" of the BatchNorm, and
    `statistics` its "mean" and "var".
    """
    factor = norm["scale"] * jax.lax.rsqrt(statistics["var"] + BATCH_NORM_EPSILON)
    kernel = params["kernel"] * factor.reshape((1,) * (params["kernel"].ndim - 1) + (-1,))
    return {"kernel": kernel, "bias": (params.get("bias", 0.0) - statistics["mean"]) * factor + norm["bias"]}


def row(x: jax.Array) -> jax.Array:
    """Returns `x` [n] as [1, n]."""
    return x.reshape(1, -1)


def convolved(variables: dict[str, Any], name: str, num_valid: jax.Array, **fields: Any) -> list[Layer]:
    """Returns a convolution, the BatchNorm and the ReLU after it as layers that set frames of padding to 0.

    Their parameters are conv_`name` and norm_`name` in `variables`. The first `num_valid` i32[B] frames of the outputs
    are not padding. `fields` are arguments of `conv`.
    """
    of_norm = variables["params"][f"norm_{name}"], variables["batch_stats"][f"norm_{name}"]
    block = folded(variables["params"][f"conv_{name}"], *of_norm)
    return [
        conv(block, **fields),
        Through(lambda x: jnp.where(residual.valid_mask(x, num_valid), nn.relu(x), 0.0)),
    ]


def stages(variables: dict[str, Any], num_valid: jax.Array, num_stages: int) -> list[Layer]:
    """Returns the end of a residual network as layers: its stages, the mean over valid frames, and the logits.

    At the input of the first stage, the first `num_valid` i32[B] frames of each clip are valid. `variables` are the
    network's parameters and statistics.
    """
    layers: list[Layer] = []
    for stage in range(1, num_stages + 1):
        num_valid = -(-num_valid // 2)
        layers += [Select(residual.max_pool), *convolved(variables, f"{stage}a", num_valid)]
        layers.append(Residual(convolved(variables, f"{stage}b", num_valid)))
    mean = Linear(lambda one, x: one * residual.mean(x, num_valid), jnp.ones((1, 1)), jnp.zeros((1, 1)))
    return [*layers, mean, dense(variables["params"]["logits"])]
