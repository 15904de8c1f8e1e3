"""ResNet1D: a small residual network on the raw waveform, for sound of any length."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.models.layers import residual
from audiojax.models.layers.frontend import rescale, to_unit_range


class ResNet1D(nn.Module):
    """Sound of any length in, one logit a label out.

    A wide convolution with a stride takes the place of a spectrum, as in M5 (Dai et al. 2017, arXiv 1610.00087); then
    residual stages, the mean over all frames that are heard, dropout and a dense layer. Padding changes nothing, see
    `residual`.

    Attributes:
        num_labels: the number of logits.
        scale: what each clip is first brought to, "rms" or "none", see `frontend.rescale`.
        window_samples, hop_samples: of the first convolution.
        channels: of the first convolution and of each stage.
        dropout: the rate before the logits.
        dtype: of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay float32.
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
        """f32[B, num_labels] of `audio` [B, T] in 16-bit units, zero right-padded, and its `length` i32[B]."""
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
        num_heard = -(-length // self.hop_samples)
        x = residual.normed(stem(x[..., None]), num_heard, "0", train)
        x, num_heard = residual.stages(x, num_heard, self.channels[1:], train)
        x = nn.Dropout(self.dropout, deterministic=not train)(residual.mean(x, num_heard))
        return nn.Dense(self.num_labels, dtype=dtype, name="logits")(x).astype(jnp.float32)

    def margin(self, num_samples: int) -> tuple[int, int]:
        """The zeros before and behind `num_samples`: the first window has its middle in the middle of the first hop,
        and the hops are whole."""
        before, odd = divmod(self.window_samples - self.hop_samples, 2)
        return before, before + odd + -num_samples % self.hop_samples
