"""The faint noise that every stream begins with, before its first sample.

Recordings that begin with a word are hardly ever preceded by digital silence in training, and a network whose state
comes from digital silence misses many of them.
"""

import numpy as np

LEAD_STEPS = 25  # its length, in steps of the network
LEAD_AMPLITUDE = 4.0  # its amplitude, in 16-bit units: -81 dB of full scale


def lead(num_samples: int) -> np.ndarray:
    """Returns the noise, i16[num_samples]: `LEAD_AMPLITUDE` sin(k^2) at sample k, rounded. Its spectrum is flat."""
    noise: np.ndarray = np.round(LEAD_AMPLITUDE * np.sin(np.arange(num_samples) ** 2.0))
    return noise.astype(np.int16)
