"""Degradations of sound, in numpy: noise, reverberation, microphones and codecs."""

import functools
import io
from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft
import soundfile

Noise = Callable[[np.random.Generator, int, int], np.ndarray]  # (rng, samples, rate_hz) -> f32[samples], mean power 1


def _unit(sound: np.ndarray) -> np.ndarray:
    return (sound / np.sqrt(np.mean(np.square(sound)) + 1e-12)).astype(np.float32)


def _coloured(slope_db: float, low_hz: float = 20.0, high_hz: float = 1e9) -> Noise:
    """Returns a generator of Gaussian noise with a power slope of `slope_db` per octave between two frequencies."""

    @functools.lru_cache(maxsize=8)
    def gains(size: int, rate_hz: int) -> np.ndarray:
        hz = np.maximum(np.fft.rfftfreq(size, 1 / rate_hz), 1.0)
        return ((hz / 1000) ** (slope_db / 6.02) * ((hz >= low_hz) & (hz <= high_hz))).astype(np.float32)

    def make(rng: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
        size = scipy.fft.next_fast_len(num_samples, real=True)
        spectrum = scipy.fft.rfft(rng.standard_normal(size, np.float32))
        return _unit(scipy.fft.irfft(spectrum * gains(size, rate_hz), size)[:num_samples])

    return make


def hum(rng: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Returns mains hum of 50 or 60 Hz with harmonics, f32[num_samples] of mean power 1."""
    time = np.arange(num_samples, dtype=np.float32) * np.float32(2 * np.pi * rng.choice([50.0, 60.0]) / rate_hz)
    loudness = (rng.uniform(0.05, 1.0, 8) / np.arange(1, 9)).astype(np.float32)
    return _unit(
        sum(
            gain * np.sin(np.float32(k) * time + np.float32(rng.uniform(0, 6.28)))
            for k, gain in enumerate(loudness, start=1)
        )
    )


def rumble(rng: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Returns noise below 150 Hz of varying level, like traffic or wind: f32[num_samples] of mean power 1."""
    knots = np.arange(0, num_samples + rate_hz, rate_hz // 2)
    swell = np.interp(np.arange(num_samples), knots, rng.uniform(0.1, 1.0, len(knots))).astype(np.float32)
    return _unit(_LOW(rng, num_samples, rate_hz) * swell)


_LOW = _coloured(-6.0, 10.0, 150.0)


def clicks(rng: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Returns knocks and clicks, decaying bursts of noise, one or two per second: f32[num_samples] of mean power 1."""
    sound = np.zeros(num_samples, np.float32)
    for start in rng.integers(num_samples, size=1 + rng.poisson(1.5 * num_samples / rate_hz)):
        width = max(2, int(np.exp(rng.uniform(np.log(0.0005), np.log(0.03))) * rate_hz))
        burst = rng.standard_normal(6 * width) * np.exp(-np.arange(6 * width) / width)
        pitch_hz = np.exp(rng.uniform(np.log(150), np.log(0.45 * rate_hz)))
        tone = np.cos(2 * np.pi * pitch_hz / rate_hz * np.arange(6 * width))
        burst = (burst * tone if rng.random() < 0.5 else burst) * 10 ** (rng.uniform(-25, 0) / 20)
        kept = min(len(burst), num_samples - start)
        sound[start : start + kept] += burst[:kept]
    return _unit(sound)


def beeps(rng: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Returns electronic beeps, tones and chords of constant pitch: f32[num_samples] of mean power 1."""
    sound, at = np.zeros(num_samples, np.float32), 0
    fade = np.sin(np.linspace(0, np.pi / 2, rate_hz // 100)).astype(np.float32)
    while at < num_samples:
        time = np.arange(int(rng.uniform(0.05, 0.8) * rate_hz), dtype=np.float32) * np.float32(2 * np.pi / rate_hz)
        pitches_hz = np.exp(rng.uniform(np.log(200), np.log(0.4 * rate_hz), rng.integers(1, 4)))
        tone = np.sum([np.sin(np.float32(pitch_hz) * time) for pitch_hz in pitches_hz], axis=0)
        tone[: len(fade)] *= fade
        tone[len(tone) - len(fade) :] *= fade[::-1]
        kept = tone[: num_samples - at]
        sound[at : at + len(kept)] += kept
        at += len(tone) + int(rng.exponential(0.2) * rate_hz)
    return _unit(sound)


def siren(rng: np.random.Generator, num_samples: int, rate_hz: int) -> np.ndarray:
    """Returns a tone of varying pitch with harmonics, f32[num_samples] of mean power 1.

    It is not used in training, so that evaluation includes an unseen kind of noise.
    """
    time = np.arange(num_samples) / rate_hz
    wail = np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * time + rng.uniform(0, 6.28))
    phase = 2 * np.pi * np.cumsum(rng.uniform(500, 900) * 2 ** (0.5 * wail)) / rate_hz
    return _unit(np.sum([np.sin(k * phase) / k for k in (1, 2, 3)], axis=0))


NOISES: dict[str, Noise] = {
    "white": lambda rng, num_samples, rate_hz: rng.standard_normal(num_samples, np.float32),
    "pink": _coloured(-3.0),
    "brown": _coloured(-6.0),
    "hum": hum,
    "rumble": rumble,
    "clicks": clicks,
    "beeps": beeps,
    "siren": siren,
}
# Sampling probabilities in training; babble is composed of clips, see `streaming.scenes.noise_of`.
TRAINED = {
    "white": 0.12, "pink": 0.12, "brown": 0.1, "hum": 0.1, "rumble": 0.1, "clicks": 0.12, "beeps": 0.1, "babble": 0.24,
}  # fmt: skip


def power(sound: np.ndarray) -> float:
    """Returns the mean square of `sound` f32[t] in [-1, 1] plus 1e-10, about the power of 16-bit quantisation noise."""
    return float(np.mean(np.square(sound, dtype=np.float32))) + 1e-10 if len(sound) else 1e-10


def response(rng: np.random.Generator, hz: np.ndarray, filter_db: float) -> np.ndarray:
    """Returns a random smooth frequency response that simulates a microphone: f32 gains at the frequencies `hz`.

    The gains are interpolated between nine random values in [-filter_db, filter_db] dB. `hz` are equally spaced,
    starting at 0.
    """
    nepers = (rng.uniform(-filter_db, filter_db, 9) * np.log(10) / 20).astype(np.float32)
    return np.exp(nepers @ _straight_lines(len(hz)))


@functools.lru_cache(maxsize=8)
def _straight_lines(num: int) -> np.ndarray:
    """Returns the weights of nine knots, f32[9, num], for linear interpolation; knots are denser at low frequencies."""
    place = 8 * np.sqrt(np.linspace(0, 1, num))
    return np.maximum(0, 1 - np.abs(np.arange(9)[:, None] - place)).astype(np.float32)


def mixed(sound: np.ndarray, noise: np.ndarray, reference: float, snr_db: float) -> np.ndarray:
    """Returns `sound` f32[t] plus `noise` of mean power 1, scaled to `snr_db` dB below the power `reference`."""
    return sound + noise * np.sqrt(reference * 10 ** (-snr_db / 10))


def room(rng: np.random.Generator, rate_hz: int, *, ratio_db: float | None = None) -> np.ndarray:
    """Samples a room impulse response f32[t]: direct sound, four early reflections, and a tail of decaying noise.

    The reverberation time (60 dB) is 0.1 to 0.7 s. The direct-to-reverberant ratio is `ratio_db`; for None, 3 to 25
    dB.
    """
    decay_seconds = rng.uniform(0.1, 0.7)
    num_samples = int(decay_seconds * rate_hz)
    tail = rng.standard_normal(num_samples) * 10 ** (-3 * np.arange(num_samples) / num_samples)
    tail[rng.integers(num_samples // 8 + 1, size=4)] += rng.normal(0, 3, 4)
    ratio_db = rng.uniform(3, 25) if ratio_db is None else ratio_db
    tail *= 10 ** (-ratio_db / 20) / np.sqrt(np.sum(np.square(tail)))
    return np.concatenate([[1.0], tail]).astype(np.float32)


def mu_law(sound: np.ndarray) -> np.ndarray:
    """Returns `sound` f32[t] in [-1, 1] after encoding and decoding as 8-bit mu-law (G.711)."""
    compressed = np.sign(sound) * np.log1p(255 * np.abs(np.clip(sound, -1, 1))) / np.log(256)
    compressed = np.rint(compressed * 127) / 127
    return (np.sign(compressed) * np.expm1(np.abs(compressed) * np.log(256)) / 255).astype(np.float32)


def eight_bit(sound: np.ndarray) -> np.ndarray:
    """Returns `sound` f32[t] in [-1, 1] rounded to 8 bit, with equal steps."""
    return (np.rint(np.clip(sound, -1, 1) * 127) / 127).astype(np.float32)


# The arguments container, encoding and level of `compressed`: mobile telephony, internet telephony, recordings.
CODECS = (
    ("WAV", "GSM610", None),
    ("OGG", "OPUS", 0.5),
    ("OGG", "OPUS", 0.9),
    ("OGG", "VORBIS", 1.0),
    ("MP3", "MPEG_LAYER_III", None),
)


def compressed(sound: np.ndarray, rate_hz: int, container: str, encoding: str, level: float | None) -> np.ndarray:
    """Returns `sound` f32[t] in [-1, 1] after encoding and decoding by a lossy codec, without the codec's delay.

    Args:
        sound: f32[t]; values outside [-1, 1] are clipped.
        rate_hz: The sampling rate of `sound`.
        container: The format, as soundfile names it, such as "OGG".
        encoding: The subtype, as soundfile names it, such as "OPUS".
        level: The compression level, from 0 (least) to 1 (most); None for soundfile's default.

    Returns:
        f32[t], of the same length as `sound`.
    """
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound, -1, 1), rate_hz, encoding, format=container, compression_level=level)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.pad(decoded[: len(sound)], (0, max(0, len(sound) - len(decoded))))


def telephone(hz: np.ndarray) -> np.ndarray:
    """Returns the f32 gains at the frequencies `hz` of a band-pass filter from 300 to 3,400 Hz, the telephone band."""
    return (1 / np.sqrt(1 + (300 / np.maximum(hz, 1)) ** 8) / np.sqrt(1 + (hz / 3400) ** 16)).astype(np.float32)


def low_pass(edge_hz: float) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a low-pass filter as a function from Hz to f32 gains: -3 dB at `edge_hz`, -48 dB an octave above."""
    return lambda hz: (1 / np.sqrt(1 + (hz / edge_hz) ** 16)).astype(np.float32)


def filtered(
    sound: np.ndarray, impulse: np.ndarray | None, gains: Sequence[Callable[[np.ndarray], np.ndarray]], rate_hz: int
) -> np.ndarray:
    """Returns `sound` convolved with an impulse response, if there is one, and filtered; f32[t] of the same length.

    Each filter in `gains` is a function from frequencies in Hz to gains.
    """
    size = scipy.fft.next_fast_len(len(sound) + (len(impulse) if impulse is not None else 0), real=True)
    spectrum = scipy.fft.rfft(sound.astype(np.float32), size)
    if impulse is not None:
        spectrum *= scipy.fft.rfft(impulse, size)
    hz = np.fft.rfftfreq(size, 1 / rate_hz)
    for gain in gains:
        spectrum *= gain(hz)
    return scipy.fft.irfft(spectrum, size)[: len(sound)].astype(np.float32)
