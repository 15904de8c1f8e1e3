"""Reads sound files of all formats that libsndfile supports."""

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from audiojax.audio.signal import MAX_RATE_HZ, MIN_RATE_HZ, mono, prepare_clip
from audiojax.audio.sound_headers import HEAD_BYTES, conversion, find_data, is_empty, is_sound, nist_bytes, no_sound
from audiojax.errors import InputError, one_line

MAX_SECONDS = 600
_BLOCK_FRAMES = 16_384
_SILENT = 2 / 32768  # peak-to-peak range of digital silence with dither
_CANCELLED = 1e-3  # minimum power of the average of channels, relative to that of the channels: -30 dB

Warn = Callable[[str], None]  # receives a sentence for a file that is shorter than its header states


def read_sound(
    path: Path | str, rate_hz: int, *, warn: Warn = lambda sentence: None, refuse_silence: bool = False
) -> np.ndarray:
    """Reads a sound file of any rate, number of channels and sample format; returns i16[t], mono, at `rate_hz`.

    It reads in blocks, so that the memory depends on the content of the file and not on its header. `warn` is called
    with a sentence if the file is shorter than its header states. Raises InputError with a sentence that names the
    file, for example if it has no samples, is longer than MAX_SECONDS, or, with `refuse_silence`, is digitally silent.
    """
    with _opened(path, str(path), warn) as file:
        blocks, levels, room = [], Levels(), MAX_SECONDS * min(file.samplerate, 96_000)
        for block in _decoded(file, _BLOCK_FRAMES, str(path), warn):
            levels.add(block)
            blocks.append(mono(block))
            room -= len(block)
            if room <= 0:
                raise InputError(f"lasts more than {MAX_SECONDS} s, too long for one word")
        levels.check(refuse_silence)
        return prepare_clip(np.concatenate(blocks or [np.empty(0, np.float32)]), file.samplerate, rate_hz)


def sound_blocks(
    path: Path | str, seconds: float, *, name: str = "", warn: Warn = lambda sentence: None
) -> Iterator[tuple[np.ndarray, int, float | None]]:
    """Yields a file of any length, mono, as (i16[t], its sampling rate, its total seconds), in blocks of `seconds`.

    Raises InputError if the file cannot be read or has no samples, possibly after the first blocks. `warn` is called
    with a sentence if the file is shorter than its header states. Messages call the file `name`, by default its path.
    """
    name = name or str(path)
    with _opened(path, name, warn) as file:
        rate_hz, num_samples, levels = file.samplerate, 0, Levels()
        num_frames = file.frames if file.frames < 1 << 62 else 0  # libsndfile's value for an unknown length
        for block in _decoded(file, max(1, round(seconds * rate_hz)), name, warn):
            num_samples += len(block)
            levels.add(block)
            yield prepare_clip(block, rate_hz, rate_hz), rate_hz, max(num_frames, num_samples) / rate_hz
        if not num_samples:
            raise InputError("holds no samples")
        levels.check()


def shortened(sentences: Sequence[str], num_files: int, source: str = "") -> str:
    """Returns one sentence about the files that are shorter than their headers state.

    `sentences` has one for each of them, `num_files` counts all files, and `source` names their data set, if any.
    """
    which = f"files of {source}" if source else "files"
    return (
        f"{len(sentences):,} of {num_files:,} {which} are shorter than their headers state and are used as they are; "
        f"the first: {sentences[0]}."
    )


class Levels:
    """Accumulates levels over the blocks of a sound, to detect silence and channels that cancel each other."""

    def __init__(self) -> None:
        self._low, self._high, self._count = np.inf, -np.inf, 0
        self._sums = np.zeros((2, 0))  # sums of samples and of squares, of each channel and of the average

    def add(self, block: np.ndarray) -> None:
        """Updates the statistics with the next block of the sound, f32[t, channels]."""
        with np.errstate(all="ignore"):  # prepare_clip refuses values that are not finite
            average = mono(block)
            self._low, self._high = min(self._low, average.min()), max(self._high, average.max())
            if block.shape[1] > 1:
                every = np.column_stack([block, average]).astype(np.float64)
                sums = np.stack([every.sum(axis=0), np.square(every).sum(axis=0)])
                self._sums = self._sums + sums if self._count else sums
            self._count += len(block)

    def check(self, refuse_silence: bool = False) -> None:
        """Raises InputError if the channels cancel each other or, with `refuse_silence`, if the average is silent."""
        if self._count and self._sums.size:
            with np.errstate(all="ignore"):
                power = self._sums[1] / self._count - np.square(self._sums[0] / self._count)  # without the mean
            channels = power[:-1].mean()
            if power[-1] < _CANCELLED * channels and channels > np.square(_SILENT):
                raise InputError("has channels that cancel each other: their average is silent; keep one of them")
        if refuse_silence and self._count and self._high - self._low <= _SILENT:
            raise InputError("is digitally silent")


