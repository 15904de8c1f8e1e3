"""MelCNN: a small residual network on log-mel frames, for sound of any length."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.errors import InputError
from audiojax.models.layers import frontend, kernels, residual

FRAMES = ("logmel", "filterbank", "learned")
NORMALISATIONS = ("none", "fixed", "clip")
WINDOW_SAMPLES, HOP_SAMPLES, LOWEST_DB = 455, 35, -80.0  # of `decibel_picture`


class MelCNN(nn.Module):
    """A residual network on log-mel frames of sound of any length, with one logit per label.

    It has a convolution and residual stages, then the mean over all valid frames and all bands, dropout and a dense
    layer. The zero padding of shorter clips in a batch does not change the logits.

    Attributes:
        num_labels: the number of logits.
        rate_hz: the sampling rate of the sound in Hz.
        frontend: the front end, which computes frames from sound: "logmel"; "filterbank", log-mel with trainable
            filters; or "learned", trainable convolutions.
        window_samples: the number of samples that a frame covers.
        hop_samples: the number of samples from one frame to the next.
        num_bands: the number of features of a frame.
        low_hz: the lower end of the lowest band.
        high_hz: the upper end of the highest band.
        silence_samples: how many zeros are added before and after each clip, in whole hops, so that a word that fills
            its clip looks like one that does not.
        normalise: "fixed" brings each band to the mean 0 and standard deviation 1 over the training frames; "clip" then
            subtracts the band's mean over the clip, which compensates for microphone and room; "none".
        channels: the number of channels after the first convolution and after each residual stage.
        dropout: the dropout rate before the logits.
        dtype: the type of the computation after the front end, "float32" or "bfloat16"; parameters, statistics
            and logits stay float32.
        kernels: "auto" uses code tuned for the CPU, with custom gradients, where jax runs on a CPU; "plain" never does.
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
    kernels: str = "auto"

    @nn.compact
    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns logits f32[B, num_labels].

        Args:
            audio: i16[B, T], or f32[B, T] at int16 scale (-32768 to 32767), zero right-padded.
            length: i32[B], the number of samples of each clip without padding.
            train: whether dropout is on and BatchNorm uses the batch's statistics.
        """
        x, num_valid = self._frames(audio, length, train)
        tuned = kernels.tuned(self.kernels)
        x = residual.convolved(x.astype(jnp.dtype(self.dtype)), num_valid, self.channels[0], "0a", train, tuned)
        x, num_valid = residual.stages(x, num_valid, self.channels[1:], train, tuned)
        x = nn.Dropout(self.dropout, deterministic=not train)(residual.mean(x, num_valid))
        return nn.Dense(self.num_labels, dtype=self.dtype, name="logits")(x).astype(jnp.float32)

    def _frames(self, audio: jax.Array, length: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Returns normalised frames f32[B, N, bands, 1], zero after each clip's end, and their numbers, i32[B]."""
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
        num_valid = self.num_frames(length)
        if self.normalise != "none":
            norm = nn.BatchNorm(not train, momentum=0.9, use_scale=False, use_bias=False, name="norm")
            x = norm(x, mask=residual.valid_mask(x, num_valid))
        return self.levelled(x, num_valid)[..., None], num_valid

    def num_frames(self, length: jax.Array) -> jax.Array:
        """Returns how many frames clips of `length` i32[B] samples have, with the added silence, i32[B]."""
        return -(-(length + 2 * self.silence_samples) // self.hop_samples)

    def margin(self, num_samples: int) -> tuple[int, int]:
        """Returns how many zeros to add before a clip of `num_samples`, and how many after it.

        They are the silence on both sides, the context of the first frame, and the zeros that complete the last hop.
        """
        before = self.window_samples - self.hop_samples + self.silence_samples
        return before, self.silence_samples + -num_samples % self.hop_samples

    def levelled(self, x: jax.Array, num_valid: jax.Array) -> jax.Array:
        """Returns the frames `x` f32[B, N, bands] with zeros after the first `num_valid` i32[B] of each clip.

        If `normalise` is "clip", each band's mean over these first frames is subtracted from them.
        """
        valid = residual.valid_mask(x, num_valid)
        x = jnp.where(valid, x, 0.0)
        if self.normalise != "clip":
            return x
        level = jnp.sum(x, axis=1, keepdims=True) / num_valid.astype(jnp.float32)[:, None, None]
        return jnp.where(valid, x - level, 0.0)
