"""Fuzzing: damages sound and metadata files at random and counts the outcomes of the readers.

  python -m experiments.studies.fuzz --files 5000

Each file is read in a process with 4 GiB of memory and 20 seconds. The reader may return a clip of 16-bit samples or
raise InputError with one sentence. Any other outcome is printed with the seed that reproduces it, and the exit code
is 1.
"""

import argparse
import collections
import io
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import soundfile

from audiojax.audio import sound_files
from audiojax.data import sources
from audiojax.errors import InputError

FORMATS = (
    ("wav", "PCM_16", 1), ("wav", "PCM_24", 2), ("wav", "FLOAT", 1), ("wav", "DOUBLE", 2), ("wav", "PCM_U8", 1),
    ("wav", "ULAW", 1), ("wav", "MS_ADPCM", 1), ("flac", "PCM_16", 1), ("flac", "PCM_24", 2), ("ogg", "VORBIS", 1),
    ("ogg", "OPUS", 2),
)  # fmt: skip
META = {f"{n:02d}": {"accent": "German", "age": n, "gender": "male", "native speaker": "no"} for n in range(1, 9)}


def whole_file(rng: np.random.Generator) -> tuple[str, bytes]:
    """Returns (extension, content) of a valid file: a tone of 0.25 s in one of FORMATS, or metadata."""
    number = int(rng.integers(len(FORMATS) + 2))
    if number >= len(FORMATS):
        return "txt", json.dumps(META, indent=4).encode()
    extension, subtype, channels = FORMATS[number]
    tone = 0.3 * np.sin(np.arange(12_000) / 20)[:, None].repeat(channels, 1)
    out = io.BytesIO()
    soundfile.write(out, tone, 48_000, format=extension, subtype=subtype)
    return extension, out.getvalue()


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns the content after one to three random changes, mostly in its first 200 bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        reach = len(data) if rng.random() < 0.4 else min(len(data), 200)
        at = int(rng.integers(max(reach, 1)))
        match rng.choice(["bits", "bytes", "number", "cut", "drop", "repeat", "noise"]):
            case "bits" if data:
                data[at] ^= 1 << int(rng.integers(8))
            case "bytes":
                data[at : at + 4] = rng.bytes(4)
            case "number":
                data[at : at + 4] = bytes.fromhex(rng.choice(["ffffffff", "00000000", "ffffff7f", "00000080"]))
            case "cut":
                del data[int(rng.integers(len(data) + 1)) :]
            case "drop":
                del data[at : at + int(rng.integers(1, 64))]
            case "repeat":
                data[at:at] = data[at : at + int(rng.integers(1, 5000))]
            case _:
                data[at : at + 200] = rng.bytes(200)
    return bytes(data)


def answer(seed: int, folder: Path) -> str:
    """Returns the reader's outcome for damaged file number `seed`: "clip", "sentence" or a description of a bug."""
    rng = np.random.default_rng(seed)
    extension, content = whole_file(rng)
    path = folder / f"{seed}.{extension}"
    path.write_bytes(damage(content, rng))
    try:
        warnings.simplefilter("error")
        if extension == "txt":
            speakers = sources.read_metadata(path)
            return "clip" if all(isinstance(name, str) for name in speakers) else "not a table"
        clip = sound_files.read_sound(path, 8000)
        good = clip.dtype == np.int16 and 1 <= len(clip) <= sound_files.MAX_SECONDS * 8000 + 100_000
        return "clip" if good else f"{clip.dtype} {clip.shape}"
    except InputError as error:
        one_line = "\n" not in str(error) and str(path) in str(error)
        return "sentence" if one_line else f"not one sentence: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        path.unlink()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def _answer_in_time(seed: int, folder: Path) -> str:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang in C code is not interrupted by Python: let it kill
    signal.alarm(20)
    try:
        return answer(seed, folder)
    finally:
        signal.alarm(0)


def main() -> int:
    """Reads the damaged files, prints the counts, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    args = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for start in range(args.first, args.first + args.files, 500):
            seeds = range(start, min(start + 500, args.first + args.files))
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(2, mp_context=context, initializer=_limit) as pool:
                results = [pool.submit(_answer_in_time, seed, Path(folder)) for seed in seeds]
                for seed, result in zip(seeds, results, strict=True):
                    try:
                        outcome = result.result()
                    except BrokenProcessPool:
                        outcome = "the process died"
                    kind = f"{outcome}, {whole_file(np.random.default_rng(seed))[0]}"
                    counts[kind if outcome in ("clip", "sentence") else "other"] += 1
                    if outcome not in ("clip", "sentence"):
                        bad += 1
                        print(f"seed {seed}: {outcome}")
    print(f"{args.files:,} damaged files: " + ", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items())))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
