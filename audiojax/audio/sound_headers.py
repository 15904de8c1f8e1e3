"""Identifies file formats by their first bytes and locates the samples in chunk-based formats."""

import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

ByteOrder = Literal["little", "big"]
HEAD_BYTES = 8192  # enough for three frames of MP3 or AAC
STREAM_BYTES = 0x7FFF_0000  # programs that write to a pipe use a size of at least this, or 0

CHUNKED = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b".snd", b"dns.")  # the formats of `find_data`
_CONTAINERS = (
    *CHUNKED, b"riff", b"fLaC", b"OggS", b"ID3", b"NIST_1A", b"Creative", b"2BIT", b"PVF1", b" paf", b"fap ",
    b"MATLAB 5", b"ALawSoun", b"Extended", *(b"d\xa3" + bytes([n, 0]) for n in range(1, 5)),
    *(bytes([0, n]) + b"\xa3d" for n in range(1, 5)),
)  # fmt: skip
_UNSUPPORTED = (  # (offset, bytes there, format): ffmpeg converts it
    (4, b"ftyp", "MPEG-4 audio"),
    (4, b"moov", "MPEG-4 audio"),
    (4, b"mdat", "MPEG-4 audio"),
    (0, b"\x1a\x45\xdf\xa3", "WebM (Matroska) audio"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media audio"),
    (0, b"#!AMR", "AMR audio"),
    (0, b"#!SILK", "SILK audio"),
    (1, b"#!SILK", "SILK audio"),
    (28, b"Speex   ", "Speex audio"),
    (0, b"wvpk", "WavPack audio"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA1", "True Audio"),
    (0, b"MPCK", "Musepack audio"),
    (0, b"MP+", "Musepack audio"),
    (0, b".RMF", "RealAudio"),
    (0, b".ra\xfd", "RealAudio"),
    (0, b"DSD ", "DSD audio"),
    (0, b"FRM8", "DSD audio"),
    (0, b"FLV", "Flash video"),
    (8, b"AVI ", "AVI video"),
)
REPLACE = "replace or remove the file"
_NO_SOUND = (  # (first bytes, what it is, what to do)
    (b"version https://git-lfs", "it is a Git LFS pointer and not the file itself", "run git lfs pull"),
    (b"\0\x05\x16\x07", "it is an AppleDouble file of macOS, without sound", "remove it"),
    (b"PK\x03\x04", "it is a zip archive", "unpack it"),
    (b"\x1f\x8b\x08", "it is a gzip archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive", "unpack it"),
    (b"Rar!", "it is a RAR archive", "unpack it"),
    (b"MThd", "it is a MIDI file, which has notes and no sound", "render it to a wav file"),
    (b"\x93NUMPY", "it is a numpy array", "write it as a wav file with soundfile.write"),
    (b"%PDF", "it is a PDF document", REPLACE),
    (b"\x89PNG", "it is a picture", REPLACE),
    (b"\xff\xd8\xff", "it is a picture", REPLACE),
)
_HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")
_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBITS = {  # by (MPEG 1, layer)
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): _LOW,
    (False, 3): _LOW,
}


class DataChunk(NamedTuple):
    """The position of the samples in a sound file, and of the header field with their size, in bytes from its start.

    The field of `size_width` bytes at `size_at` states the size of the samples, which begin at `start` and have
    `num_bytes` bytes according to that field.
    """

    size_at: int
    size_width: int
    byteorder: ByteOrder
    start: int
    num_bytes: int

    def size_field(self, num_bytes: int) -> bytes:
        """Returns the content of the header's size field if the samples have `num_bytes` bytes."""
        inside = (
            self.start - self.size_at - self.size_width if self.size_at > 8 else 0
        )  # CAF and AIFF include a preface
        largest = (1 << 8 * self.size_width) - 1
        return min(num_bytes + inside, largest).to_bytes(self.size_width, self.byteorder)

    @property
    def streamed(self) -> bool:
        """Returns whether the size in the header is a placeholder, as in sound that a program writes to a pipe."""
        return not 0 < self.num_bytes < STREAM_BYTES


def find_data(file: BinaryIO) -> DataChunk | None:
    """Returns the position of the samples in a WAV, RF64, AIFF, AU or CAF file; None if it is not found."""
    file.seek(0)
    kind = file.read(4)
    order: ByteOrder
    if kind in (b".snd", b"dns."):
        order = "big" if kind == b".snd" else "little"
        start, size = (int.from_bytes(file.read(4), order) for _ in range(2))
        return DataChunk(8, 4, order, start, size)
    order = "little" if kind in (b"RIFF", b"RF64") else "big"
    if kind not in CHUNKED:
        return None
    width, at = (8, 8) if kind == b"caff" else (4, 12)
    preface = {b"caff": 4, b"FORM": 8}.get(kind, 0)
    while True:
        file.seek(at)
        tag, size_bytes = file.read(4), file.read(width)
        if len(size_bytes) < width:
            return None
        size, start = int.from_bytes(size_bytes, order), at + 4 + width
        if tag in (b"data", b"SSND"):
            return DataChunk(at + 4, width, order, start + preface, max(size - preface, 0))
        at = start + size + (size % 2 if width == 4 else 0)
        if at >= 1 << 62:  # damaged: beyond any file
            return None


def is_empty(file: BinaryIO, chunk: DataChunk) -> bool:
    """Returns whether a size of 0 in the header of `file` means that it has no samples, and is not a placeholder.

    This is the case if nothing or another valid chunk follows. For any other size, it returns False.
    """
    there = file.seek(0, io.SEEK_END) - chunk.start
    file.seek(chunk.start)
    tag, size = file.read(4), int.from_bytes(file.read(4), chunk.byteorder)
    named = tag.isascii() and tag.decode().isprintable()
    return chunk.num_bytes == 0 and (there <= 0 or (named and 8 <= 8 + size <= there))


def nist_bytes(head: bytes) -> int | None:
    """Returns the file size in bytes that a NIST SPHERE header states.

    `head` is the first bytes of a file. Returns None if it has another format, is compressed, or states no size.
    """
    keys = (rb"sample_count", rb"channel_count", rb"sample_n_bytes")
    found = [re.search(rb"^" + key + rb" -i (\d{1,12})\s*$", head, re.MULTILINE) for key in keys]
    if not head.startswith(b"NIST_1A\n") or b"shorten" in head[:1024] or not all(found):
        return None
    counts = [int(match[1]) for match in found if match]
    return int(head[8:16] or b"0") + counts[0] * counts[1] * counts[2] if head[8:16].strip().isdigit() else None


def is_sound(head: bytes) -> bool:
    """Returns whether `head`, the first bytes of a file, belongs to a sound format with a header, not to raw samples.

    MP3 has no magic number: raw samples near zero may look like one of its frames, but not like three in sequence.
    """
    return head.startswith(_CONTAINERS) or _frames_follow(head, _mpeg_frame_bytes)


def may_be_frames(head: bytes) -> bool:
    """Returns whether `head` may be the first bytes of MP3 or AAC, and is too short to exclude raw samples."""
    return bool(_mpeg_frame_bytes(head) or _adts_frame_bytes(head)) and len(head) < HEAD_BYTES


def no_sound(head: bytes, name: str) -> tuple[str, str] | None:
    """Returns (what the file is, what to do) for a file that cannot be read as sound; None if it may be readable.

    `head` is the first bytes of the file.
    """
    if not head:
        return "it is empty, 0 bytes", REPLACE
    kinds = [kind for where, magic, kind in _UNSUPPORTED if head[where:].startswith(magic)]
    if kinds or _frames_follow(head, _adts_frame_bytes):
        return f"{[*kinds, 'AAC audio'][0]} is not supported", conversion(name)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML):
        return "it is an HTML page", "download the file itself"
    return next(((what, fix) for magic, what, fix in _NO_SOUND if head.startswith(magic)), None)


