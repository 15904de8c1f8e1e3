"""Inputs of the networks: the scale of the samples, and front ends that turn sound into frames."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.errors import InputError

POWER_FLOOR = 1e-10  # of a mel band, against a full-scale power of 1: 17 dB above 16-bit quantisation noise


def to_unit_range(audio: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Returns `audio` [B, T], at int16 scale, scaled to [-1, 1]: the first operation of every network."""
    return (audio.astype(jnp.float32) / 32768.0).astype(dtype)


def rescale(audio: jax.Array, length: jax.Array, scale: str) -> jax.Array:
    """Brings each clip of `audio` [B, T] in [-1, 1], zero right-padded, to the same loudness; silence stays silence.

    Every scale but "none" needs the whole clip, so it cannot be used for streams.

    Args:
        audio: [B, T] in [-1, 1].
        length: i32[B], the number of samples of each clip without padding.
        scale: "rms" for a mean power of 1 over the clip; "percentile" to divide by the 95th percentile of the signed,
            padded samples, as AudioMNIST's preprocess_data.py does; "none".
    """
    if scale == "none":
        return audio
    sound = audio.astype(jnp.float32)
    if scale == "rms":
        power = jnp.sum(jnp.square(sound), axis=1) / length.astype(jnp.float32)
        factor = jax.lax.rsqrt(power + 1e-9)  # 1e-9: one step of 16 bit
    elif scale == "percentile":
        factor = 1 / (jnp.percentile(sound, 95, axis=1) + 0.001 / 32768)  # theirs are at int16 scale
    else:
        raise InputError(f"config.model.scale is {scale!r}; choose rms, percentile or none.")
    return audio * factor.astype(audio.dtype)[:, None]


class FrontEnd(nn.Module):
    """The base class of modules that turn sound into frames, vectors of features at regular intervals, the hops.

    Called with sound f32[B, context_samples + N * hop_samples] in [-1, 1] a front end returns N frames,
    f32[B, N, features]. It is causal: frame n depends only on samples before the end of hop n. The first
    `context_samples` are the sound before the first hop, or zeros at the beginning of a clip or stream.

    Attributes:
        window_samples: the number of samples that a frame covers, at least one hop.
        hop_samples: the number of samples from one frame to the next.
        num_bands: the number of features of a frame.
        low_hz, high_hz: the frequencies where the lowest band begins and the highest ends.
        rate_hz: the sampling rate of the sound in Hz.
    """

    window_samples: int
    hop_samples: int
    num_bands: int
    low_hz: float
    high_hz: float
    rate_hz: int

    @property
    def context_samples(self) -> int:
        """The number of samples before a hop that its frame covers as well."""
        return self.window_samples - self.hop_samples


