"""A formant synthesiser of spoken digits, which writes its clips in the layout of AudioMNIST.

It is a source-filter model after Klatt (1980), "Software for a cascade/parallel formant synthesizer", JASA 67(3). A
word is a sequence of segments (a vowel target, a closure, a burst, ...), cross-faded into control frames of 4 ms. Each
glottal pulse and each windowed piece of noise has one spectrum: source times vocal tract at that frame. The waveform is
the overlap-add of their inverse FFTs, so that all computations on samples are matrix operations.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
import soxr

from audiojax.audio.signal import wav_file
from audiojax.io import workers
from audiojax.io.files import whole_folder, write_bytes
from audiojax.io.progress import Progress
from audiojax.schema import DIGITS
from audiojax.synthesis.phonemes import PHONEMES, PRONUNCIATIONS, VOWELS
from audiojax.synthesis.voices import Voice, make_voice

VERSION = 2  # increment it when the same seed yields different sound
RATE_HZ = 16_000
FILE_RATE_HZ = 48_000  # as in AudioMNIST
HOP_SAMPLES = 64
FFT_SAMPLES = 512  # 32 ms: a 60 Hz wide resonance has decayed by 52 dB, so the wrap-around is inaudible
MAX_SAMPLES = int(0.99 * RATE_HZ)
MAX_WORD_SECONDS = 0.86

_HZ = np.fft.rfftfreq(FFT_SAMPLES, 1 / RATE_HZ)
_DELAY = np.exp(-2j * np.pi * _HZ / RATE_HZ).astype(np.complex64)  # z^-1 on the unit circle


def synthesise(word: str | Sequence[str], voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Synthesises a word by a voice, with random variation: f32[t] in [-1, 1] at 16 kHz, t at most 15,840.

    `word` is the name of a digit, such as "zero", or a sequence of phonemes, such as ("W", "AH", "N").
    """
    return _record(_articulate(_phonemes_of(word, voice, rng), voice, rng), voice, rng)


def _phonemes_of(word: str | Sequence[str], voice: Voice, rng: np.random.Generator) -> Sequence[str]:
    if not isinstance(word, str):
        return word
    variants = PRONUNCIATIONS[word]
    favourite = (voice.habits or {}).get(word, 0)
    chosen = rng.integers(len(variants)) if rng.random() < 2 * voice.take_spread and voice.habits else favourite
    return variants[chosen].split()


