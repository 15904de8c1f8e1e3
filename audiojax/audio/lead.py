"""The faint noise that precedes the first sample of every stream.

Training audio rarely contains digital silence. A network whose initial state is the one after digital silence misses
many words at the start of a stream. The noise is the same for every stream.
"""

import numpy as np

LEAD_STEPS = 25  # its length, in steps of the network: 0.5 s of steps of 20 ms
LEAD_AMPLITUDE = 4.0  # its amplitude at int16 scale: a power of -81 dB of full scale


def lead(num_samples: int) -> np.ndarray:
    """Returns the noise, i16[num_samples]: `LEAD_AMPLITUDE` sin(k^2) at sample k, rounded. Its spectrum is flat."""
    noise: np.ndarray = np.round(LEAD_AMPLITUDE * np.sin(np.arange(num_samples) ** 2.0))
    return noise.astype(np.int16)
