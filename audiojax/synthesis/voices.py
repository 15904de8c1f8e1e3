"""The voices of the synthetic data: parameters of speaker, microphone and room, sampled from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from audiojax.synthesis.phonemes import PRONUNCIATIONS, VOWELS


@dataclass(frozen=True)
class Voice:
    """Parameters of a speaker, a microphone and a room. The defaults are a neutral adult male voice without noise."""

    formant_scale: float = 1.0  # about 0.85 for a long vocal tract, 1.25 for a child's
    vowel_shift: Mapping[str, tuple[float, float]] | None = None  # vowel -> factors of F1 and F2, as in an accent
    reduction: float = 0.0  # vowel reduction: 0 is full vowels, 1 is schwa
    sibilant_scale: float = 1.0
    pitch_hz: float = 120.0
    pitch_fall: float = 0.25  # octave fractions from the first sample to the last
    pitch_accent: float = 0.15  # height of the bump on the stressed syllable, in octaves
    accent_at: float = 0.35  # its position in the word, from 0 to 1
    jitter: float = 0.008  # relative variation of the period
    shimmer: float = 0.05  # relative variation of the amplitude
    tilt_hz: float = 2500.0  # corner of the low-pass filter on the glottal pulse
    breathiness: float = 0.01
    creak: float = 0.0  # probability that a take ends in creak
    rate: float = 1.0
    take_spread: float = 0.05  # variation between takes in rate, stress and pitch
    habits: Mapping[str, int] | None = None  # word -> index of the preferred pronunciation
    max_lead_seconds: float = 0.1
    peak_db: float = -6.0  # full scale is 0
    snr_db: float = 45.0
    noise_slope_db: float = 0.0  # per octave: 0 is white, -3 pink
    hum_db: float = -80.0  # relative to the noise floor
    mic_slope_db: float = 0.0  # per octave about 1 kHz
    mic_band_hz: tuple[float, float] = (60.0, 7800.0)
    room: float = 0.0  # energy of the reverberation relative to the direct sound
    room_seconds: float = 0.1
    knocks: float = 0.0  # mean number per clip


NEUTRAL = Voice()


def make_voice(seed: int, number: int) -> Voice:
    """Returns the random voice with this number, which depends on `seed` and `number` only."""
    rng = np.random.default_rng([seed, number])
    offset = np.random.default_rng(seed).random(2)
    # Size and rate follow a low-discrepancy sequence (Roberts' R2), so that a dozen voices span the range.
    size, speed = (offset + number * np.array([0.7548776662, 0.5698402910])) % 1
    scale = 0.83 + 0.42 * size
    shifts = np.exp(rng.normal(0, (0.1, 0.07), (len(VOWELS), 2)))
    return Voice(
        formant_scale=scale,
        vowel_shift={name: (float(f1), float(f2)) for name, (f1, f2) in zip(VOWELS, shifts, strict=True)},
        reduction=rng.uniform(0, 0.25),
        sibilant_scale=rng.uniform(0.85, 1.15),
        pitch_hz=float(np.clip(110 * (scale / 0.95) ** 2.8 * np.exp(rng.normal(0, 0.15)), 80, 300)),
        pitch_fall=rng.uniform(-0.3, 0.8),
        pitch_accent=rng.uniform(-0.15, 0.5),
        accent_at=rng.uniform(0.1, 0.8),
        jitter=rng.uniform(0.003, 0.02),
        shimmer=rng.uniform(0.02, 0.15),
        tilt_hz=float(np.exp(rng.uniform(np.log(700), np.log(5000)))),
        breathiness=float(np.exp(rng.uniform(np.log(0.005), np.log(0.12)))),
        creak=float(rng.choice([0.0, 0.0, 0.2, 0.6])),
        rate=0.72 * (1.38 / 0.72) ** speed,
        take_spread=rng.uniform(0.1, 0.2),
        habits={word: int(rng.integers(len(variants))) for word, variants in PRONUNCIATIONS.items()},
        max_lead_seconds=rng.uniform(0.2, 0.4),
        peak_db=rng.uniform(-32, -4),
        snr_db=rng.uniform(6, 36),
        noise_slope_db=rng.uniform(-5, 0),
        hum_db=rng.uniform(-30, 3),
        mic_slope_db=rng.uniform(-3, 3),
        mic_band_hz=(float(rng.uniform(50, 300)), float(rng.uniform(3800, 7800))),
        room=rng.uniform(0, 0.3) ** 2,
        room_seconds=rng.uniform(0.05, 0.2),
        knocks=rng.uniform(1.0, 3.5),
    )
