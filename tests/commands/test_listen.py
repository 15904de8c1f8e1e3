"""The command that listens: words as they are said, from files, stdin and a microphone, on a screen and in a pipe."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import soundfile
from conftest import ROOT, tone
from toy_listener import ToyListener
from toy_recognizer import Recognizer

from audiojax import listen
from audiojax.audio import piped_sound, sound_files
from audiojax.synthesis.phonemes import DIGITS


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(listen, "Recognizer", Recognizer)


def spoken(digits, rate_hz, *, end_seconds=0.3) -> np.ndarray:
    """f32[t]: the tones of `digits`, with silence between them and at the end."""
    silence, end = np.zeros(round(0.3 * rate_hz)), np.zeros(round(end_seconds * rate_hz))
    parts = [part for digit in digits for part in (silence, tone(digit, 1, 0, rate_hz))]
    return np.concatenate([*parts, end]).astype(np.float32)


def write(path, digits, rate_hz, *, channels=1, **how):
    sound = spoken(digits, rate_hz)
    soundfile.write(path, np.stack([sound] * channels, 1), rate_hz, **how)
    return str(path)


def labels(out: str) -> list[int]:
    """The digits of the plain lines."""
    return [DIGITS.index(word) for word in re.findall(r"^ +\d+\.\d\d s  (\w+) ", out, re.MULTILINE)]


def pcm(sound) -> bytes:
    return (sound * 32767).astype("<i2").tobytes()


def start(*args, **popen) -> subprocess.Popen:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **popen.pop("env", {})}
    streams["env"] = environment
    return subprocess.Popen([sys.executable, ROOT / "tests/toy_recognizer.py", *args], cwd=ROOT, bufsize=0, **streams)


def read_until(fd: int, wanted: bytes) -> bytes:
    """What comes, up to `wanted`; everything for b""."""
    said, deadline = b"", time.monotonic() + 60
    while not wanted or wanted not in said:
        there = select.select([fd], [], [], 60)[0] and time.monotonic() < deadline
        assert there, f"waited in vain for {wanted!r} after {said[-2000:]!r}"
        try:
            content = os.read(fd, 65_536)
        except OSError:  # a terminal whose other side is closed
            content = b""
        if not content:
            break
        said += content
    assert wanted in said, said
    return said


def test_each_file_is_heard_afresh_whatever_its_format(run_cli, tmp_path):
    files = [
        write(tmp_path / "a.wav", [4, 7, 1], 44100, channels=2, subtype="FLOAT"),
        write(tmp_path / "b.flac", [0, 9], 16000),
        write(tmp_path / "c.ogg", [], 48000),
        write(tmp_path / "d.aiff", [3], 8000),
    ]
    code, out, err = run_cli("listen", *files)
    assert (code, err) == (0, "")
    assert re.findall(r"^(/.*):$", out, re.MULTILINE) == files
    parts = re.split(r"^/.*:\n", out, flags=re.MULTILINE)[1:]
    assert [labels(part) for part in parts] == [[4, 7, 1], [0, 9], [], [3]]
    assert run_cli("listen", files[0])[1] == parts[0]  # one alone needs no name
    code, out, _ = run_cli("listen", "--json", *files)
    events = [json.loads(line) for line in out.splitlines()]
    assert [(event["file"], event["digit"], event["label"]) for event in events] == [
        (file, digit, DIGITS[digit])
        for file, digits in zip(files, ([4, 7, 1], [0, 9], [], [3]), strict=True)
        for digit in digits
    ]
    for event in events:
        assert event.keys() == {"file", "digit", *listen.Event._fields}
        assert 0 < event["start_seconds"] < event["end_seconds"] < event["emitted_seconds"] < 2
    assert events[3]["start_seconds"] == pytest.approx(0.3, abs=0.03)


def test_a_sensitivity_is_a_threshold_and_is_told_with_its_rates(run_cli, tmp_path):
    path = write(tmp_path / "a.wav", [4, 7], 8000)
    found = {name: run_cli("listen", path, "--sensitivity", name) for name in ("low", "high")}
    assert [labels(out) for _, out, _ in found.values()] == [[], [4, 7]] and {code for code, *_ in found.values()} == {
        0
    }
    assert re.search(r"low, threshold 0\.99: 1 false events .* 90\.0%", found["low"][2])


def test_a_run_without_operating_points_offers_its_configs_threshold(run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(ToyListener, "points", {})
    path = write(tmp_path / "a.wav", [4], 8000)
    code, out, err = run_cli("listen", path, "--sensitivity=low")
    assert (code, out) == (1, "") and re.search(r"operating_points\.json.* 0\.5", err) and len(err.splitlines()) == 1
    assert labels(run_cli("listen", path)[1]) == [4]


def test_what_ends_with_the_file_is_said_too(run_cli, tmp_path):
    soundfile.write(tmp_path / "a.wav", spoken([5, 2], 8000, end_seconds=0), 8000)
    _, out, _ = run_cli("listen", tmp_path / "a.wav")
    assert labels(out) == [5, 2]


def test_bad_files_are_a_sentence_each_and_the_others_are_heard(run_cli, tmp_path):
    good = write(tmp_path / "good.wav", [6], 8000)
    (tmp_path / "text.wav").write_text("no sound")
    write(tmp_path / "cut.wav", [1, 2], 8000)
    os.truncate(tmp_path / "cut.wav", 44)
    broken = np.append(spoken([8], 8000), np.full(9, np.nan, np.float32))
    soundfile.write(tmp_path / "late.wav", broken, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", broken[:0], 8000)
    soundfile.write(tmp_path / "slow.wav", broken[:900], 99)
    names = ["missing.wav", "text.wav", "cut.wav", "empty.wav", "slow.wav", "late.wav"]
    code, out, err = run_cli("listen", *(tmp_path / name for name in names), good)
    assert code == 1 and labels(out) == [8, 6]  # what was there before the damage was said
    faults = [
        "is not a file",
        "cannot be read as sound",
        "holds no samples",
        "holds no samples",
        "sample rate is 99 Hz",
    ]
    sentences = err.splitlines()
    for sentence, name, fault in zip(sentences, names, [*faults, "not finite"], strict=True):
        assert sentence.startswith("audiojax: ") and str(tmp_path / name) in sentence and fault in sentence


@pytest.mark.parametrize("seconds", [0.001, 0.0123, 5])
def test_blocks_are_the_file_in_pieces(tmp_path, seconds):
    path = write(tmp_path / "a.wav", [4], 11025, channels=2)
    blocks = list(sound_files.sound_blocks(path, seconds))
    np.testing.assert_array_equal(
        np.concatenate([block for block, _, _ in blocks]), sound_files.read_sound(path, 11025)
    )
    size = max(1, round(seconds * 11025))
    assert {len(block) for block, _, _ in blocks[:-1]} <= {size} and 0 < len(blocks[-1][0]) <= size
    assert {(rate_hz, total) for _, rate_hz, total in blocks} == {(11025, soundfile.info(path).duration)}


def test_a_file_without_end_in_its_header_is_heard(tmp_path, run_cli):
    path = write(tmp_path / "a.wav", [4, 2], 8000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data")
    content[at + 4 : at + 8] = content[4:8] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    assert labels(run_cli("listen", path)[1]) == [4, 2]


@pytest.mark.parametrize(
    "args, sentence",
    [
        ([], "or --mic"),
        (["--mic", "a.wav"], "or --mic"),
        (["--rate=8000", "a.wav"], "--rate 8000 is for samples on stdin"),
        (["--rate=0", "-"], "--rate is 0"),
        (["--rate=1000000000000", "-"], "--rate is 1000000000000"),
        (["--rate=999", "-"], "--rate is 999"),
    ],
)
def test_what_cannot_be_heard_is_refused_at_once(run_cli, monkeypatch, args, sentence):
    monkeypatch.delattr(listen, "Recognizer")
    code, out, err = run_cli("listen", *args)
    assert (code, out) == (1, "") and sentence in err and len(err.splitlines()) == 1


def test_words_on_stdin_are_said_while_it_is_open():
    process = start("-", "--json", "--rate=8000")
    process.stdin.write(pcm(spoken([4], 8000, end_seconds=0.1)))
    first = json.loads(read_until(process.stdout.fileno(), b"\n"))
    assert (first["file"], first["digit"]) == ("stdin", 4)
    process.stdin.write(pcm(spoken([7], 8000, end_seconds=0)))
    process.stdin.close()
    rest = json.loads(process.stdout.read())
    assert rest["digit"] == 7 and rest["start_seconds"] > first["emitted_seconds"]
    assert process.wait(60) == 0 and process.stderr.read() == b""


@pytest.mark.parametrize("how", [{"format": "WAV"}, {"format": "FLAC"}, {"format": "WAV", "subtype": "FLOAT"}])
@pytest.mark.slow
def test_a_file_on_stdin_is_heard_at_its_own_rate(tmp_path, how):
    path = write(tmp_path / "a.sound", [4, 7, 1], 44100, channels=2, **how)
    with open(path, "rb") as file:
        process = start("-", stdin=file)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"") and labels(out.decode()) == [4, 7, 1]


@pytest.mark.slow
def test_a_live_wav_on_stdin_is_heard_while_it_is_open(tmp_path):
    path = write(tmp_path / "a.wav", [4, 7], 8000, channels=2)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    middle = len(content) // 2
    process = start("-", "--json")
    process.stdin.write(content[:middle])
    assert json.loads(read_until(process.stdout.fileno(), b"\n"))["digit"] == 4
    process.stdin.write(content[middle:])
    process.stdin.close()
    assert json.loads(process.stdout.read())["digit"] == 7 and path
    assert process.wait(60) == 0 and process.stderr.read() == b""


def test_files_shorter_than_their_headers_are_one_line(run_cli, tmp_path):
    files = [write(tmp_path / f"{name}.wav", [4, 7, 1], 8000) for name in "abc"]
    for path in files[:2]:
        os.truncate(path, os.path.getsize(path) - 100)
    code, out, err = run_cli("listen", *files)
    assert code == 0 and labels(out) == [4, 7, 1] * 3
    assert len(err.splitlines()) == 1 and "2 of 3 files" in err and "a.wav has" in err


def test_samples_on_stdin_are_read_as_they_come_even_by_halves():
    side, other = os.pipe()
    blocks, samples = piped_sound.piped_blocks(side, 8000, 0.1), np.arange(-500, 500, dtype="<i2")
    content, heard = samples.tobytes() + b"x", []
    for start in range(0, len(content), 333):  # an odd number: every other piece begins within a sample
        os.write(other, content[start : start + 333])
        heard.append(next(blocks)[0])
    os.close(other)
    assert list(blocks) == [] and heard[0].dtype == np.int16
    np.testing.assert_array_equal(np.concatenate(heard), samples)
    os.close(side)


@pytest.mark.parametrize("number, options", [(signal.SIGINT, ()), (signal.SIGTERM, ("--json",))])
@pytest.mark.slow
def test_an_interrupt_says_what_was_heard(number, options):
    process = start("-", *options)
    process.stdin.write(pcm(spoken([4, 7, 1], 16000, end_seconds=0.1)))
    read_until(process.stdout.fileno(), b"one")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    summary = err if options else out.splitlines(keepends=True)[-1]
    assert summary == b"recognised: 4 7 1\n" and (options or err == b"")


def on_a_terminal(*args, **popen) -> tuple[subprocess.Popen, int]:
    terminal, side = pty.openpty()
    process = start(*args, **{stream: side for stream in popen.pop("on")}, **popen)
    os.close(side)
    return process, terminal


def test_a_screen_shows_level_guess_and_large_digits_and_is_left_tidy():
    process, terminal = on_a_terminal("-", on=("stdout", "stderr"), env={"NO_COLOR": "1"})
    shown = read_until(terminal, b"no word just now").decode()
    process.stdin.write(pcm(spoken([4, 7], 16000, end_seconds=0.1)))
    shown += read_until(terminal, "┗━┫    ┃".encode()).decode()
    process.stdin.write(pcm(spoken([9], 16000, end_seconds=0.05)))  # a word that the ear is not yet sure of
    shown += read_until(terminal, b"three 100%").decode()
    process.send_signal(signal.SIGINT)
    shown += read_until(terminal, b"").decode()
    assert process.wait(60) == 130 and "Traceback" not in shown
    assert labels(re.sub(r"(\x1b\[[\d?;]*[a-zA-Z]|\r)+", "\n", shown)) == [4, 7]
    assert "█" in shown and " dB" in shown and "stdin, 0.0 s" in shown
    assert not re.search(r"\x1b\[[\d;]*\b3\d\b[\d;]*m", shown)  # no colour
    assert "\x1b[?25l" in shown and shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    last = shown[shown.rindex("\x1b[2K") :]  # since it was last drawn anew
    assert "╻ ╻  ╺━┓" in last and last.endswith("recognised: 4 7\r\n") and " dB" not in last


@pytest.mark.slow
def test_a_long_file_has_a_bar_on_stderr_and_its_words_on_stdout(tmp_path):
    path = write(tmp_path / "a.flac", [4, 7] * 40, 8000)
    process, terminal = on_a_terminal(path, "--json", on=("stderr",))
    bar = read_until(terminal, b"").decode()
    out = process.stdout.read()
    assert process.wait(60) == 0 and [json.loads(line)["digit"] for line in out.splitlines()] == [4, 7] * 40
    assert "a.flac" in bar and re.search(r"\d+/\d+", bar) and "digit" not in bar


def test_stdin_that_is_a_terminal_is_refused(run_cli, monkeypatch):
    terminal, side = pty.openpty()
    monkeypatch.setattr(listen, "_STDIN", side)
    code, out, err = run_cli("listen", "-")
    assert (code, out) == (1, "") and "stdin is a terminal" in err
    os.close(terminal)
    os.close(side)


def test_large_digits_fit_the_width_and_other_words_are_words():
    for width in (1, 4, 24, 80):
        rows = [text for text, _ in listen._large(DIGITS * 3, width)]
        assert len(rows) == 3 and len({len(row) for row in rows}) == 1 and 3 <= len(rows[0]) <= max(3, width)
    drawn = {"".join(text for text, _ in listen._large([digit], 80)) for digit in DIGITS}
    assert len(drawn) == 10 and listen._large([], 80) == []
    assert listen._large(["up", "down", "nine"], 9) == [("down nine", "bold cyan")]


class _Microphone:
    """As much of the package sounddevice as is used."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, sound, rate_hz):
        self._sound, self._rate_hz = (sound * 32767).astype(np.int16), rate_hz

    def query_devices(self, kind):
        assert kind == "input"
        return {"default_samplerate": float(self._rate_hz)}

    def InputStream(self, *, samplerate, channels, dtype):
        assert (samplerate, channels, dtype) == (self._rate_hz, 1, "int16")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, num_samples):
        if not len(self._sound):
            raise self.PortAudioError("Input stream\nis gone")
        block, self._sound = self._sound[:num_samples, None], self._sound[num_samples:]
        return block, False


def test_a_microphone_is_heard_until_it_is_gone(run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", _Microphone(spoken([8, 5], 44100), 44100))
    code, out, err = run_cli("listen", "--mic")
    assert code == 1 and labels(out) == [8, 5]
    assert len(err.splitlines()) == 1 and "Input stream is gone" in err


def test_without_a_microphone_it_is_one_sentence(run_cli, monkeypatch):
    silent = types.SimpleNamespace(PortAudioError=OSError)

    def query_devices(kind):
        raise silent.PortAudioError("Error querying device -1")

    silent.query_devices = query_devices
    for module, sentence in (
        (None, r"pip install -e '\.\[mic\]'"),
        (silent, r"no microphone \(Error querying .* -1\)"),
    ):
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        code, out, err = run_cli("listen", "--mic")
        assert (code, out) == (1, "") and re.search(sentence, err) and len(err.splitlines()) == 1


def test_without_portaudio_it_is_one_sentence(run_cli, monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run_cli("listen", "--mic")
    assert (code, out) == (1, "") and "PortAudio" in err
