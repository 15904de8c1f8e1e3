r"""Synthesises connected digits, spelled names and other words with the neural voices of Kokoro-82M, with word times.

  python -m experiments.streaming.connected_speech --model kokoro-v1.0.int8.onnx --voices DIR --out STRINGS
  python -m audiojax.main --config configs/listen.py:audiomnist,recipe=real --config.data.root=DIR \
      --config.streams.real=REAL_DIR --config.streams.strings=STRINGS

The model (Apache-2.0, hexgrad/Kokoro-82M; this file from thewh1teagle/kokoro-onnx) and its 54 voices (NAME.bin, 510 x
256 float32, as in the npm package kokoro-js 1.2.1) are not part of this project. A speaker is a mixture of two voices
with a pronunciation of each digit. The end of a word comes from the durations that the model predicts for its phonemes,
which are multiples of 25 ms. STRINGS has the layout that `audiojax.data.strings` reads.
"""

import csv
import functools
import io
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from audiojax import cli
from audiojax.audio.signal import wav_file
from audiojax.data.strings import COLUMNS, LIST
from audiojax.io import workers
from audiojax.io.files import whole_folder, write_bytes, write_text
from experiments.streaming.connected_text import KINDS, PRONUNCIATIONS, VOCABULARY, Utterance

RATE_HZ, MODEL_RATE_HZ, FRAME_SAMPLES = 16_000, 24_000, 600
UTTERANCES_PER_SPEAKER = 12
DURATIONS = "/encoder/Clip_output_0"  # the tensor of the ONNX graph that has the frames of each phoneme


class Kokoro:
    """The model, with the durations of the phonemes as a second output."""

    def __init__(self, model: Path, voices: Path, part: str):
        """Loads the model and the voices of `part`; every fifth voice is for validation."""
        import onnx
        import onnxruntime

        graph = onnx.load(str(model))
        graph.graph.output.append(onnx.helper.make_tensor_value_info(DURATIONS, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        paths = [
            path for at, path in enumerate(sorted(voices.glob("*.bin"))) if (at % 5 == 2) == (part == "validation")
        ]
        self.voices = {path.stem: np.fromfile(path, np.float32).reshape(-1, 256) for path in paths}

    def synthesise(self, phonemes: str, style: np.ndarray, speed: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns f32[t] at 24 kHz, and f64[len(phonemes) + 1]: when each phoneme begins, and the end, in seconds."""
        tokens = [VOCABULARY[sound] for sound in phonemes]
        inputs: dict[str, Any] = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[len(tokens) - 1 : len(tokens)],
            "speed": np.array([speed], np.float32),
        }
        sound, frames = self._session.run(None, inputs)
        begins = np.cumsum(frames.ravel())[:-1] * FRAME_SAMPLES / MODEL_RATE_HZ
        return sound.ravel(), begins


def speaker(rng: np.random.Generator, voices: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str], float]:
    """Samples a speaker; returns its style f32[510, 256], its pronunciation of each digit, and its speed."""
    first, second = (voices[str(name)] for name in rng.choice(sorted(voices), 2, replace=False))
    share = rng.uniform(-0.15, 0.5)
    digits = [row[0] if rng.random() < 0.5 else str(rng.choice(row[1:])) for row in PRONUNCIATIONS]
    return ((1 - share) * first + share * second).astype(np.float32), digits, float(rng.uniform(0.7, 1.2))


def synthesise(
    model: Kokoro, utterance: Utterance, style: np.ndarray, speed: float
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Returns f32[t] at `RATE_HZ`, and the words in it: labels of `data.strings` with start and end in seconds."""
    sound, begins = model.synthesise("".join(piece for piece, _ in utterance.pieces), style, speed)
    words, at = [], 0
    for piece, label in utterance.pieces:
        if label:
            start, end = float(begins[at]), float(begins[at + len(piece)])
            end = start + _audible_seconds(sound[int(start * MODEL_RATE_HZ) : int(end * MODEL_RATE_HZ)])
            words.append((label, start, end))
        at += len(piece)
    sound = soxr.resample(sound, MODEL_RATE_HZ, RATE_HZ)
    return sound * np.float32(0.5 / max(float(np.abs(sound).max()), 1e-6)), words


def _audible_seconds(word: np.ndarray) -> float:
    """Returns the seconds until the last frame of `word` that is within 25 dB of its loudest one."""
    size = MODEL_RATE_HZ // 100
    power_db = 10 * np.log10(np.mean(np.square(word[: len(word) // size * size].reshape(-1, size)), axis=1) + 1e-10)
    return float(np.flatnonzero(power_db > power_db.max() - 25)[-1] + 1) / 100


def write_speaker(folder: Path, source: tuple[Path, Path, str], seed: int, index: int) -> list[tuple[str, str, str]]:
    """Writes the recordings of one speaker, a function of (seed, index); returns their rows in the list."""
    kokoro = _load(*source)
    rng = np.random.default_rng([seed, index])
    style, digits, speed = speaker(rng, kokoro.voices)
    rows = []
    for take in range(UTTERANCES_PER_SPEAKER):
        sample = KINDS[int(rng.choice(len(KINDS), p=[share for _, share in KINDS]))][0]
        sound, words = synthesise(kokoro, sample(rng, digits), style, speed * float(np.exp(rng.normal(0, 0.1))))
        name = f"{seed}-{index:03d}_{take:02d}.wav"
        write_bytes(folder / name, wav_file(sound, RATE_HZ))
        rows.append(
            (name, f"kokoro-{seed}-{index:03d}", " ".join(f"{label}:{at:.3f}:{end:.3f}" for label, at, end in words))
        )
    return rows


@functools.cache
def _load(model: Path, voices: Path, part: str) -> Kokoro:
    return Kokoro(model, voices, part)


def write(folder: Path, source: tuple[Path, Path, str], *, num_speakers: int, seed: int) -> None:
    """Writes `num_speakers` x 12 recordings and their list, strings.csv; the folder is complete or absent."""
    with whole_folder(folder) as partial, workers.pool(workers.num_cores()) as pool:
        jobs = [pool.submit(write_speaker, partial, source, seed, index) for index in range(num_speakers)]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            print(f"{done} of {num_speakers} speakers", flush=True)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(row for job in jobs for row in job.result())
        write_text(partial / LIST, text.getvalue())


def main(argv: list[str]) -> None:
    """Writes the folder."""
    parser = cli.parser("experiments.streaming.connected_speech", __doc__ or "")
    parser.add_argument("--model", type=Path, required=True, help="ONNX file of Kokoro-82M")
    parser.add_argument("--voices", type=Path, required=True, help="folder of its voices, NAME.bin")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--part", choices=("train", "validation"), default="train", help="whose voices")
    parser.add_argument("--speakers", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    write(args.out, (args.model, args.voices, args.part), num_speakers=args.speakers, seed=args.seed)


if __name__ == "__main__":
    from experiments.streaming import connected_speech

    cli.run(connected_speech.main)  # so that worker processes find the functions of this module by its name
