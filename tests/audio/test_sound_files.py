"""Sound files and pipes of every format, and what is wrong with them: read whole or in pieces it is the same sound."""

import io
import os
import struct
import threading

import numpy as np
import pytest
import soundfile
from conftest import tone

from audiojax.audio import sound_files
from audiojax.audio.piped_sound import piped_blocks
from audiojax.audio.signal import prepare_clip
from audiojax.errors import InputError

DATA_TAGS = {"WAV": b"data", "WAVEX": b"data", "W64": b"data", "AIFF": b"SSND", "CAF": b"data"}


def words(num_seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    """f32[t, channels]: tones between pauses, in which an MP3 encoder saves bits for the next tone."""
    silence = np.zeros(rate_hz // 10, np.float32)
    one = np.concatenate([np.r_[silence, tone(digit, 1, 0, rate_hz)] for digit in range(10)])
    sound = np.resize(one, round(num_seconds * rate_hz))
    return np.stack([np.roll(sound, 50 * channel) for channel in range(channels)], axis=1)


def content(sound=None, rate_hz=8000, **how) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, words(0.5, rate_hz) if sound is None else sound, rate_hz, **how)
    return out.getvalue()


def with_size(of: bytes, kind: str, size: int) -> bytes:
    """A file with another number of bytes in the header of its samples."""
    data = bytearray(of)
    at = 8 if kind == "AU" else data.rindex(DATA_TAGS[kind]) + (16 if kind == "W64" else 4)
    width = 8 if kind in ("W64", "CAF") else 4
    order = "little" if data[:4] in (b"RIFF", b"riff", b"dns.") else "big"
    data[at : at + width] = size.to_bytes(width, order)
    return bytes(data)


def read(path, data: bytes, **how) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    path.write_bytes(data)
    return sound_files.read_sound(path, 8000, warn=warnings.append, **how), warnings


def through_a_pipe(data: bytes, rate_hz=None, piece=777) -> tuple[np.ndarray, set[int], list[str]]:
    """(samples, rates, warnings) of what comes through a pipe, a few bytes at a time."""
    side, other = os.pipe()
    warnings: list[str] = []

    def send():
        with open(other, "wb", buffering=0) as out:
            try:
                for start in range(0, len(data), piece):
                    out.write(data[start : start + piece])
            except BrokenPipeError:
                pass

    sender = threading.Thread(target=send)
    sender.start()
    try:
        blocks = list(piped_blocks(side, rate_hz, 0.1, warn=warnings.append))
    finally:
        os.close(side)
        sender.join()
    return np.concatenate([block for block, _, _ in blocks]), {rate for _, rate, _ in blocks}, warnings


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "how, rate_hz",
    [
        ({"format": "MP3"}, 48000),
        ({"format": "MP3"}, 44100),
        ({"format": "MP3"}, 16000),
        ({"format": "OGG", "subtype": "OPUS"}, 48000),
        ({"format": "OGG", "subtype": "VORBIS"}, 44100),
        ({"format": "FLAC"}, 48000),
        ({"format": "WAV", "subtype": "MS_ADPCM"}, 16000),
    ],
)
def test_a_codec_with_memory_is_read_in_blocks_as_it_is_decoded_at_once(tmp_path, how, rate_hz, channels):
    path = tmp_path / "a.sound"
    path.write_bytes(content(words(4, rate_hz, channels), rate_hz, **how))  # several blocks of read_sound
    with soundfile.SoundFile(path) as file:
        whole = prepare_clip(file.read(dtype="float32", always_2d=True), rate_hz, rate_hz)
    np.testing.assert_array_equal(sound_files.read_sound(path, rate_hz), whole)
    for seconds in (0.1, 0.02):
        blocks = [block for block, _, _ in sound_files.sound_blocks(path, seconds)]
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


KINDS = [
    ("WAV", "PCM_16", "LITTLE"), ("WAV", "PCM_24", "BIG"), ("WAVEX", "FLOAT", "FILE"), ("WAV", "IMA_ADPCM", "FILE"),
    ("AIFF", "PCM_16", "FILE"), ("AIFF", "PCM_16", "LITTLE"), ("AU", "PCM_16", "FILE"), ("AU", "ULAW", "LITTLE"),
    ("CAF", "PCM_16", "FILE"), ("W64", "PCM_16", "FILE"),
]  # fmt: skip


@pytest.mark.parametrize("kind, subtype, endian", KINDS)
def test_a_header_with_the_size_of_a_stream_is_read_to_the_end(tmp_path, kind, subtype, endian):
    good = content(format=kind, subtype=subtype, endian=endian)
    whole, warnings = read(tmp_path / "a", good)
    assert warnings == [] and len(whole) >= 4000
    for size in (0, 0x7FFFF000, 0x7FFFFF00, 0x7FFFFFFF - 36, 0x80000000, 0xFFFFFFFF - 36, 0xFFFFFFFF):
        clip, warnings = read(tmp_path / "a", with_size(good, kind, size))
        np.testing.assert_array_equal(clip, whole)
        assert warnings == [], hex(size)


