"""AudioNet: a convolutional network on the raw waveform (Becker et al. 2018, arXiv 1807.03418).

It has two variants, here with their sizes for 8,000 samples and ten labels:

- "batch_norm": seven blocks of convolution (kernel 3), BatchNorm (all but the first), ReLU and max-pooling by 2, then
  three dense layers with ReLU between them: 8,900,314 trainable parameters. See docs/class_project.md.
- "becker": as its authors released it (models/AudioNet/audionet_train.prototxt in github.com/soerenab/AudioMNIST): six
  blocks without BatchNorm, the first pool 3 wide, and no ReLU between the dense layers: 17,107,162 parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from audiojax.errors import InputError
from audiojax.models.layers.convolution import convolve, plain_convolve
from audiojax.models.layers.frontend import rescale, to_unit_range
from audiojax.models.layers.kernels import tuned

CHANNELS = (100, 64, 128, 128, 128, 128, 128)
HIDDEN = (1024, 512)


class AudioNet(nn.Module):
    """AudioNet for sound of a fixed length, with one logit per label.

    Attributes:
        num_labels: the number of logits.
        variant: "batch_norm", seven convolutional blocks with BatchNorm, as in the class project, or "becker", six
            without BatchNorm, as Becker et al. released it.
        scale: how each clip is normalised first: "rms" to a mean power of 1; "percentile" by the 95th percentile of its
            samples; "none", where loud clips dominate BatchNorm's statistics, and quiet ones are recognised worse.
        batch_norm: whether, in the variant "batch_norm", every block but the first has BatchNorm. In training it
            averages over the zero padding too: the padding is part of a fixed-length network's input, here as in the
            original.
        dropout: the dropout rate after each of the two hidden dense layers; the paper has 0.5, without BatchNorm.
        relu_on_logits: whether a ReLU is applied to the logits, as in the class project; it can only reduce accuracy.
        dtype: the type of the computation, "float32" or "bfloat16"; parameters, statistics and logits stay float32.
        kernels: "auto" uses code tuned for the CPU, with custom gradients, where jax runs on a CPU; "plain" never does.
    """

    any_length = False

    num_labels: int = 10
    variant: str = "batch_norm"
    scale: str = "rms"
    batch_norm: bool = True
    dropout: float = 0.0
    relu_on_logits: bool = False
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
        if self.variant not in ("batch_norm", "becker"):
            raise InputError(f"config.model.variant is {self.variant!r}; choose batch_norm or becker.")
        becker, dtype = self.variant == "becker", jnp.dtype(self.dtype)
        channels = CHANNELS[:6] if becker else CHANNELS
        init = nn.initializers.normal(0.1) if becker else nn.initializers.he_normal()
        layer: dict[str, Any] = dict(kernel_init=init, dtype=dtype, tuned=tuned(self.kernels))
        x = rescale(to_unit_range(audio, dtype), length, self.scale)
        x = nn.relu(WaveConvPool(channels[0], wide=becker, **layer, name="conv_0")(x))
        for i, features in enumerate(channels[1:], start=1):
            normed = self.batch_norm and not becker
            x = Conv(features, bias_trains=not (normed and train), **layer, name=f"conv_{i}")(x)
            if normed:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=dtype, name=f"norm_{i}")(x)
            x = nn.relu(max_pool(x))  # they commute, and ReLU after the pooling has half as many values to process
        x = x.reshape(x.shape[0], -1)
        for i, features in enumerate(HIDDEN):
            x = nn.Dense(features, dtype=dtype, kernel_init=init, name=f"dense_{i}")(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x if becker else nn.relu(x))
        last_init = init if becker else nn.initializers.lecun_normal()
        logits = nn.Dense(self.num_labels, dtype=dtype, kernel_init=last_init, name="logits")(x).astype(jnp.float32)
        return nn.relu(logits) if self.relu_on_logits else logits


def max_pool(x: jax.Array) -> jax.Array:
    """Computes max-pooling over pairs of neighbouring samples, [B, T, C] -> [B, T // 2, C].

    An odd last sample is dropped. As a maximum of strided slices the backward pass is several times faster on the CPU
    than `nn.max_pool`'s.
    """
    stop = x.shape[1] // 2 * 2
    return jnp.maximum(x[:, 0:stop:2], x[:, 1:stop:2])


def max_pool_wide(x: jax.Array) -> jax.Array:
    """Computes max-pooling over windows of 3 samples with a stride of 2, [B, T, C] -> [B, T // 2, C].

    If T is even, the last window has only two samples.
    """
    stop = x.shape[1] // 2 * 2
    beyond = jnp.pad(x, ((0, 0), (0, 1), (0, 0)), constant_values=-jnp.inf)
    return jnp.maximum(max_pool(x), beyond[:, 2 : stop + 2 : 2])


class _Kernel3(nn.Module):
    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    dtype: Any = jnp.float32
    tuned: bool = True  # for the CPU

    def kernel_and_bias(self, channels: int) -> tuple[jax.Array, jax.Array]:
        """Returns kernel [3, channels, features] and bias [features], which are named as in `nn.Conv`."""
        kernel = self.param("kernel", self.kernel_init, (3, channels, self.features)).astype(self.dtype)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)


class Conv(_Kernel3):
    """A convolution over time with kernel 3, stride 1 and SAME padding: [B, T, C] -> [B, T, features].

    Attributes:
        features: the number of output channels.
        kernel_init: the initializer of the kernel; the bias begins with zeros.
        dtype: the type of the computation.
        tuned: whether to compute with code tuned for the CPU, which has a custom gradient.
        bias_trains: False where a BatchNorm follows, which subtracts the bias: its gradient is 0, and is not computed.
    """

    bias_trains: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the convolution [B, T, features] of `x` [B, T, C]."""
        kernel, bias = self.kernel_and_bias(x.shape[-1])
        bias = bias if self.bias_trains else jax.lax.stop_gradient(bias)
        if not self.tuned:
            return plain_convolve(x, kernel) + bias.reshape(1, 1, self.features)
        x = jax.lax.optimization_barrier(x)  # or XLA computes and stores it twice, for both passes
        return convolve(x, kernel) + bias.reshape(1, 1, self.features)


class WaveConvPool(_Kernel3):
    """A convolution of a waveform, then max-pooling over time: [B, T] -> [B, T // 2, features].

    The convolution has kernel 3, stride 1 and SAME padding, the pooling a stride of 2. This first layer of AudioNet has
    little arithmetic and the network's largest activation. Written as multiply-adds of shifted samples, XLA fuses the
    convolution with the maximum into one loop, and the [B, T, features] activation is never stored.

    Attributes:
        features: the number of output channels.
        kernel_init: the initializer of the kernel; the bias begins with zeros.
        dtype: the type of the computation.
        tuned: whether to compute with that loop, which has a custom gradient, or with plain jax operations.
        wide: whether the pool's window holds three samples instead of two, and fewer at the end (Caffe's ceil mode).
    """

    wide: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the pooled convolution [B, T // 2, features] of `x` [B, T]."""
        kernel, bias = self.kernel_and_bias(1)
        if not self.tuned:
            convolved = plain_convolve(x[..., None], kernel) + bias.reshape(1, 1, self.features)
            return max_pool_wide(convolved) if self.wide else max_pool(convolved)
        return _wave_conv_pool(x, jnp.concatenate([kernel[:, 0], bias[None]]), self.wide)


def _plain_wave_conv_pool(x: jax.Array, rows: jax.Array, wide: bool) -> jax.Array:
    """Returns the pooled convolution [B, T // 2, features] of `x` [B, T]; `rows` [4, features] are kernel and bias."""
    return _pooled(_convolved(_taps(x), rows, wide), x.shape[1]) + rows[3].reshape(1, 1, -1)


def _taps(x: jax.Array) -> list[jax.Array]:
    """Returns five arrays [B, T // 2], the samples from one before each pair of `x` [B, T] to two after it."""
    pairs = x.shape[1] // 2
    padded = jnp.pad(x, ((0, 0), (1, 2)))
    return [padded[:, shift : shift + 2 * pairs : 2] for shift in range(5)]


def _convolved(taps: list[jax.Array], rows: jax.Array, wide: bool) -> list[jax.Array]:
    """Returns the convolution [B, T // 2, features] at each position in the pool's window: two, or three if `wide`."""
    kernel = [row.reshape(1, 1, -1) for row in rows[:3]]
    return [sum(taps[at + i][..., None] * row for i, row in enumerate(kernel)) for at in range(3 if wide else 2)]


def _pooled(convolved: list[jax.Array], num_samples: int) -> jax.Array:
    """Returns the maximum over the window's positions, without a third one beyond the end."""
    largest = jnp.maximum(convolved[0], convolved[1])
    if len(convolved) == 2:
        return largest
    exists = (jnp.arange(2, 2 * largest.shape[1] + 2, 2) < num_samples)[None, :, None]
    return jnp.maximum(largest, jnp.where(exists, convolved[2], convolved[0]))


_wave_conv_pool = jax.custom_vjp(_plain_wave_conv_pool, nondiff_argnums=(2,))


def _wave_conv_pool_fwd(x: jax.Array, rows: jax.Array, wide: bool) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _wave_conv_pool(x, rows, wide), (x, rows)


def _wave_conv_pool_bwd(
    wide: bool, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients; it computes the convolution again, which is not stored.

    The kernel's gradient is one matrix product for each position in the window. The sums over shifted samples that
    automatic differentiation produces take several times as long.
    """
    x, rows = residuals
    taps, num_features = _taps(x), rows.shape[1]
    _, to_places = jax.vjp(lambda convolved: _pooled(convolved, x.shape[1]), _convolved(taps, rows, wide))
    samples = jnp.stack([tap.reshape(-1) for tap in (*taps, jnp.ones_like(taps[0]))])
    # The gradient as if the first position always were the largest, corrected by the part of each later position.
    whole = samples @ g.reshape(-1, num_features)
    of_kernel = whole[:3]
    for at, of_place in enumerate(to_places(g)[0][1:], start=1):
        part = samples[:-1] @ of_place.reshape(-1, num_features)
        of_kernel += part[at : at + 3] - part[:3]
    _, to_x = jax.vjp(lambda x: _plain_wave_conv_pool(x, rows, wide), x)
    return to_x(g)[0], jnp.concatenate([of_kernel, whole[5:]])


_wave_conv_pool.defvjp(_wave_conv_pool_fwd, _wave_conv_pool_bwd)
