"""ResNet1D: a small residual network on the raw waveform, for sound of any length."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.models.layers import residual
from audiojax.models.layers.frontend import rescale, to_unit_range


class ResNet1D(nn.Module):
    """A residual network on the waveform of sound of any length, with one logit per label.

    A wide convolution with a stride takes the place of a spectrogram, as in M5 (Dai et al. 2017, arXiv 1610.00087);
    residual stages, the mean over all valid frames, dropout and a dense layer follow. The zero padding of shorter clips
    in a batch does not change the logits.

    Attributes:
        num_labels: the number of logits.
        scale: how each clip is normalised first: "rms" to a mean power of 1, or "none".
        window_samples: the first convolution's kernel size.
        hop_samples: the first convolution's stride.
        channels: the number of channels after the first convolution and after each residual stage.
        dropout: the dropout rate before the logits.
        dtype: the type of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay float32.
    """

    any_length = True

    num_labels: int = 10
    scale: str = "rms"
    window_samples: int = 80
    hop_samples: int = 8
    channels: tuple[int, ...] = (32, 48, 64, 96, 128)
    dropout: float = 0.3
    dtype: str = "float32"

    @nn.compact
    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns logits f32[B, num_labels].

        Args:
            audio: i16[B, T], or f32[B, T] at int16 scale (-32768 to 32767), zero right-padded.
            length: i32[B], the number of samples of each clip without padding.
            train: whether dropout is on and BatchNorm uses the batch's statistics.
        """
        dtype = jnp.dtype(self.dtype)
        x = rescale(to_unit_range(audio, jnp.dtype("float32")), length, self.scale).astype(dtype)
        stem = nn.Conv(
            self.channels[0],
            (self.window_samples,),
            strides=self.hop_samples,
            padding=[self.margin(audio.shape[1])],
            use_bias=False,
            dtype=dtype,
            kernel_init=nn.initializers.he_normal(),
            name="conv_0",
        )
        num_valid = -(-length // self.hop_samples)
        x = residual.normed(stem(x[..., None]), num_valid, "0", train)
        x, num_valid = residual.stages(x, num_valid, self.channels[1:], train, tuned=False)
        x = nn.Dropout(self.dropout, deterministic=not train)(residual.mean(x, num_valid))
        return nn.Dense(self.num_labels, dtype=dtype, name="logits")(x).astype(jnp.float32)

    def margin(self, num_samples: int) -> tuple[int, int]:
        """Returns how many zeros to add before a clip of `num_samples`, and how many after it.

        With them the first convolution has one output for each started hop, and its first window is centred on the
        first hop.
        """
        before, odd = divmod(self.window_samples - self.hop_samples, 2)
        return before, before + odd + -num_samples % self.hop_samples