@pytest.mark.parametrize("kind, subtype, endian", KINDS)
def test_what_is_there_is_used_where_a_header_promises_more(tmp_path, kind, subtype, endian):
    sound = words(0.5, 8000)
    good = content(sound, format=kind, subtype=subtype, endian=endian)
    whole, _ = read(tmp_path / "a", good)
    clip, warnings = read(tmp_path / "a", good[: len(good) * 3 // 4])
    assert 0.3 * len(whole) < len(clip) < 0.8 * len(whole) and len(warnings) == 1 and str(tmp_path) in warnings[0]
    np.testing.assert_array_equal(clip[:2000], whole[:2000])


@pytest.mark.parametrize("how", [{"format": "FLAC"}, {"format": "MP3"}, {"format": "RF64"}, {"format": "NIST"}])
def test_a_codec_is_decoded_as_far_as_it_goes(tmp_path, how):
    good = content(words(3, 8000), **how)
    whole, _ = read(tmp_path / "a", good)
    clip, warnings = read(tmp_path / "a", good[: len(good) * 3 // 4])
    assert 0.4 * len(whole) < len(clip) < 0.9 * len(whole) and len(warnings) == 1
    np.testing.assert_array_equal(clip[:4000], whole[:4000])


def test_nothing_left_is_an_error_and_an_empty_sound_with_tags_is_empty(tmp_path):
    good = content(format="WAV")
    for bad in (good[:44], with_size(good[:44], "WAV", 0), with_size(good[:44], "WAV", 0) + b"LIST\4\0\0\0INFO"):
        with pytest.raises(InputError, match="holds no samples"):
            read(tmp_path / "a", bad)
    tagged, warnings = read(tmp_path / "a.flac", content(format="FLAC") + b"TAG" + bytes(125))
    np.testing.assert_array_equal(tagged, read(tmp_path / "a.flac", content(format="FLAC"))[0])
    assert warnings == []  # a tag behind the last frame is no loss


@pytest.mark.parametrize("rate_hz", [0, 1, 999, 768_001, 2**31 - 1, 2**32 - 1])
def test_a_header_with_an_absurd_rate_is_one_sentence(tmp_path, rate_hz):
    data = bytearray(content(format="WAV"))
    data[24:28] = struct.pack("<I", rate_hz)
    with pytest.raises(InputError, match=str(tmp_path)):
        read(tmp_path / "a.wav", bytes(data))


LIVE = [kind for kind in KINDS if kind[0] != "W64" and "ADPCM" not in kind[1]]
WHOLE = [("FLAC", "PCM_16", "FILE"), ("OGG", "VORBIS", "FILE"), ("MP3", "MPEG_LAYER_III", "FILE")]


@pytest.mark.parametrize("kind, subtype, endian", [*KINDS, *WHOLE, ("RF64", "PCM_16", "FILE")])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_pipe_gives_what_the_file_gives(tmp_path, kind, subtype, endian, channels):
    data = content(words(1, 22050, channels), 22050, format=kind, subtype=subtype, endian=endian)
    (tmp_path / "a").write_bytes(data)
    expected = np.concatenate([block for block, _, _ in sound_files.sound_blocks(tmp_path / "a", 0.1)])
    samples, rates, warnings = through_a_pipe(data)
    assert rates == {22050} and warnings == []
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("kind, subtype, endian", LIVE)
def test_a_header_of_a_live_pipe_is_followed_by_samples_at_once(kind, subtype, endian):
    """Nothing waits for the end, and a size that means a stream is no size."""
    data = content(words(4, 16000), 16000, format=kind, subtype=subtype, endian=endian)
    for size in (0, 0x7FFFF000, 0xFFFFFFFF):
        side, other = os.pipe()
        os.write(other, with_size(data, kind, size)[:20_000])
        blocks = piped_blocks(side, None, 0.1)
        assert sum(len(next(blocks)[0]) for _ in range(2)) > 1000
        os.close(other)
        os.close(side)


@pytest.mark.parametrize("kind, at, size", [("CAF", 12, b"\x7f" + bytes(7)), ("AU", 4, b"\xff\xff\xff\0")])
def test_a_damaged_header_in_a_pipe_is_a_sentence(kind, at, size):
    """The size of the first chunk, and the place of the samples."""
    data = bytearray(content(format=kind))
    data[at : at + len(size)] = size
    with pytest.raises(InputError, match="stdin"):
        through_a_pipe(bytes(data))


def test_several_sounds_in_a_pipe_follow_one_another(tmp_path):
    first, second = content(words(0.5, 8000), format="WAV"), content(words(0.3, 16000), 16000, format="WAV")
    tag = b"LIST" + struct.pack("<I", 4) + b"INFO"
    samples, rates, _ = through_a_pipe(first + tag + second + tag)
    assert rates == {8000, 16000} and len(samples) == 4000 + 4800


def test_a_cut_pipe_is_a_warning_and_an_empty_one_a_sentence():
    data = content(format="WAV")
    for cut in (data[:-1000], content(words(3, 8000), format="FLAC")[:-200]):
        assert len(through_a_pipe(cut)[2]) == 1
    for bad in (b"", data[:44], b"<html>", b"version https://git-lfs.github.com/spec/v1\n", b"\0\0\0\x20ftypM4A "):
        with pytest.raises(InputError, match="stdin") as error:
            through_a_pipe(bad)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("first", [-1, -1025, -7169, 0x4952, -3599])  # as FF FF, FF FB, FF E3, "RI" and FF F1 begin
def test_raw_samples_that_begin_like_a_header_are_raw(first):
    samples = np.r_[np.int16(first), np.arange(-5000, 5000, dtype=np.int16)].astype("<i2")
    samples[1:40] = -28_528  # 90 90, a bitrate and a sample rate that exist
    heard, rates, _ = through_a_pipe(samples.tobytes(), 11025)
    assert rates == {11025}
    np.testing.assert_array_equal(heard, samples)


def test_a_rate_beside_a_header_agrees_with_it_or_is_refused():
    assert through_a_pipe(content(rate_hz=11025, format="WAV"), 11025)[1] == {11025}
    for kind in ("WAV", "FLAC"):
        with pytest.raises(InputError, match=r"\b8000 Hz.*--rate 16000"):
            through_a_pipe(content(format=kind), 16000)


def test_mp3_with_and_without_a_tag_is_recognised():
    data = content(words(1, 44100), 44100, format="MP3")
    tag = b"ID3\3\0\0\0\0\1\0" + bytes(128)
    for piped in (data, tag + data):
        assert through_a_pipe(piped)[1] == {44100}


def opposite(share=1.0):
    sound = words(0.5, 8000)
    return np.concatenate([sound, -share * sound], axis=1)


@pytest.mark.parametrize(
    "sound, how, fault",
    [
        (32767 * words(0.5, 8000), {"subtype": "FLOAT"}, "1 is full scale"),
        (127 * words(0.5, 8000, 2), {"subtype": "DOUBLE"}, "1 is full scale"),
        (opposite(), {"subtype": "PCM_16"}, "cancel"),
        (opposite(0.999) + 0.1, {"subtype": "FLOAT"}, "cancel"),
    ],
)
def test_samples_that_cannot_be_meant_are_a_sentence(tmp_path, sound, how, fault):
    data = content(sound, format="WAV", **how)
    for use in (
        lambda: read(tmp_path / "a.wav", data),
        lambda: list(sound_files.sound_blocks(tmp_path / "a.wav", 0.1)),
        lambda: through_a_pipe(data),
    ):
        with pytest.raises(InputError, match=fault):
            use()


def test_one_silent_channel_and_loud_floats_are_usable(tmp_path):
    sound = words(0.5, 8000, 2)
    sound[:, 1] = 0
    assert np.abs(read(tmp_path / "a.wav", content(sound, format="WAV"))[0]).max() > 3000
    assert np.abs(read(tmp_path / "a.wav", content(10 * sound, format="WAV", subtype="FLOAT"))[0]).max() > 30_000
    assert np.abs(read(tmp_path / "a.wav", content(opposite(0.8), format="WAV"))[0]).max() > 500


@pytest.mark.parametrize("level", [0.0, 1 / 32768, 0.25])
def test_a_silent_sound_is_answered_and_not_learnt(tmp_path, level):
    """Silence, the last bit, and a constant."""
    sound = np.full((4000, 1), level)
    assert len(read(tmp_path / "a.wav", content(sound, format="WAV"))[0]) == 4000
    with pytest.raises(InputError, match="silent"):
        read(tmp_path / "a.wav", content(sound, 44100, format="WAV"), refuse_silence=True)


@pytest.mark.parametrize(
    "name, data, advice",
    [
        (
            "phone.m4a",
            b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(300),
            "MPEG-4 audio is not supp.*ffmpeg -i .*phone.m4a",
        ),
        ("a.wav", b"\0\0\0\x18ftypmp42" + bytes(300), "MPEG-4.*ffmpeg -i .*a.wav .*a-converted.wav"),
        ("b.webm", b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01" + bytes(300), "WebM.*ffmpeg -i .*b.webm .*b.wav"),
        ("c.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(300), "Windows Media.*ffmpeg"),
        ("d.amr", b"#!AMR\n" + bytes(300), "AMR.*ffmpeg"),
        ("e.aac", 4 * (b"\xff\xf1\x50\x80\x04\x1f\xfc" + bytes(25)), "AAC.*ffmpeg"),
        ("lfs.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS.*git lfs pull"),
        ("lfs.mp3", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "LFS.*git lfs pull"),
        ("page.wav", b"\n <!DOCTYPE html><html>404</html>", "HTML page.*download"),
        ("page.flac", b"<HTML><body>", "HTML page.*download"),
        ("empty.wav", b"", "empty"),
        ("empty.mp3", b"", "empty"),
        ("x.raw", bytes(1000), "no header.*ffmpeg -f s16le"),
        ("x.zip", b"PK\x03\x04" + bytes(300), "zip.*unpack"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(tmp_path, name, data, advice):
    with pytest.raises(InputError, match=advice) as error:
        read(tmp_path / name, data)
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)
