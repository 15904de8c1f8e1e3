"""The faint noise before a stream."""

import numpy as np

from audiojax.audio.lead import lead


def test_the_lead_is_faint_noise_with_a_flat_spectrum_and_its_beginning_is_that_of_a_longer_one():
    noise = lead(4000)
    assert noise.dtype == np.int16 and np.abs(noise).max() <= 4
    bands_db = 10 * np.log10((np.abs(np.fft.rfft(noise.astype(float)))[1:] ** 2).reshape(8, -1).mean(axis=1))
    assert np.ptp(bands_db) < 2 and abs(noise.mean()) < 0.1
    np.testing.assert_array_equal(lead(100), noise[:100])
