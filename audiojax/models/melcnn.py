"""Convolutional networks on pictures of sound.

- MelCNN, a small residual network on log-mel frames, for sound of any length.
- AlexNet on spectrograms, as Becker et al. 2018 (arXiv 1807.03418) have it, for 8,000 samples.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.errors import InputError
from audiojax.models.layers import frontend, residual

FRAMES = ("logmel", "filterbank", "learned")
NORMALISATIONS = ("none", "fixed", "clip")
WINDOW_SAMPLES, HOP_SAMPLES, LOWEST_DB = 455, 35, -80.0  # of `decibel_picture`


class MelCNN(nn.Module):
    """Sound of any length in, one logit a label out: log-mel frames, a convolution and residual stages, then the
    mean over all frames that are heard and all bands, dropout and a dense layer. Padding changes nothing, see
    `residual`.

    Attributes:
        num_labels: the number of logits.
        rate_hz: of the sound.
        frontend: "logmel", or one that is learnt from the samples, "filterbank" or "learned", see `frontend`.
        window_samples, hop_samples, num_bands, low_hz, high_hz: of its frames.
        silence_samples: of silence that is heard before and behind each clip, whole hops: a word that fills its clip
            sounds like one that does not.
        normalise: "fixed" brings each band to the mean 0 and deviation 1 of the training frames; "clip" then subtracts
            the band's mean over the clip, and with it microphone and room; "none".
        channels: of the first convolution and of each stage.
        dropout: the rate before the logits.
        dtype: of the computation behind the frames, "float32" or "bfloat16"; parameters, statistics and logits stay
            float32.
    """

    any_length = True

    num_labels: int = 10
    rate_hz: int = 8000
    frontend: str = "logmel"
    window_samples: int = 200
    hop_samples: int = 80
    num_bands: int = 40
    low_hz: float = 50.0
    high_hz: float = 4000.0
    silence_samples: int = 0
    normalise: str = "clip"
    channels: tuple[int, ...] = (16, 24, 48, 96)
    dropout: float = 0.3
    dtype: str = "float32"

    @nn.compact
    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """f32[B, num_labels] of `audio` [B, T] in 16-bit units, zero right-padded, and its `length` i32[B]."""
        x, num_heard = self._frames(audio, length, train)
        x = residual.convolved(x.astype(jnp.dtype(self.dtype)), num_heard, self.channels[0], "0a", train)
        x, num_heard = residual.stages(x, num_heard, self.channels[1:], train)
        x = nn.Dropout(self.dropout, deterministic=not train)(residual.mean(x, num_heard))
        return nn.Dense(self.num_labels, dtype=self.dtype, name="logits")(x).astype(jnp.float32)

    def _frames(self, audio: jax.Array, length: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """f32[B, N, bands, 1], the normalised frames, zero behind the end of each clip, and i32[B], how many it has."""
        if self.normalise not in NORMALISATIONS:
            raise InputError(
                f"config.model.normalise is {self.normalise!r}; choose one of {', '.join(NORMALISATIONS)}."
            )
        if self.frontend not in FRAMES:
            raise InputError(f"config.model.frontend is {self.frontend!r}; choose one of {', '.join(FRAMES)}.")
        if self.silence_samples < 0 or self.silence_samples % self.hop_samples:
            raise InputError(
                f"config.model.silence_samples is {self.silence_samples}; choose 0 or whole hops of {self.hop_samples}."
            )
        front_end = frontend.of(self, name="front_end")
        sound = frontend.to_unit_range(audio, jnp.dtype("float32"))
        x = front_end(jnp.pad(sound, ((0, 0), self.margin(audio.shape[1]))))
        num_heard = self.num_heard(length)
        if self.normalise != "none":
            norm = nn.BatchNorm(not train, momentum=0.9, use_scale=False, use_bias=False, name="norm")
            x = norm(x, mask=residual.hears(x, num_heard))
        return self.levelled(x, num_heard)[..., None], num_heard

    def num_heard(self, length: jax.Array) -> jax.Array:
        """i32[B]: how many frames clips of `length` i32[B] have."""
        return -(-(length + 2 * self.silence_samples) // self.hop_samples)

    def margin(self, num_samples: int) -> tuple[int, int]:
        """The zeros before and behind `num_samples`, for whole hops."""
        before = self.window_samples - self.hop_samples + self.silence_samples
        return before, self.silence_samples + -num_samples % self.hop_samples

    def levelled(self, x: jax.Array, num_heard: jax.Array) -> jax.Array:
        """Frames f32[B, N, bands], less their mean over the clip if `normalise` says so; zero behind its end."""
        heard = residual.hears(x, num_heard)
        x = jnp.where(heard, x, 0.0)
        if self.normalise != "clip":
            return x
        level = jnp.sum(x, axis=1, keepdims=True) / num_heard.astype(jnp.float32)[:, None, None]
        return jnp.where(heard, x - level, 0.0)