def _articulate(phonemes: Sequence[str], voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Returns f32[t] at 16 kHz of the word alone, with unit RMS of its voiced part."""
    segments, formants_hz = [], []
    for name in phonemes:
        factors = (voice.vowel_shift or {}).get(name, (1.0, 1.0))
        schwa = voice.reduction * (name in VOWELS)
        for segment in PHONEMES[name]:
            target = np.array(segment.formants_hz) * (*factors, 1.0)
            segments.append(segment)
            formants_hz.append(target + schwa * (np.array([500, 1450, 2500]) - target))
    spread = voice.take_spread
    seconds = np.array([segment.seconds for segment in segments]) / voice.rate
    seconds[-1] *= 1.15  # final lengthening
    seconds *= np.exp(rng.normal(0, spread) + rng.normal(0, 1.5 * spread, len(segments)))
    seconds *= min(1.0, MAX_WORD_SECONDS / seconds.sum())
    num_samples = int(seconds.sum() * RATE_HZ)
    frame_seconds = np.arange(num_samples // HOP_SAMPLES + 1) * HOP_SAMPLES / RATE_HZ

    articulation = _crossfade(seconds, np.full(len(segments), 0.045), frame_seconds)
    abrupt = np.array([segment.abrupt for segment in segments])
    source = _crossfade(seconds, np.where(abrupt, 0.001, 0.012), frame_seconds)
    edge = np.clip((seconds.sum() - frame_seconds) / 0.05, 0, 1)  # voicing fades out
    voicing = source @ [segment.voicing for segment in segments] * edge
    breath = source @ [segment.aspiration for segment in segments] + voice.breathiness * voicing
    tract = _tract(
        articulation @ np.array(formants_hz) * voice.formant_scale,
        articulation @ [segment.nasal for segment in segments],
        source @ [60 + 140 * (segment.voicing < 0.5) for segment in segments],
        voice.formant_scale,
    )

    pulses_at, pulse_gain = _glottal_pulses(voicing, voice, num_samples, rng)
    nearest = (pulses_at / HOP_SAMPLES).astype(int)
    start = pulses_at.astype(int)
    lateness = np.exp(-2j * np.pi / RATE_HZ * (pulses_at - start)[:, None] * _HZ).astype(np.complex64)
    glottis = (1 - _DELAY) / (1 - np.exp(-np.pi * 100 / RATE_HZ) * _DELAY) ** 2  # Klatt's RGP and lip radiation
    glottis /= 1 - np.exp(-2 * np.pi * voice.tilt_hz / RATE_HZ) * _DELAY
    voiced = _overlap_add(tract[nearest] * lateness * (glottis * pulse_gain[:, None]), start, num_samples)
    voiced /= np.sqrt(np.mean(voiced**2)) + 1e-9

    pieces = rng.standard_normal((len(frame_seconds), 2 * HOP_SAMPLES), np.float32)
    pieces *= np.hanning(2 * HOP_SAMPLES + 1)[:-1].astype(np.float32)
    noise = np.fft.rfft(pieces, FFT_SAMPLES)
    aspiration = tract * (1 - _DELAY)
    aspiration *= breath[:, None] / np.sqrt(np.mean(np.abs(aspiration) ** 2))
    hiss = np.array([_noise_shape(segment.noise_hz, voice.sibilant_scale) for segment in segments])
    frication = (source * [segment.frication for segment in segments]) @ hiss
    unvoiced = _overlap_add(noise * (aspiration + frication), np.arange(len(noise)) * HOP_SAMPLES, num_samples)
    return (voiced + unvoiced).astype(np.float32)


def _crossfade(seconds: np.ndarray, reach_seconds: np.ndarray, at_seconds: np.ndarray) -> np.ndarray:
    """Returns the weight of each segment, f64[frame, segment] with rows that sum to 1.

    Adjacent segments are cross-faded within `reach_seconds` of their boundary.
    """
    ends = np.cumsum(seconds)
    reach = np.minimum(reach_seconds, seconds / 2)
    knots = np.stack([ends - seconds + reach, ends - reach], axis=1).ravel()
    numbers = np.arange(len(seconds))
    position = np.interp(at_seconds, knots, np.repeat(numbers, 2))
    return np.maximum(0, 1 - np.abs(position[:, None] - numbers))


def _resonance(centre_hz: np.ndarray | float, width_hz: np.ndarray | float) -> np.ndarray:
    """Returns the response of Klatt's two-pole resonator, c64[frame, bin], 1 at 0 Hz; inverted, an antiresonator's."""
    radius = np.exp(-np.pi * np.reshape(width_hz, (-1, 1)) / RATE_HZ).astype(np.float32)
    b = 2 * radius * np.cos(2 * np.pi * np.reshape(centre_hz, (-1, 1)) / RATE_HZ).astype(np.float32)
    c = -(radius**2)
    return (1 - b - c) / (1 - _DELAY * (b + c * _DELAY))


def _tract(formants_hz: np.ndarray, nasal: np.ndarray, first_width_hz: np.ndarray, scale: float) -> np.ndarray:
    """Returns the response of the vocal tract, c64[frame, bin]; formants above F3 are constant."""
    response = _resonance(formants_hz[:, 0], first_width_hz + 60 * nasal)
    response = response * _resonance(formants_hz[:, 1], 80 + 120 * nasal)
    response *= _resonance(formants_hz[:, 2], 120 + 150 * nasal)
    response *= _resonance(270 * scale, 100) / _resonance((270 + 230 * nasal) * scale, 100)
    for number, centre_hz in enumerate((3400, 4200, 5000, 6000, 7000)):
        if centre_hz * scale < 0.48 * RATE_HZ:
            response *= _resonance(centre_hz * scale, 200 + 100 * number)
    return response


def _glottal_pulses(
    voicing: np.ndarray, voice: Voice, num_samples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the times of the glottal pulses in fractional samples, ascending, and their gains."""
    along = np.linspace(0, 1, num_samples)
    bump = np.exp(-0.5 * ((along - voice.accent_at) / 0.18) ** 2)
    octaves = voice.pitch_accent * bump * np.exp(rng.normal(0, 3 * voice.take_spread)) - voice.pitch_fall * along
    pitch_hz = voice.pitch_hz * 2 ** (octaves + 0.5 * voice.pitch_fall + rng.normal(0, voice.take_spread))
    creaks = rng.random() < voice.creak
    pitch_hz = np.where(creaks & (along > rng.uniform(0.6, 0.85)), 0.5 * pitch_hz, pitch_hz)
    cycles = np.cumsum(np.clip(pitch_hz, 50, 400)) / RATE_HZ
    at = np.interp(np.arange(cycles[-1]) + rng.random(), cycles, np.arange(num_samples))
    at += rng.normal(0, voice.jitter, len(at)) * RATE_HZ / voice.pitch_hz
    at = np.sort(np.clip(at, 0, num_samples - 1))
    gain = np.interp(at / HOP_SAMPLES, np.arange(len(voicing)), voicing)
    return at, gain * np.exp(rng.normal(0, voice.shimmer, len(at)))


def _noise_shape(noise_hz: tuple[float, float], scale: float) -> np.ndarray:
    """Returns the magnitude spectrum of frication, f64[bin] of unit RMS: one broad peak over a low floor."""
    shape = np.exp(-0.5 * ((_HZ - noise_hz[0] * scale) / noise_hz[1]) ** 2) + 0.02
    return shape / np.sqrt(np.mean(shape**2))


def _overlap_add(spectra: np.ndarray, start_samples: np.ndarray, num_samples: int) -> np.ndarray:
    """Returns f32[num_samples], the sum of the inverse transforms of all rows, each from its start."""
    wave = np.zeros(num_samples + FFT_SAMPLES, np.float32)
    for row, start in zip(np.fft.irfft(spectra.astype(np.complex64), FFT_SAMPLES), start_samples, strict=True):
        wave[start : start + FFT_SAMPLES] += row
    return wave[:num_samples]


def _record(speech: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Returns f32[t] in [-1, 1]: the word with silence around it, room, noise, microphone and level."""
    spare = MAX_SAMPLES - len(speech)
    lead = int(min(rng.uniform(0, voice.max_lead_seconds) * RATE_HZ, spare))
    trail = int(min(rng.uniform(0.01, 0.15) * RATE_HZ, spare - lead))
    num_samples = lead + len(speech) + trail
    clip = np.pad(speech, (lead, trail))

    # One transform that is long enough to avoid circular convolution.
    fft_samples = 2 * RATE_HZ
    hz = np.fft.rfftfreq(fft_samples, 1 / RATE_HZ)
    octave = np.log2(np.maximum(hz, 50) / 1000)
    decay = np.exp(-np.arange(1, RATE_HZ // 4) / (0.145 * voice.room_seconds * RATE_HZ))
    tail = rng.standard_normal(len(decay)) * decay
    tail *= np.sqrt(voice.room / np.sum(tail**2))
    floor = np.fft.rfft(rng.standard_normal(fft_samples)) * 10 ** (voice.noise_slope_db * octave / 20)
    mains = np.arange(fft_samples) * (2 * np.pi * 50 / RATE_HZ)
    hum = sum(np.sin(k * mains + rng.uniform(0, 2 * np.pi)) / k for k in (1, 2, 3, 5))
    floor /= np.sqrt(np.mean(np.fft.irfft(floor) ** 2))
    floor += np.fft.rfft(hum) * 10 ** (voice.hum_db / 20)
    floor *= np.sqrt(np.mean(speech**2)) * 10 ** (-voice.snr_db / 20)
    clip = clip + _knocks(voice.knocks, num_samples, np.max(np.abs(speech)), rng)
    spectrum = np.fft.rfft(clip, fft_samples) * np.fft.rfft(np.append(1.0, tail), fft_samples) + floor
    low_hz, high_hz = voice.mic_band_hz
    spectrum *= 10 ** (voice.mic_slope_db * octave / 20) / np.sqrt(1 + (low_hz / np.maximum(hz, 1)) ** 4)
    spectrum /= np.sqrt(1 + (hz / high_hz) ** 8)
    recorded = np.fft.irfft(spectrum)[:num_samples]
    level = 10 ** ((voice.peak_db + rng.normal(0, 15 * voice.take_spread)) / 20)
    return (recorded * (min(level, 0.99) / np.max(np.abs(recorded)))).astype(np.float32)


def _knocks(mean: float, num_samples: int, peak: float, rng: np.random.Generator) -> np.ndarray:
    """Returns f64[num_samples] of knocks, clicks and breaths at random times: decaying band-limited noise."""
    sound = np.zeros(num_samples)
    for _ in range(rng.poisson(mean)):
        width = int(np.exp(rng.uniform(np.log(0.004), np.log(0.05))) * RATE_HZ)
        start = int(rng.integers(num_samples))
        burst = rng.standard_normal(6 * width) * np.exp(-np.arange(6 * width) / width)
        spectrum = np.fft.rfft(burst)
        hz = np.fft.rfftfreq(len(burst), 1 / RATE_HZ)
        centre_hz = np.exp(rng.uniform(np.log(200), np.log(5000)))
        burst = np.fft.irfft(spectrum * np.exp(-0.5 * (np.log2(np.maximum(hz, 1) / centre_hz) / 0.7) ** 2), len(burst))
        burst *= peak * 10 ** (rng.uniform(-25, -5) / 20) / np.max(np.abs(burst))
        kept = min(len(burst), num_samples - start)
        sound[start : start + kept] += burst[:kept]
    return sound


def write(folder: Path, *, num_voices: int, num_takes: int, seed: int, progress: Progress) -> None:
    """Writes `num_takes` clips of each of the ten digits by each voice, as WAV files of 48 kHz, 16 bit.

    They are in the layout of AudioMNIST. Each file is a function of (seed, voice, digit, take). The folder is complete
    or absent. `progress` is called with (clips done, clips in total).
    """
    numbers = range(1, num_voices + 1)
    with whole_folder(folder) as partial, workers.pool(workers.num_cores()) as pool:
        data = partial / "data"
        data.mkdir()
        voices = [pool.submit(_write_voice, data, number, num_takes, seed) for number in numbers]
        for done, _ in enumerate(as_completed(voices), start=1):
            progress(done * len(DIGITS) * num_takes, num_voices * len(DIGITS) * num_takes)
        meta = {f"{number:02d}": voice.result() for number, voice in zip(numbers, voices, strict=True)}
        (data / "audioMNIST_meta.txt").write_text(json.dumps(meta, indent=4))


def _write_voice(data: Path, number: int, num_takes: int, seed: int) -> dict[str, str | int]:
    """Writes the clips of one voice and returns its entry of AudioMNIST's metadata."""
    voice = make_voice(seed, number)

    def make_take(digit: int, take: int) -> np.ndarray:
        clip = synthesise(DIGITS[digit], voice, np.random.default_rng([seed, number, digit, take]))
        return soxr.resample(clip, RATE_HZ, FILE_RATE_HZ)

    write_takes(data, number, num_takes, make_take)
    return {
        "accent": "synthetic",
        "age": 30,
        "gender": "male" if voice.pitch_hz < 165 else "female",
        "native speaker": "synthetic",
        "origin": "synthetic, formant synthesiser",
        "recordingroom": "synthetic",
    }


def write_takes(data: Path, number: int, num_takes: int, make_take: Callable[[int, int], np.ndarray]) -> None:
    """Writes `num_takes` clips of each digit by the speaker `number` below `data`, in the layout of AudioMNIST.

    `make_take(digit, take)` returns a clip f32[t] in [-1, 1] at 48 kHz.
    """
    folder = data / f"{number:02d}"
    folder.mkdir(parents=True)
    for digit in range(len(DIGITS)):
        for take in range(num_takes):
            path = folder / f"{digit}_{number:02d}_{take}.wav"
            write_bytes(path, wav_file(make_take(digit, take), FILE_RATE_HZ))  # soundfile does not report a full disk
