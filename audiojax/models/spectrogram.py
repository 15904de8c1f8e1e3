"""Convolutional networks on pictures of sound: MelCNN on log-mel frames, for sound of any length."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.models import frontend
from audiojax.types import InputError

NORMALISATIONS = ("none", "fixed", "clip")


class MelCNN(nn.Module):
    """Sound of any length in, one logit a label out: a small residual network (He et al. 2016, arXiv 1512.03385) on
    log-mel frames.

    Each stage halves frames and bands (max-pooling 2x2) and has a convolution to its channels, and, but for the first
    one, a second convolution beside which the first one's output passes. Then the mean over all frames that are heard
    and all bands, dropout and a dense layer. Nothing depends on the padding: what lies behind a clip's end is zero
    before every convolution, as what lies behind the array is, and BatchNorm does not count it.

    Attributes:
        num_labels: the number of logits.
        rate_hz: of the sound.
        window_samples, hop_samples, num_bands, low_hz, high_hz: of the log-mel frames, see `frontend`.
        normalise: "fixed" brings each band to the mean 0 and deviation 1 of the training frames; "clip" then subtracts
            the band's mean over the clip, and with it microphone and room; "none".
        channels: of each stage.
        dropout: the rate before the logits.
    """

    any_length = True

    num_labels: int = 10
    rate_hz: int = 8000
    window_samples: int = 200
    hop_samples: int = 80
    num_bands: int = 40
    low_hz: float = 50.0
    high_hz: float = 4000.0
    normalise: str = "clip"
    channels: tuple[int, ...] = (16, 24, 48, 96)
    dropout: float = 0.3

    @nn.compact
    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """f32[B, num_labels] of `audio` [B, T] in 16-bit units, zero right-padded, and its `length` i32[B]."""
        x, num_heard = self._frames(audio, length, train)
        for stage, features in enumerate(self.channels):
            if stage:
                x, num_heard = max_pool_2d(x), -(-num_heard // 2)
            heard = _heard(x, num_heard)
            x = self._convolved(x, heard, features, f"{stage}a", train)
            if stage:
                x = x + self._convolved(x, heard, features, f"{stage}b", train)
        count = (num_heard * x.shape[2]).astype(jnp.float32)
        mean = jnp.sum(x, axis=(1, 2)) / count[:, None]
        return nn.Dense(self.num_labels, name="logits")(nn.Dropout(self.dropout, deterministic=not train)(mean))

    def _frames(self, audio: jax.Array, length: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """f32[B, N, bands, 1], the normalised frames, zero behind the end of each clip, and i32[B], how many it has."""
        if self.normalise not in NORMALISATIONS:
            raise InputError(
                f"config.model.normalise is {self.normalise!r}; choose one of {', '.join(NORMALISATIONS)}."
            )
        fields = ("window_samples", "hop_samples", "num_bands", "low_hz", "high_hz", "rate_hz")
        front_end = frontend.make("logmel", **{name: getattr(self, name) for name in fields})
        sound = frontend.to_unit_range(audio, jnp.dtype("float32"))
        behind = -audio.shape[1] % self.hop_samples
        x = front_end(jnp.pad(sound, ((0, 0), (front_end.context_samples, behind))))
        num_heard = -(-length // self.hop_samples)
        heard = (jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] < num_heard[:, None])[..., None]
        if self.normalise != "none":
            norm = nn.BatchNorm(not train, momentum=0.9, use_scale=False, use_bias=False, name="norm")
            x = norm(x, mask=heard)
        x = jnp.where(heard, x, 0.0)
        if self.normalise == "clip":
            level = jnp.sum(x, axis=1, keepdims=True) / num_heard.astype(jnp.float32)[:, None, None]
            x = jnp.where(heard, x - level, 0.0)
        return x[..., None], num_heard

    def _convolved(self, x: jax.Array, heard: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        """[B, N, bands, features]: convolution, BatchNorm of what is `heard`, ReLU, and zero for what is not."""
        x = nn.Conv(features, (3, 3), use_bias=False, kernel_init=nn.initializers.he_normal(), name=f"conv_{name}")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm_{name}")(x, mask=heard)
        return jnp.where(heard, nn.relu(x), 0.0)


def max_pool_2d(x: jax.Array) -> jax.Array:
    """[B, ceil(N / 2), ceil(M / 2), C]: the largest of two by two neighbours of `x` [B, N, M, C], which is nowhere
    negative: an odd one at the end has a zero beside it. See `audionet.max_pool` for why it is written so."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    x = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(x[:, :, 0::2], x[:, :, 1::2])


def _heard(x: jax.Array, num_heard: jax.Array) -> jax.Array:
    """bool[B, N, 1, 1]: which frames of `x` [B, N, ...] are no padding."""
    return (jnp.arange(x.shape[1], dtype=jnp.int32)[None, :] < num_heard[:, None])[..., None, None]