class LogMel(FrontEnd):
    """A front end whose frames are the logarithm of the power in each mel band of a Hann window."""

    def __call__(self, audio: jax.Array) -> jax.Array:
        """Returns frames f32[B, N, num_bands] of `audio` f32[B, context_samples + N * hop_samples] in [-1, 1]."""
        waves, bands = self.weights()
        power = jnp.square(windows(audio, self.window_samples, self.hop_samples) @ waves)
        return jnp.log((power[..., : len(bands)] + power[..., len(bands) :]) @ bands + POWER_FLOOR)

    def weights(self) -> tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]:
        """Returns the two matrices that frames are computed with.

        The first, f32[window_samples, 2 * bins], turns a window into the real parts of its spectrum, then the imaginary
        ones. The second, f32[bins, num_bands], sums the powers of the spectrum's bins to mel bands.
        """
        return self.matrices()

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the fixed matrices of log-mel: a windowed Fourier transform, and the triangles of the mel bands.

        The first is f32[window_samples, 2 * bins], real parts before imaginary ones; the second f32[bins, num_bands].
        """
        bands = _mel(self.window_samples, self.num_bands, self.low_hz, self.high_hz, self.rate_hz)
        return _fourier(self.window_samples), bands


class Filterbank(LogMel):
    """Log-mel with trainable filters and bands, initialised to the windowed sines and the triangles of log-mel.

    After Zeghidour et al. 2018 (arXiv 1711.01161), who train the filters. The parameters are scaled to about 1. A
    weight of a band that is 0 at the start, outside its triangle, stays 0.
    """

    @nn.compact
    def weights(self) -> tuple[jax.Array, jax.Array]:
        """Returns the two trainable matrices, with the shapes and the meaning of those of log-mel.

        The first, f32[window_samples, 2 * bins], turns a window into the real parts of its spectrum, then the imaginary
        ones. The second, f32[bins, num_bands], sums the powers of the spectrum's bins to bands.
        """
        fourier, triangles = self.matrices()
        loudest = abs(fourier).max()
        waves = self.param("waves", lambda key: jnp.asarray(fourier / loudest))
        roots = self.param("roots", lambda key: jnp.sqrt(jnp.asarray(triangles)))
        return waves * loudest, jnp.square(roots)


class Learned(FrontEnd):
    """A front end of two trainable convolutions with strides, with the logarithm of the power between them."""

    @nn.compact
    def __call__(self, audio: jax.Array) -> jax.Array:
        """Returns frames f32[B, N, num_bands] of `audio` f32[B, context_samples + N * hop_samples] in [-1, 1]."""
        stride = self.hop_samples // 10
        kernel = 8 * stride
        steps, rest = divmod(self.window_samples - kernel, max(stride, 1))
        if self.hop_samples % 10 or rest or steps < 9:
            raise InputError(
                f"config.model.hop_samples is {self.hop_samples} and window_samples {self.window_samples}; learned "
                "frames need a hop that 10 divides, and a window of 1.7 hops or more that a tenth of a hop divides."
            )
        x = nn.Conv(self.num_bands, (kernel,), strides=stride, padding="VALID", name="filters")(audio[..., None])
        x = nn.Conv(self.num_bands, (steps + 1,), strides=10, padding="VALID", name="frames")(
            jnp.log1p(1e4 * jnp.square(x))
        )
        return nn.gelu(x)


class Raw(FrontEnd):
    """A front end whose frames are the samples themselves, without overlap: each frame is one hop."""

    @property
    def context_samples(self) -> int:
        """The number of samples before a hop that its frame covers as well: 0."""
        return 0

    def __call__(self, audio: jax.Array) -> jax.Array:
        """Returns frames [B, N, hop_samples] of `audio` [B, N * hop_samples]."""
        return audio.reshape(audio.shape[0], -1, self.hop_samples)


FRONT_ENDS: dict[str, type[FrontEnd]] = {
    "logmel": LogMel,
    "filterbank": Filterbank,
    "learned": Learned,
    "raw": Raw,
}


def make(name: str, /, **fields: Any) -> FrontEnd:
    """Returns the front end that `FRONT_ENDS` lists as `name`, with the attributes `fields` of `FrontEnd`.

    Raises InputError for a name that is not listed, or a window shorter than a hop.
    """
    if name not in FRONT_ENDS:
        raise InputError(f"config.model.frontend is {name!r}; choose one of {', '.join(FRONT_ENDS)}.")
    front_end = FRONT_ENDS[name](**fields)
    if front_end.context_samples < 0:
        raise InputError(
            f"config.model.window_samples is {front_end.window_samples}, less than a hop of {front_end.hop_samples}; "
            "choose a longer window."
        )
    return front_end


def of(model: nn.Module, **more: Any) -> FrontEnd:
    """Returns the front end that a network's attributes (`frontend`, `window_samples`, ...) describe.

    `more` are further fields of the front end, such as the `name` of the module.
    """
    fields = ("window_samples", "hop_samples", "num_bands", "low_hz", "high_hz", "rate_hz")
    return make(model.frontend, **{name: getattr(model, name) for name in fields}, **more)


def windows(audio: jax.Array, window_samples: int, hop_samples: int) -> jax.Array:
    """Cuts `audio` [B, window_samples + (N - 1) * hop_samples] into overlapping windows [B, N, window_samples].

    Each window begins `hop_samples` after the one before.
    """
    num_frames = (audio.shape[1] - window_samples) // hop_samples + 1
    hops, rest = divmod(window_samples, hop_samples)
    whole = audio[:, : (num_frames + hops - 1) * hop_samples].reshape(audio.shape[0], -1, hop_samples)
    parts = [whole[:, i : i + num_frames] for i in range(hops)]
    if rest:
        tail = jnp.pad(audio, ((0, 0), (0, hop_samples - rest)))[:, hops * hop_samples :]
        parts.append(tail.reshape(audio.shape[0], -1, hop_samples)[:, :num_frames, :rest])
    return jnp.concatenate(parts, axis=-1)


def _transform_samples(window_samples: int) -> int:
    return 1 << (window_samples - 1).bit_length()


@functools.cache
def _fourier(window_samples: int) -> np.ndarray:
    """Returns the Fourier transform of a Hann window as f32[window_samples, 2 * bins], real parts first.

    A sine of full scale has a power of about 1. As a matrix it is one product for all frames, and can be exported.
    """
    size = _transform_samples(window_samples)
    angle = 2 * np.pi / size * np.outer(np.arange(window_samples), np.arange(size // 2 + 1))
    window = np.hanning(window_samples + 1)[:-1]
    return (np.hstack([np.cos(angle), np.sin(angle)]) * (2 * window / window.sum())[:, None]).astype(np.float32)


@functools.cache
def _mel(window_samples: int, num_bands: int, low_hz: float, high_hz: float, rate_hz: int) -> np.ndarray:
    """Returns triangles of equal width in mel (O'Shaughnessy 1987), each with a sum of 1, f32[bins, num_bands]."""
    if not 0 <= low_hz < high_hz <= rate_hz / 2:
        raise InputError(
            f"config.model.low_hz is {low_hz:g} and high_hz {high_hz:g}; choose 0 <= low_hz < high_hz <= "
            f"{rate_hz / 2:g}."
        )
    size = _transform_samples(window_samples)
    mel = 2595 * np.log10(1 + np.arange(size // 2 + 1) * rate_hz / size / 700)
    low, high = 2595 * np.log10(1 + np.asarray([low_hz, high_hz]) / 700)
    place = (mel[:, None] - low) / (high - low) * (num_bands + 1) - np.arange(1, num_bands + 1)
    triangles = np.maximum(0, 1 - abs(place))
    if not triangles.any(axis=0).all():
        raise InputError(
            f"config.model.num_bands is {num_bands}, too many for a window of {window_samples} samples; choose fewer."
        )
    return (triangles / triangles.sum(axis=0)).astype(np.float32)
