"""AudioNet: a convolutional network on the raw waveform (Becker et al. 2018, arXiv 1807.03418).

Two of its kind, for 8,000 samples and ten labels:
- "batch_norm": seven blocks of convolution (kernel 3), BatchNorm (all but the first), ReLU and max-pooling by 2, then
  three dense layers with ReLU between them: 8,900,314 trainable parameters. The seed project's.
- "becker": as its authors released it (models/AudioNet/audionet_train.prototxt in github.com/soerenab/AudioMNIST): six
  blocks without BatchNorm, the first pool 3 wide, and no ReLU between the dense layers: 17,107,162 parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.models.frontend import rescale, to_unit_range
from audiojax.types import InputError

CHANNELS = (100, 64, 128, 128, 128, 128, 128)
HIDDEN = (1024, 512)


class AudioNet(nn.Module):
    """Sound of one fixed length in, one logit a label out.

    Attributes:
        num_labels: the number of logits.
        variant: "batch_norm" or "becker", see above.
        scale: what each clip is first brought to, see `frontend.rescale`. With "none" quiet clips drown in BatchNorm's
            statistics, which the loud ones make.
        batch_norm: BatchNorm in every block but the first. In training it averages over the zero padding too: the
            padding is part of a fixed-length network's input, here as in the original. False takes it away.
        dropout: the rate after both hidden dense layers; the paper has 0.5, where it does not use BatchNorm.
        relu_on_logits: a ReLU on the logits as well, the seed project's literal text. It can only harm.
        dtype: of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay float32.
    """

    any_length = False

    num_labels: int = 10
    variant: str = "batch_norm"
    scale: str = "rms"
    batch_norm: bool = True
    dropout: float = 0.0
    relu_on_logits: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """f32[B, num_labels] of `audio` [B, T] in 16-bit units, zero right-padded, and its `length` i32[B]."""
        if self.variant not in ("batch_norm", "becker"):
            raise InputError(f"config.model.variant is {self.variant!r}; choose batch_norm or becker.")
        becker, dtype = self.variant == "becker", jnp.dtype(self.dtype)
        channels = CHANNELS[:6] if becker else CHANNELS
        init = nn.initializers.normal(0.1) if becker else nn.initializers.he_normal()
        x = rescale(to_unit_range(audio, dtype), length, self.scale)
        x = nn.relu(WaveConvPool(channels[0], wide=becker, kernel_init=init, dtype=dtype, name="conv_0")(x))
        for i, features in enumerate(channels[1:], start=1):
            x = nn.Conv(features, (3,), dtype=dtype, kernel_init=init, name=f"conv_{i}")(x)
            if self.batch_norm and not becker:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype, name=f"norm_{i}")(x)
            x = nn.relu(max_pool(x))  # they commute, and ReLU has half the work on this side
        x = x.reshape(x.shape[0], -1)
        for i, features in enumerate(HIDDEN):
            x = nn.Dense(features, dtype=dtype, kernel_init=init, name=f"dense_{i}")(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x if becker else nn.relu(x))
        last_init = init if becker else nn.initializers.lecun_normal()
        logits = nn.Dense(self.num_labels, dtype=dtype, kernel_init=last_init, name="logits")(x).astype(jnp.float32)
        return nn.relu(logits) if self.relu_on_logits else logits


def max_pool(x: jax.Array) -> jax.Array:
    """[B, T // 2, C] of [B, T, C]: the larger of two neighbours.

    As a maximum of strided slices its backward pass is several times faster on the CPU than `nn.max_pool`'s.
    """
    stop = x.shape[1] // 2 * 2
    return jnp.maximum(x[:, 0:stop:2], x[:, 1:stop:2])


class WaveConvPool(nn.Module):
    """A convolution of one channel, kernel 3, stride 1, SAME, and `max_pool` after it: [B, T] -> [B, T // 2, features].

    The layer has hardly any arithmetic and the largest activation of all. Written as multiply-adds of shifted
    samples, XLA fuses it with the maximum into one loop, and the [B, T, features] activation is never stored.

    Attributes:
        wide: the pool's window holds three samples instead of two, and fewer at the end (Caffe's ceil mode).
    """

    features: int
    wide: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (3, 1, self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        weights = kernel.reshape(3, 1, 1, self.features)
        pairs = x.shape[1] // 2
        padded = jnp.pad(x, ((0, 0), (1, 2)))
        taps = [padded[:, shift : shift + 2 * pairs : 2, None] for shift in range(5)]

        def convolved(phase: int) -> jax.Array:
            """At samples phase, phase + 2, phase + 4, ..."""
            return taps[phase] * weights[0] + taps[phase + 1] * weights[1] + taps[phase + 2] * weights[2]

        pooled = jnp.maximum(convolved(0), convolved(1))
        if self.wide:
            exists = (jnp.arange(2, 2 * pairs + 2, 2) < x.shape[1])[None, :, None]
            pooled = jnp.maximum(pooled, jnp.where(exists, convolved(2), convolved(0)))
        return pooled + bias.reshape(1, 1, self.features)
