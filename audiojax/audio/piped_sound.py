"""Reads sound from a pipe: raw samples, WAV, AIFF, AU and CAF as they arrive, other formats when the pipe ends."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
import soundfile

from audiojax.audio.signal import prepare_clip
from audiojax.audio.sound_files import Levels, Warn, check_rate, sound_blocks
from audiojax.audio.sound_headers import (  # fmt: skip
    CHUNKED,
    HEAD_BYTES,
    REPLACE,
    DataChunk,
    find_data,
    is_empty,
    is_sound,
    may_be_frames,
    no_sound,
)
from audiojax.errors import InputError

MAX_BYTES = 1 << 30  # for formats that are decoded as a whole
_MAX_HEADER_BYTES = 1 << 20
_SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1,
}  # fmt: skip

Blocks = Iterator[tuple[np.ndarray, int, float | None]]


def piped_blocks(descriptor: int, rate_hz: int | None, seconds: float, *, warn: Warn = lambda sentence: None) -> Blocks:
    """Yields the sound of a pipe, mono, as (i16[t], sampling rate, total seconds according to its header, or None).

    Args:
        descriptor: The file descriptor of the pipe.
        rate_hz: Sampling rate of raw samples, which are 16 bit, little-endian, mono; None is 16,000.
        seconds: Maximum length of a block.
        warn: Called with a sentence if the sound is shorter than its header states.

    Raises:
        InputError: The sound cannot be decoded, or its header states another rate than `rate_hz`.
    """
    pipe = _Pipe(descriptor)
    if not is_sound(_head(pipe)):
        yield from _raw_blocks(pipe, rate_hz or 16_000, seconds)
        return
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        for samples, own_rate_hz, total_seconds in _contained(pipe, file, seconds, warn):
            if rate_hz not in (None, own_rate_hz):
                raise InputError(
                    f"stdin states {own_rate_hz} Hz in its header; leave out --rate {rate_hz} (for raw samples)."
                )
            yield samples, own_rate_hz, total_seconds


class _Pipe:
    """A pipe whose next bytes can be read without consuming them."""

    def __init__(self, descriptor: int):
        self._descriptor, self._kept = descriptor, b""

    def peek(self, num_bytes: int) -> bytes:
        """Returns at least the next `num_bytes`, fewer only at the end, without consuming them."""
        while len(self._kept) < num_bytes and (content := os.read(self._descriptor, num_bytes - len(self._kept))):
            self._kept += content
        return self._kept

    def take(self, num_bytes: int) -> bytes:
        """Consumes and returns 1 to `num_bytes` bytes as soon as they are available; none at the end."""
        if not self._kept:
            return os.read(self._descriptor, num_bytes)
        content, self._kept = self._kept[:num_bytes], self._kept[num_bytes:]
        return content


def _head(pipe: _Pipe) -> bytes:
    """Returns enough of the beginning to distinguish a format from raw samples. Raises InputError for other content."""
    head = pipe.peek(12)
    if may_be_frames(head):
        head = pipe.peek(HEAD_BYTES)
    elif head.startswith((b"version", b"OggS", b"<")):
        head = pipe.peek(64)
    if reason := no_sound(head, "FILE"):
        what, fix = reason
        raise InputError(f"stdin cannot be read as sound ({what}); {'send another' if fix == REPLACE else fix}.")
    return head


def _raw_blocks(pipe: _Pipe, rate_hz: int, seconds: float) -> Blocks:
    for content in _pieces(pipe, 2, max(1, round(seconds * rate_hz)), None):
        yield np.frombuffer(content, "<i2").astype(np.int16), rate_hz, None


def _pieces(pipe: _Pipe, frame_bytes: int, num_frames: int, num_bytes: int | None) -> Iterator[bytes]:
    """Yields whole frames as they arrive, up to `num_bytes` in total or to the end."""
    rest, done = b"", 0
    while content := pipe.take(min(frame_bytes * num_frames, num_bytes - done if num_bytes is not None else MAX_BYTES)):
        done += len(content)
        content = rest + content
        whole = len(content) // frame_bytes * frame_bytes
        rest = content[whole:]
        yield content[:whole]


def _contained(pipe: _Pipe, file: IO[bytes], seconds: float, warn: Warn) -> Blocks:
    """Yields the blocks of one or several concatenated sounds with headers, as from `cat a.wav b.wav`."""
    while is_sound(pipe.peek(12)) or is_sound(pipe.peek(HEAD_BYTES)):
        live = _Live.of(pipe, file)
        if live is None:
            _fill(file, pipe)
            yield from sound_blocks(file.name, seconds, name="stdin", warn=warn)
            return
        try:
            yield from live.blocks(pipe, seconds, warn)
        except InputError as error:
            raise InputError(f"stdin {error}.") from None
        while (tag := pipe.peek(8)) and not is_sound(tag):  # a chunk after the samples
            left = 8 + int.from_bytes(tag[4:8], live.chunk.byteorder)
            while left and (skipped := pipe.take(min(left, HEAD_BYTES))):
                left -= len(skipped)


def _fill(file: IO[bytes], pipe: _Pipe) -> None:
    """Writes the rest of the pipe to a file. Raises InputError if it is longer than MAX_BYTES."""
    file.seek(0)
    file.truncate()
    while content := pipe.take(1 << 16):
        if file.tell() > MAX_BYTES:
            raise InputError(
                f"stdin has more than {MAX_BYTES:,} bytes of a format that is decoded as a whole; send wav instead, "
                "for example with ffmpeg -i INPUT -f wav -"
            )
        file.write(content)


class _Live(NamedTuple):
    """The format of a sound whose samples are decoded as they arrive."""

    chunk: DataChunk
    rate_hz: int
    channels: int
    subtype: str
    endian: str

    @classmethod
    def of(cls, pipe: _Pipe, file: IO[bytes]) -> _Live | None:
        """Returns the format of the sound; None if it is damaged or cannot be decoded as it arrives."""
        chunk = _find_chunk(pipe)
        if chunk is None or len(pipe.peek(chunk.start + 8)) <= chunk.start:
            return None
        if chunk.num_bytes == 0 and is_empty(io.BytesIO(pipe.peek(chunk.start + HEAD_BYTES)), chunk):
            return None
        header, size_field = bytearray(pipe.peek(chunk.start)[: chunk.start]), chunk.size_field(HEAD_BYTES)
        header[chunk.size_at : chunk.size_at + len(size_field)] = size_field
        file.seek(0)
        file.truncate()
        file.write(header + bytes(HEAD_BYTES))
        try:
            with soundfile.SoundFile(file.name) as about:
                if about.subtype not in _SAMPLE_BYTES:
                    return None
                endian = about.endian if about.endian != "FILE" else chunk.byteorder.upper()
                return cls(chunk, about.samplerate, about.channels, about.subtype, endian)
        except soundfile.LibsndfileError:
            return None

    def blocks(self, pipe: _Pipe, seconds: float, warn: Warn) -> Blocks:
        """Yields the samples in blocks; its InputErrors do not name the pipe."""
        check_rate(self.rate_hz)
        left = self.chunk.start
        while left:
            left -= len(pipe.take(left))
        size, levels, done = _SAMPLE_BYTES[self.subtype] * self.channels, Levels(), 0
        num_bytes = None if self.chunk.streamed else self.chunk.num_bytes
        total_seconds = num_bytes / size / self.rate_hz if num_bytes else None
        for content in _pieces(pipe, size, max(1, round(seconds * self.rate_hz)), num_bytes):
            if content:
                block, _ = soundfile.read(
                    io.BytesIO(content), dtype="float32", always_2d=True, format="RAW", subtype=self.subtype,
                    endian=self.endian, samplerate=self.rate_hz, channels=self.channels,
                )  # fmt: skip
                levels.add(block)
                done += len(content)
                yield prepare_clip(block, self.rate_hz, self.rate_hz), self.rate_hz, total_seconds
        if num_bytes and done < num_bytes - num_bytes % size:
            warn(f"stdin has {done:,} of the {num_bytes:,} bytes of samples that its header states")
        elif num_bytes and num_bytes % 2:
            pipe.take(1)  # chunks start at even offsets
        levels.check()


def _find_chunk(pipe: _Pipe) -> DataChunk | None:
    """Returns the position of the samples; None if it is not found."""
    num_bytes = 64
    while num_bytes <= _MAX_HEADER_BYTES:
        head = pipe.peek(num_bytes)
        chunk = find_data(io.BytesIO(head))
        if chunk or len(head) < num_bytes or not head.startswith(CHUNKED):
            return chunk if chunk and chunk.start <= _MAX_HEADER_BYTES else None
        num_bytes *= 2
    return None