def conversion(name: str) -> str:
    """Returns advice, with an ffmpeg command, to convert the file `name` to WAV."""
    wav = Path(name).with_suffix(".wav")
    out = wav if str(wav) != name else wav.with_stem(f"{wav.stem}-converted")
    return f"convert it: ffmpeg -i {shlex.quote(name)} {shlex.quote(str(out))}"


def _frames_follow(head: bytes, frame_bytes: Callable[[bytes], int]) -> bool:
    """Returns whether `head` starts with three frames in sequence, or consists of fewer frames."""
    at = 0
    for _ in range(3):
        size = frame_bytes(head[at : at + 8])
        if not size:
            return at > 0 and at == len(head)
        at += size
    return True


def _mpeg_frame_bytes(header: bytes) -> int:
    """Returns the size of the MPEG audio frame (layers 1 to 3) with this header; 0 for none."""
    word = int.from_bytes(header[:4], "big")
    version, layer, kbits, rate = word >> 19 & 3, 4 - (word >> 17 & 3), word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return 0
    rate_hz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits, padding = 1000 * _KBITS[version == 3, layer][kbits - 1], word >> 9 & 1
    if layer == 1:
        return 4 * (12 * bits // rate_hz + padding)
    return (72 if layer == 3 and version != 3 else 144) * bits // rate_hz + padding


def _adts_frame_bytes(header: bytes) -> int:
    """Returns the size of the AAC frame with this header; 0 for none."""
    word = int.from_bytes(header[:7].ljust(7, b"\0"), "big")
    size = word >> 13 & 0x1FFF
    return size if word >> 44 == 0xFFF and not word >> 41 & 3 and (word >> 34 & 15) < 13 and size >= 7 else 0
