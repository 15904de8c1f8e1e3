"""AlexNet on spectrograms, as Becker et al. released it: its picture, its shape, its recipe."""

import jax
import numpy as np
import pytest
import scipy.signal

from audiojax import models
from audiojax.errors import InputError
from audiojax.models.alexnet import decibel_picture
from audiojax.training.optimizer import make_optimizer
from configs import spectrogram


@pytest.mark.slow
def test_the_picture_is_that_of_audiomnists_preprocessing():
    audio = np.zeros((2, 8000), np.int16)
    audio[:, 700:6000] = np.random.default_rng(0).normal(0, 3000, (2, 5300))
    audio[1] //= 30
    ours = decibel_picture(audio)
    assert ours.shape == (2, 227, 227)
    for sound, picture in zip(audio.astype(np.float64), ours, strict=True):
        _, _, spectrum = scipy.signal.stft(sound, fs=8000, window="hann", nperseg=455, noverlap=420)
        magnitude = np.abs(spectrum)[0:227, 2:-1]
        expected = 20 * np.log10(np.maximum(magnitude, 1e-5) / magnitude.max())
        np.testing.assert_allclose(picture, np.maximum(expected, -80), atol=0.02)
    assert not np.asarray(decibel_picture(np.zeros((1, 8000), np.int16))).any()


def test_its_five_convolutions_are_caffes():
    model = models.build(name="alexnet", num_labels=10, rate_hz=8000)
    audio, length = np.zeros((1, 8000), np.int16), np.full(1, 8000, np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), audio, length)["params"]
    kernels = [shapes[f"conv_{i}"]["kernel"].shape for i in range(5)]
    assert kernels == [(11, 11, 1, 96), (5, 5, 48, 256), (3, 3, 256, 384), (3, 3, 192, 384), (3, 3, 192, 256)]
    assert shapes["dense_0"]["kernel"].shape == (6 * 6 * 256, 1024)
    with pytest.raises(InputError, match=r"config\.train\.length_samples.*\b2000\b.*\b3300\b"):
        model.init(jax.random.key(0), audio[:, :2000], length)


def test_the_recipe_is_the_released_solvers():
    config = spectrogram.get_config("audiomnist,recipe=alexnet")
    assert (config.train.batch_size, config.train.placement, config.train.length_samples) == (100, "random", 8000)
    assert (config.optimizer.momentum, config.optimizer.clip_norm, config.model.dropout) == (0.9, 5.0, 0.5)
    assert not any(np.any(value) for value in config.augment.to_dict().values())
    assert abs(config.train.num_epochs * 180 - 10_000) < 180
    _, rate = make_optimizer(**config.optimizer, total_steps=10_000)
    np.testing.assert_allclose([rate(s) for s in (0, 2499, 2500, 5000, 9999)], [1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4])
