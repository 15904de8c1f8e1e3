"""Changes the speed and the tempo of sounds."""

from collections.abc import Sequence

import numpy as np


def time_scaled(sound: np.ndarray, speed: float, tempo: float, places: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Applies speed perturbation, which also shifts pitch and formants, then tempo perturbation at constant pitch.

    Args:
        sound: f32[t].
        speed: Factor of the speed, above 1 for shorter sound; by resampling with linear interpolation.
        tempo: Factor of the tempo, above 1 for shorter sound; by an overlap-add of windows of 256 samples.
        places: Positions in `sound`, in samples.

    Returns:
        The new sound f32[t], and the corresponding positions of `places` in it, in samples.
    """
    if speed != 1:
        position = np.arange(max(1, int(len(sound) / speed))) * speed
        left = position.astype(np.int64)
        fraction = (position - left).astype(np.float32)
        sound = np.append(sound, np.float32(0))
        sound = sound[left] * (1 - fraction) + sound[left + 1] * fraction
    if tempo != 1:
        hop, num_samples = 128, max(1, int(len(sound) / tempo))
        windows = np.rint(tempo * hop * np.arange(num_samples // hop + 2)).astype(np.int64)  # the starts
        padded = np.pad(sound, (hop, int(windows[-1]) + 2 * hop))
        pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[windows]
        fade = np.square(np.sin(np.pi / 2 / hop * np.arange(2 * hop))).astype(np.float32)
        faded = (pieces * fade).reshape(len(windows), 2, hop)
        sound = (faded[:-1, 1] + faded[1:, 0]).reshape(-1)[:num_samples]
    return sound, [min(round(place / speed / tempo), len(sound)) for place in places]
