"""Synthesises digits with espeak-ng, in the layout of AudioMNIST; needs the extra `[tts]`.

espeak-ng is licensed under GPL-3.0 and runs in a process of its own. Its output depends on all text synthesised before,
so one new process synthesises everything in a fixed order: the same seed then gives the same bytes.
"""

import argparse
import ctypes
import errno
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from audiojax.errors import InputError
from audiojax.io.files import whole_folder
from audiojax.io.progress import Progress
from audiojax.schema import DIGITS
from audiojax.synthesis.formant import FILE_RATE_HZ, write_takes

VERSION = 1
LANGUAGES = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_MAX_SECONDS = 0.99
_DISK_FAILED = 74  # EX_IOERR


def write(folder: Path, *, num_voices: int, num_takes: int, seed: int, progress: Progress) -> None:
    """Writes `num_takes` clips of each of the ten digits by each voice, as WAV files of 48 kHz, 16 bit.

    The folder is complete or absent. `progress` is called with (clips done, clips in total). Raises InputError if the
    extra `[tts]` is not installed or espeak-ng fails.
    """
    numbers = [f"--{name}={value}" for name, value in (("voices", num_voices), ("takes", num_takes), ("seed", seed))]
    with whole_folder(folder) as partial:
        in_own_process(
            "audiojax.synthesis.espeak", [str(partial), *numbers], num_voices * len(DIGITS) * num_takes, progress
        )


def in_own_process(module: str, arguments: list[str], total: int, progress: Progress) -> None:
    """Runs `python -m MODULE ARGUMENTS`, a module that uses espeak-ng, and waits for its end.

    For each number that the module prints, a line each, `progress` is called with (number, total). Raises InputError if
    the extra `[tts]` is not installed or espeak-ng fails, and OSError if the module cannot write its files.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise InputError("config.data.source is 'espeak', which needs an extra: pip install -e '.[tts]'.")
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        for line in process.stdout:
            progress(int(line), total)
        complaint = " ".join(process.stderr.read().split())
    if process.returncode == _DISK_FAILED:
        number, _, path = complaint.partition(" ")
        raise OSError(int(number), os.strerror(int(number)), path)
    if process.returncode:
        raise InputError(f"espeak-ng failed ({complaint[-200:]}); use --config.data.source=synthetic.")


def run_own_process(main: Callable[[], None]) -> None:
    """Runs `main` in a process that `in_own_process` started; an OSError is then raised in the parent process."""
    try:
        main()
    except OSError as error:
        print(error.errno or errno.EIO, error.filename or "", file=sys.stderr)
        sys.exit(_DISK_FAILED)


class Espeak:
    """The library espeak-ng, loaded by ctypes. `seed` is for its random numbers; `rate_hz` is the rate of its sound."""

    def __init__(self, seed: int):
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.data_path = Path(espeakng_loader.get_data_path())
        self._blocks: list[np.ndarray] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._collect)  # a reference, because the library has a bare pointer
        self.rate_hz = self._library.espeak_Initialize(2, 0, str(self.data_path.parent).encode(), 0)  # 2: synchronous
        if self.rate_hz <= 0:
            raise RuntimeError("espeak_Initialize failed")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, _: object) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def variants(self) -> list[str]:
        """Returns the names of the voice variants, such as "f3" in "en-us+f3"."""
        return sorted(path.name for path in (self.data_path / "voices" / "!v").iterdir())

    def phonemes(self, text: str, voice: str) -> str:
        """Returns an English `text` in the International Phonetic Alphabet, as the voice of that name pronounces it."""
        self._choose(voice)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        rest = ctypes.pointer(ctypes.cast(ctypes.c_char_p(text.encode()), ctypes.c_void_p))
        clauses = []
        while rest.contents.value:  # which each call moves on by a clause
            clauses.append((self._library.espeak_TextToPhonemes(rest, 1, 2) or b"").decode())  # 1: UTF-8, 2: IPA
        return " ".join(clauses)

    def synthesise(self, text: str, voice: str, **parameters: int) -> np.ndarray:
        """Returns the speech f32[t] in [-1, 1] of `text`, at the rate `rate_hz` of the library.

        `voice` is a name of espeak-ng, such as "en-us+f3"; `parameters` are its "rate", "pitch" and "range".
        """
        self._choose(voice)
        for number, value in parameters.items():
            self._library.espeak_SetParameter({"rate": _RATE, "pitch": _PITCH, "range": _RANGE}[number], value, 0)
        self._blocks.clear()
        content = text.encode() + b"\0"
        self._library.espeak_Synth(content, len(content), 0, 1, 0, 1, None, None)  # from character 0, UTF-8
        self._library.espeak_Synchronize()
        return np.concatenate(self._blocks).astype(np.float32) / 32768

    def _choose(self, voice: str) -> None:
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice}")


class Speaker:
    """A voice of espeak-ng: a language, a variant, and a mean rate, pitch and pitch range."""

    def __init__(self, espeak: Espeak, variants: list[str], rng: np.random.Generator):
        """Samples the voice from `rng`, with one of `variants`; its clips take random numbers from `rng` too."""
        self._espeak, self._rng = espeak, rng
        self.language, self.variant = str(rng.choice(LANGUAGES)), str(rng.choice(variants))
        self._rate, self._pitch, self._range = rng.integers(130, 200), rng.integers(25, 75), rng.integers(30, 70)

    def synthesise(self, text: str, rate_hz: int, max_seconds: float) -> np.ndarray:
        """Returns f32[t] in [-1, 1] at `rate_hz`: silence, then speech, cropped to `max_seconds`, at a random level."""
        rng = self._rng
        clip = self._espeak.synthesise(
            text,
            f"{self.language}+{self.variant}",
            rate=int(self._rate + rng.integers(-15, 16)),
            pitch=int(self._pitch + rng.integers(-6, 7)),
            range=int(self._range),
        )
        clip = soxr.resample(clip, self._espeak.rate_hz, rate_hz)
        silence = np.zeros(int(rng.uniform(0.02, 0.2) * rate_hz), np.float32)
        clip = np.concatenate([silence, clip])[: int(max_seconds * rate_hz)]
        return clip * (10 ** (rng.uniform(-20, -3) / 20) / max(float(np.abs(clip).max()), 1e-6))


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("voices", "takes", "seed"):
        parser.add_argument(f"--{name}", type=int)
    args = parser.parse_args()
    espeak = Espeak(args.seed)
    variants = espeak.variants()
    data, meta = args.folder / "data", {}
    for number in range(1, args.voices + 1):
        speaker = Speaker(espeak, variants, np.random.default_rng([args.seed, number]))

        def make_take(digit: int, _: int, speaker: Speaker = speaker) -> np.ndarray:
            return speaker.synthesise(DIGITS[digit], FILE_RATE_HZ, _MAX_SECONDS)

        write_takes(data, number, args.takes, make_take)
        origin = f"espeak-ng +{speaker.variant}"
        meta[f"{number:02d}"] = {"accent": speaker.language, "age": 30, "gender": "unknown", "origin": origin}
        print(number * len(DIGITS) * args.takes, flush=True)
    (data / "audioMNIST_meta.txt").write_text(json.dumps(meta, indent=4))


if __name__ == "__main__":
    run_own_process(_main)
