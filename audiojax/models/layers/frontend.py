"""What comes before a network: the scale of its samples, and the frames of a recurrent one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.errors import InputError

POWER_FLOOR = 1e-10  # of a mel band, against a full-scale power of 1: 17 dB above the rounding to 16 bit


def to_unit_range(audio: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[B, T] in [-1, 1] of `audio` [B, T] in 16-bit units, [-32768, 32767]: every network's first operation."""
    return (audio.astype(jnp.float32) / 32768.0).astype(dtype)


def rescale(audio: jax.Array, length: jax.Array, scale: str) -> jax.Array:
    """[B, T] of `audio` [B, T] in [-1, 1], zero right-padded, and `length` i32[B]; silence stays silence.

    Both scales need the whole clip, so they are not for streams.

    Args:
        scale: "rms", a mean power of 1 over the clip; "percentile", by the 95th percentile of the signed, padded
            samples, as AudioMNIST's preprocess_data.py has it; "none".
    """
    if scale == "none":
        return audio
    sound = audio.astype(jnp.float32)
    if scale == "rms":
        power = jnp.sum(jnp.square(sound), axis=1) / length.astype(jnp.float32)
        factor = jax.lax.rsqrt(power + 1e-9)  # 1e-9: one step of 16 bit
    elif scale == "percentile":
        factor = 1 / (jnp.percentile(sound, 95, axis=1) + 0.001 / 32768)  # theirs are in 16-bit units
    else:
        raise InputError(f"config.model.scale is {scale!r}; choose rms, percentile or none.")
    return audio * factor.astype(audio.dtype)[:, None]


class FrontEnd(nn.Module):
    """Sound to frames, causally: frame n tells of samples before the end of hop n, and of none behind it.

    Called with f32[B, context_samples + N * hop_samples] in [-1, 1] it returns f32[B, N, features]. The context is what
    came before, zeros at the beginning of a sound; so a whole clip and a stream are the same call.

    Attributes:
        window_samples: how much sound a frame sees, at least one hop.
        hop_samples: from one frame to the next.
        num_bands: features a frame.
        low_hz, high_hz: where the bands begin and end.
        rate_hz: of the sound.
    """

    window_samples: int
    hop_samples: int
    num_bands: int
    low_hz: float
    high_hz: float
    rate_hz: int

    @property
    def context_samples(self) -> int:
        return self.window_samples - self.hop_samples


class LogMel(FrontEnd):
    """The logarithm of the power in each mel band of a Hann window."""

    def __call__(self, audio: jax.Array) -> jax.Array:
        waves, bands = self.weights()
        power = jnp.square(windows(audio, self.window_samples, self.hop_samples) @ waves)
        return jnp.log((power[..., : len(bands)] + power[..., len(bands) :]) @ bands + POWER_FLOOR)

    def weights(self) -> tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]:
        """f32[window_samples, 2 * bins], with what each frame is multiplied, and f32[bins, num_bands], what each band
        takes of the power of two of its products."""
        return self.matrices()

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """f32[window_samples, 2 * bins], the windowed Fourier transform, and f32[bins, num_bands], the mel bands."""
        bands = _mel(self.window_samples, self.num_bands, self.low_hz, self.high_hz, self.rate_hz)
        return _fourier(self.window_samples), bands


class Filterbank(LogMel):
    """Log-mel whose waves and bands are learnt from the samples; they begin as the windowed sines and triangles.

    After Zeghidour et al. 2018 (arXiv 1711.01161), who learn the waves. The parameters are about 1 in size; where a
    triangle is 0 its band stays 0.
    """

    @nn.compact
    def weights(self) -> tuple[jax.Array, jax.Array]:
        fourier, triangles = self.matrices()
        loudest = abs(fourier).max()
        waves = self.param("waves", lambda key: jnp.asarray(fourier / loudest))
        roots = self.param("roots", lambda key: jnp.sqrt(jnp.asarray(triangles)))
        return waves * loudest, jnp.square(roots)


class Learned(FrontEnd):
    """Two strided convolutions in the place of spectrum and bands: filters, their loudness, and what to make of it."""

    @nn.compact
    def __call__(self, audio: jax.Array) -> jax.Array:
        stride = self.hop_samples // 10
        kernel = 8 * stride
        steps, rest = divmod(self.window_samples - kernel, max(stride, 1))
        if self.hop_samples % 10 or rest or steps < 9:
            raise InputError(
                f"config.model.hop_samples is {self.hop_samples} and window_samples {self.window_samples}; learned "
                "frames need a hop that 10 divides, and a window of at least 1.7 hops that a tenth of a hop divides."
            )
        x = nn.Conv(self.num_bands, (kernel,), strides=stride, padding="VALID", name="filters")(audio[..., None])
        x = nn.Conv(self.num_bands, (steps + 1,), strides=10, padding="VALID", name="frames")(
            jnp.log1p(1e4 * jnp.square(x))
        )
        return nn.gelu(x)


class Raw(FrontEnd):
    """The samples of each hop as they are; a hop of one sample is the seed project's network."""

    @property
    def context_samples(self) -> int:
        return 0

    def __call__(self, audio: jax.Array) -> jax.Array:
        return audio.reshape(audio.shape[0], -1, self.hop_samples)


FRONT_ENDS: dict[str, type[FrontEnd]] = {
    "logmel": LogMel,
    "filterbank": Filterbank,
    "learned": Learned,
    "raw": Raw,
}


def make(name: str, /, **fields: Any) -> FrontEnd:
    """The front end `name`. Raises InputError for one that does not exist, and for a window shorter than a hop."""
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
    """The front end that a network's fields tell, as `make` has them."""
    fields = ("window_samples", "hop_samples", "num_bands", "low_hz", "high_hz", "rate_hz")
    return make(model.frontend, **{name: getattr(model, name) for name in fields}, **more)


def windows(audio: jax.Array, window_samples: int, hop_samples: int) -> jax.Array:
    """[B, N, window_samples] of `audio` [B, window_samples + (N - 1) * hop_samples], put together from whole hops."""
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
    """f32[window_samples, 2 * bins]: a Hann window and the transform of it, real parts first; a sine of full scale has
    a power of about 1. As a matrix it is one product for all frames, and may be exported."""
    size = _transform_samples(window_samples)
    angle = 2 * np.pi / size * np.outer(np.arange(window_samples), np.arange(size // 2 + 1))
    window = np.hanning(window_samples + 1)[:-1]
    return (np.hstack([np.cos(angle), np.sin(angle)]) * (2 * window / window.sum())[:, None]).astype(np.float32)


@functools.cache
def _mel(window_samples: int, num_bands: int, low_hz: float, high_hz: float, rate_hz: int) -> np.ndarray:
    """f32[bins, num_bands]: triangles of equal width in mel (O'Shaughnessy 1987), each with a sum of 1."""
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
