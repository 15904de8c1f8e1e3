"""AlexNet on spectrograms (Becker et al. 2018)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from audiojax.errors import InputError
from audiojax.models.layers import frontend, kernels
from audiojax.models.melcnn import HOP_SAMPLES, LOWEST_DB, WINDOW_SAMPLES


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky et al. 2012) on a spectrogram of sound of a fixed length, with one logit per label.

    As Becker et al. released it (models/AlexNet/alexnet_train.prototxt in github.com/soerenab/AudioMNIST): one input
    channel, two groups in three of the five convolutions, two hidden dense layers of 1,024, and no local response
    normalisation. 8,000 samples give a spectrogram of 227 x 227 and 12,808,906 parameters.

    Attributes:
        num_labels: the number of logits.
        dropout: the dropout rate after each of the two hidden dense layers.
        dtype: the type of the computation after the spectrogram, "float32" or "bfloat16"; parameters and logits stay
            float32.
        kernels: "auto" uses code tuned for the CPU, with custom gradients, where jax runs on a CPU; "plain" never does.
    """

    any_length = False

    num_labels: int = 10
    dropout: float = 0.5
    dtype: str = "float32"
    kernels: str = "auto"

    @nn.compact
    def __call__(self, audio: jax.Array, length: jax.Array, *, train: bool = False) -> jax.Array:
        """Returns logits f32[B, num_labels].

        Args:
            audio: i16[B, T], or f32[B, T] at int16 scale (-32768 to 32767), zero right-padded.
            length: i32[B], the number of samples of each clip without padding; not used, because the padding is part of
                the input.
            train: whether dropout is on.
        """
        if audio.shape[1] < 3300:  # three poolings leave no output for a shorter clip
            raise InputError(
                f"config.train.length_samples is {audio.shape[1]}; AlexNet needs 3300 or more, 8000 in the paper."
            )
        constant, normal, dtype = nn.initializers.constant, nn.initializers.normal, jnp.dtype(self.dtype)
        grouped = _by_group if kernels.tuned(self.kernels) else jax.lax.conv_general_dilated
        x = decibel_picture(audio)[..., None].astype(dtype)
        for i, (features, size, stride, groups, bias, pools) in enumerate(ALEXNET):
            x = nn.Conv(
                features,
                (size, size),
                strides=stride,
                padding="VALID" if stride > 1 else "SAME",
                feature_group_count=groups,
                conv_general_dilated=grouped,
                dtype=dtype,
                kernel_init=normal(0.01),
                bias_init=constant(bias),
                name=f"conv_{i}",
            )(x)
            x = nn.relu(x)
            x = nn.max_pool(x, (3, 3), strides=(2, 2)) if pools else x
        x = x.reshape(x.shape[0], -1)
        for i in range(2):
            init: dict[str, Any] = dict(kernel_init=normal(0.005), bias_init=constant(0.1))
            x = nn.relu(nn.Dense(1024, **init, dtype=dtype, name=f"dense_{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_labels, dtype=dtype, kernel_init=normal(0.01), name="logits")
        return logits(x).astype(jnp.float32)


def _by_group(x: jax.Array, kernel: jax.Array, *args: Any, feature_group_count: int, **more: Any) -> jax.Array:
    """Computes `jax.lax.conv_general_dilated` by group; XLA's grouped convolution takes 7 times as long on the CPU."""
    parts = (jnp.split(array, feature_group_count, axis=-1) for array in (x, kernel))
    of_groups = [jax.lax.conv_general_dilated(*part, *args, **more) for part in zip(*parts, strict=True)]
    return jnp.concatenate(of_groups, axis=-1)


# Features, size, stride, groups and initial bias of each convolution, and whether a max-pool follows.
ALEXNET = (
    (96, 11, 4, 1, 0.0, True),
    (256, 5, 1, 2, 0.1, True),
    (384, 3, 1, 1, 0.0, False),
    (384, 3, 1, 2, 0.1, False),
    (256, 3, 1, 2, 0.1, True),
)


def decibel_picture(audio: jax.Array) -> jax.Array:
    """Returns the spectrogram f32[B, 227, N], frequencies by frames, of `audio` [B, T] at int16 scale.

    Values are in dB relative to the clip's loudest bin, and at least -80; N is 227 for 8,000 samples. As in
    AudioMNIST's preprocess_data.py it is scipy's `stft`, with a Hann window of 455 samples, a hop of 35 and zeros
    around the sound, without the highest frequency and the outermost frames (two before, one after), then librosa's
    `amplitude_to_db` against the maximum.
    """
    window, hop, half = WINDOW_SAMPLES, HOP_SAMPLES, WINDOW_SAMPLES // 2
    num_frames = -(-(audio.shape[1] + 2 * half - window) // hop) + 1
    padded = (num_frames - 1) * hop + window
    sound = jnp.pad(audio.astype(jnp.float32), ((0, 0), (half, padded - audio.shape[1] - half)))
    hann = jnp.asarray(np.hanning(window + 1)[:-1], jnp.float32)
    frames = frontend.windows(sound, window, hop)[:, 2:-1] * (hann / hann.sum())[None, None, :]
    magnitude = jnp.abs(jnp.fft.rfft(frames))[..., :half].swapaxes(1, 2)
    loudest = jnp.max(magnitude, axis=(1, 2), keepdims=True)
    return jnp.maximum(20 * jnp.log10(jnp.maximum(magnitude, 1e-5) / jnp.maximum(loudest, 1e-5)), LOWEST_DB)