class _Sequential(soundfile.SoundFile):
    """A sound file that is read sequentially.

    soundfile seeks after each read of a seekable file. With MP3, this loses the bit reservoir of earlier frames, so
    that the result differs from decoding the file at once.
    """

    def seekable(self) -> bool:
        return False


class _Patched(io.FileIO):
    """A file with some bytes replaced."""

    def __init__(self, path: str, at: int, content: bytes):
        super().__init__(path)
        self._at, self._content = at, content

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        start = self.tell()
        num_bytes = super().readinto(buffer) or 0
        first, last = max(start, self._at), min(start + num_bytes, self._at + len(self._content))
        if first < last:
            buffer[first - start : last - start] = self._content[first - self._at : last - self._at]
        return num_bytes

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:  # libsndfile may seek before the start of a damaged file; it calls this from C
            return self.tell()


def check_rate(rate_hz: int) -> None:
    """Raises InputError for an invalid sampling rate in a file's header; the message lacks the file's name."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InputError(f"has a header whose sample rate is {rate_hz} Hz, not one from {MIN_RATE_HZ} to {MAX_RATE_HZ}")


@contextlib.contextmanager
def _opened(path: Path | str, name: str, warn: Warn) -> Iterator[soundfile.SoundFile]:
    """Opens a sound file; errors in opening it and inside the block become an InputError that names the file."""
    if not Path(path).is_file():
        raise InputError(f"{name} is not a file; give the path of a sound file (wav, flac, ogg, mp3, aiff, ...).")
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(_Sequential(_target(str(path), name, warn, stack)))
            check_rate(file.samplerate)
            _warn_of_header(file.extra_info, name, warn)
            yield file
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        reason = one_line(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)
        fix = conversion(name) if re.search("unsupported|unimplemented", reason) else "replace or remove the file"
        raise InputError(f"{name} cannot be read as sound ({reason}); {fix}.") from None
    except InputError as error:
        fix = "" if ";" in str(error) else "; replace or remove the file"
        raise InputError(f"{name} {error}{fix}.") from None


def _target(path: str, name: str, warn: Warn, stack: contextlib.ExitStack) -> str | _Patched:
    """Returns what soundfile opens: the path, or the file with the size in its header corrected."""
    with open(path, "rb") as file:
        head, num_bytes = file.read(HEAD_BYTES), file.seek(0, io.SEEK_END)
        chunk = find_data(file) if head[:4] != b"RF64" else None  # libsndfile handles the sizes of RF64
        there = num_bytes - chunk.start if chunk else 0
        missing = chunk and there > 0 and not 0 < chunk.num_bytes <= there and not is_empty(file, chunk)
    if reason := no_sound(head, name):
        raise InputError("cannot be read as sound ({}); {}".format(*reason))
    if name.lower().endswith((".raw", ".pcm")) and not is_sound(head):
        fix = conversion(name).replace("-i", "-f s16le -ar 16000 -i", 1)
        raise InputError(f"cannot be read as sound (its samples have no header); {fix}")
    if (promised := nist_bytes(head)) and num_bytes < promised:
        warn(f"{name} has {num_bytes:,} of the {promised:,} bytes that its header states")
    if not chunk or not missing:
        return path
    if not chunk.streamed:
        warn(f"{name} has {there:,} of the {chunk.num_bytes:,} bytes of samples that its header states")
    return stack.enter_context(_Patched(path, chunk.size_at, chunk.size_field(there)))


def _decoded(file: soundfile.SoundFile, num_frames: int, name: str, warn: Warn) -> Iterator[np.ndarray]:
    """Yields f32[n, channels] from the beginning of the file to its end, in blocks of at most `num_frames`.

    A decoding error ends the file, unless it is the first block.
    """
    done, failed = 0, False
    while not failed:
        block = np.empty((num_frames, file.channels), np.float32)
        try:
            count = len(file.read(out=block))
        except soundfile.LibsndfileError:
            count, failed = file.tell() - done, True
            if done + count <= 0:
                raise
        if count <= 0:
            break
        done += count
        yield block[:count]
    if 0 < done < file.frames and (
        failed or file.frames < 1 << 62
    ):  # a tag after the last frame also fails, without loss
        total = f" of {file.frames / file.samplerate:.2f} s" if file.frames < 1 << 62 else ""
        warn(f"{name} can be decoded for {done / file.samplerate:.2f} s{total} only")


def _warn_of_header(report: str, name: str, warn: Warn) -> None:
    """Warns if libsndfile's report on the header shows that the file is shorter than stated."""
    sizes = re.search(r"^ *riff *: (\d+) \(should be (\d+)\)", report, re.MULTILINE)
    frames = re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", report)
    if sizes and int(sizes[2]) < int(sizes[1]) < 1 << 62:
        warn(f"{name} has {int(sizes[2]):,} of the {int(sizes[1]):,} bytes that its header states")
    elif frames and int(frames[1]) < int(frames[2]) < 1 << 62:
        warn(f"{name} has {int(frames[1]):,} of the {int(frames[2]):,} samples that its header states")
    elif re.search("truncated file|without an End-Of-Stream|lacks an end-of-stream", report):
        warn(f"{name} is truncated")
