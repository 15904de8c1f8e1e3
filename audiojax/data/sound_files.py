"""Reads sound files, whatever their format: the only reader of them."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from audiojax.data.signal import mono, prepare_clip
from audiojax.types import InputError

EXTENSIONS = (".wav", ".flac", ".ogg")  # of the files that a data set's listing takes
MAX_SECONDS = 600


def read_sound(path: Path | str, rate_hz: int) -> np.ndarray:
    """i16[t] at `rate_hz`: any file that libsndfile reads, whatever its rate, channels and sample format.

    Reads in blocks, so that memory follows what a file holds and not what its header claims. Raises InputError with a
    sentence that names the file, among others where it is truncated or lasts longer than MAX_SECONDS.
    """
    with _opened(path) as file:
        blocks, room = [], MAX_SECONDS * min(file.samplerate, 96_000)
        while room > 0 and len(block := file.read(65_536 // file.channels, dtype="float32", always_2d=True)):
            blocks.append(mono(block))
            room -= len(block)
        if room <= 0:
            raise InputError(f"lasts more than {MAX_SECONDS} s, too long for one word")
        return prepare_clip(np.concatenate(blocks or [np.empty(0, np.float32)]), file.samplerate, rate_hz)


def sound_blocks(path: Path | str, seconds: float) -> Iterator[tuple[np.ndarray, int, float]]:
    """A file of any length as (i16[t], its own rate in Hz, how many seconds its header promises), `seconds` at a time.

    Raises InputError as `read_sound` does, where the file is damaged after what came before.
    """
    with _opened(path) as file:
        rate_hz, num_samples = file.samplerate, 0
        while len(block := file.read(max(1, round(seconds * rate_hz)), dtype="float32", always_2d=True)):
            num_samples += len(block)
            yield prepare_clip(block, rate_hz, rate_hz), rate_hz, max(file.frames, num_samples) / rate_hz
        if not num_samples:
            raise InputError("holds no samples")


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[soundfile.SoundFile]:
    """The file, to be read in the block; what is wrong with it, there too, becomes a sentence that names it."""
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; give the path of a sound file (wav, flac, ogg).")
    try:
        with soundfile.SoundFile(path) as file:
            sizes = re.search(r"^ *(?:data|SSND) *: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
            if sizes and int(sizes[1]) < 2**31 - 1:  # larger: it was written as a stream, its length not yet known
                raise InputError(f"is truncated: its header announces {sizes[1]} bytes and {sizes[2]} are there")
            yield file
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:  # TypeError: raw samples without a header
        reason = " ".join(str(getattr(error, "error_string", error)).split()).strip(" .") or "damaged"
        raise InputError(f"{path} cannot be read as sound ({reason}); replace or remove the file.") from None
    except InputError as error:
        raise InputError(f"{path} {error}; replace or remove the file.") from None
