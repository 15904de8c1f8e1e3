"""Downloads from a real server on the loopback: broken transfers, resumed ones, archives that mean harm."""

import gzip
import http.server
import io
import re
import subprocess
import sys
import tarfile
import threading

import pytest
import soundfile
from conftest import ROOT, tone

from audiojax.audio import sound_files
from audiojax.data import download as download_module
from audiojax.data import speech_commands
from audiojax.errors import InputError
from audiojax.io.files import MARKER


def wav(label: int, take: int) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, tone(label, 1, take), 8000, format="WAV")
    return out.getvalue()


def archive(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
                continue
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return out.getvalue()


GOOD = {f"top/recordings/{label}_ann_{take}.wav": wav(label, take) for label in range(10) for take in range(6)}


class Server:
    """Serves `content`; breaks off after `broken_after` bytes of each of the first `breaks` answers."""

    def __init__(self):
        self.content, self.breaks, self.broken_after, self.ranges, self.requests = b"", 0, 0, True, []
        self.status, self.tag = 200, '"1"'
        ours = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range")
                ours.requests.append(wanted)
                start = 0
                if wanted and ours.ranges and self.headers.get("If-Range") == ours.tag:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                body = ours.content[start:]
                if wanted and start >= len(ours.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(ours.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else ours.status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", ours.tag)
                self.end_headers()
                if ours.breaks:
                    ours.breaks -= 1
                    body = body[: ours.broken_after]
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/archive.tar.gz"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download_module, "FSDD", download_module.FSDD._replace(num_speakers=1, num_clips=60))
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(download_module, "_BLOCK_BYTES", 1000)
    server = Server()
    server.content = archive(GOOD | {"top/README.md": b"read me", "top/recordings/extra.txt": b""})
    yield server
    server.close()


def test_a_download_can_be_read_and_is_not_made_twice(server, tmp_path, run_cli):
    found = download_module.fsdd(tmp_path / "fsdd", server.url)
    assert len(found.files) == 60 and sorted(path.name for path in tmp_path.iterdir()) == ["fsdd"]
    assert {path.name for path in (tmp_path / "fsdd").iterdir()} == {MARKER, "recordings"}
    assert len(sound_files.read_sound(tmp_path / "fsdd" / found.files[0].path, 8000)) > 500
    code, out, _ = run_cli("download", "fsdd", "--root", tmp_path / "fsdd", "--url", server.url)
    assert code == 0 and "60 clips of 1 speakers" in out and len(server.requests) == 1


@pytest.mark.parametrize("version, num_words", [(1, 51_088 + 6_798 + 6_835), (2, 84_843 + 9_981 + 11_005)])
def test_speech_commands_has_the_words_and_six_noises(server, tmp_path, run_cli, monkeypatch, version, num_words):
    """An archive in the layout of the real one, with six clips of three words."""
    assert speech_commands._NUM_CLIPS[version] == num_words
    monkeypatch.setitem(speech_commands._NUM_CLIPS, version, 6)
    monkeypatch.setitem(speech_commands._NUM_SPEAKERS, version, 2)
    words = {
        f"./{word}/{who}_nohash_0.wav": wav(at, 0) for at, word in enumerate(("bed", "cat", "one")) for who in "ab"
    }
    noises = {f"./_background_noise_/{number}.wav": wav(0, number) for number in range(6)}
    lists = {"./validation_list.txt": b"bed/b_nohash_0.wav\n", "./testing_list.txt": b"cat/b_nohash_0.wav\n"}
    server.content = archive(words | noises | lists | {"./README.md": b"read me", "./LICENSE": b""})
    url = f"{server.url}?v0.0{version}"
    code, out, err = run_cli("download", "speech_commands", "--root", tmp_path / "root", "--url", url)
    assert code == 0 and "12 clips of 3 speakers" in out, err
    assert {path.name for path in (tmp_path / "root").glob("*.txt")} == {"validation_list.txt", "testing_list.txt"}
    assert speech_commands.read(tmp_path / "root").label_names == ("bed", "cat", "one", speech_commands.NOISE)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on(server, tmp_path, ranges):
    server.breaks, server.broken_after, server.ranges = 2, 10_000, ranges
    assert len(download_module.fsdd(tmp_path / "fsdd", server.url).files) == 60
    assert server.requests == [None, "bytes=10000-", "bytes=20000-" if ranges else "bytes=10000-"]


def test_a_transfer_that_never_succeeds_goes_on_in_the_next_start(server, tmp_path):
    server.breaks, server.broken_after = 4, 5_000
    with pytest.raises(InputError, match="git clone"):
        download_module.fsdd(tmp_path / "fsdd", server.url)
    assert not (tmp_path / "fsdd").exists()
    assert len(download_module.fsdd(tmp_path / "fsdd", server.url).files) == 60
    assert server.requests[-1] == "bytes=20000-"


def test_another_content_is_not_joined_to_the_old(server, tmp_path, monkeypatch):
    whole, server.content = server.content, bytes(len(server.content))
    server.breaks, server.broken_after = 1, 5_000

    def change(seconds):
        server.content, server.tag = whole, '"2"'

    monkeypatch.setattr(download_module.time, "sleep", change)
    assert len(download_module.fsdd(tmp_path / "fsdd", server.url).files) == 60


@pytest.mark.parametrize("extra, requests", [(0, 1), (7, 2)])
def test_a_transfer_killed_before_its_last_step_is_taken_or_made_again(server, tmp_path, extra, requests):
    transfer = tmp_path / "fsdd.download"
    transfer.mkdir()
    (transfer / "archive.tar.part").write_bytes(server.content + bytes(extra))
    (transfer / "archive.tar.etag").write_text(server.tag)
    assert len(download_module.fsdd(tmp_path / "fsdd", server.url).files) == 60
    assert len(server.requests) == requests and [path.name for path in tmp_path.iterdir()] == ["fsdd"]


def test_what_else_lies_where_a_transfer_is_kept_stays(server, tmp_path):
    (tmp_path / "fsdd.download").mkdir()
    (tmp_path / "fsdd.download" / "notes.txt").write_text("mine")
    download_module.fsdd(tmp_path / "fsdd", server.url)
    assert [path.name for path in (tmp_path / "fsdd.download").iterdir()] == ["notes.txt"]


FETCH = """
import sys
from pathlib import Path
from audiojax.data import download
download.FSDD = download.FSDD._replace(num_speakers=1, num_clips=60)
print(len(download.fsdd(Path(sys.argv[1]), sys.argv[2]).files))
"""


def test_what_another_process_finishes_meanwhile_is_used(server, tmp_path, monkeypatch):
    root, lock = tmp_path / "fsdd", download_module.only_process

    def late(folder):
        """Another process makes the folder after this one saw none, and before this one holds the lock."""
        command = [sys.executable, "-c", FETCH, root, server.url]
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert other.stdout.endswith("60\n"), other.stderr
        return lock(folder)

    monkeypatch.setattr(download_module, "only_process", late)
    assert len(download_module.fsdd(root, server.url).files) == 60
    assert len(server.requests) == 1 and [path.name for path in tmp_path.iterdir()] == ["fsdd"]


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    about = tarfile.TarInfo()
    about.type, about.linkname = kind, target
    return about


@pytest.mark.parametrize(
    "name, content",
    [
        ("../outside.wav", b"x"),
        ("top/../../recordings/0_ann_0.wav", b"x"),
        ("/tmp/audiojax-outside.wav", b"x"),
        ("top/recordings/../../outside.wav", b"x"),
        ("top/recordings", link(tarfile.SYMTYPE, "/tmp")),
        ("top/recordings/0_eve_0.wav", link(tarfile.SYMTYPE, "/etc/passwd")),
        ("top/recordings/0_eve_1.wav", link(tarfile.LNKTYPE, "top/recordings/0_ann_0.wav")),
        ("top/recordings/0_eve_2.wav", link(tarfile.CHRTYPE, "")),
    ],
)
def test_an_archive_that_means_harm_writes_nothing_outside(server, tmp_path, name, content):
    server.content = archive({name: content} | GOOD)
    folder = tmp_path / "a" / "b"
    assert len(download_module.fsdd(folder / "fsdd", server.url).files) == 60
    written = [path for path in tmp_path.rglob("*") if not path.is_dir() and path.name != MARKER]
    assert len(written) == 60 and all(path.parent == folder / "fsdd" / "recordings" for path in written)
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"not an archive", "is damaged"),
        (archive(GOOD)[:20_000], "is damaged"),
        (archive({"top/recordings/0_ann_0.wav": bytes(6_000_000)}), "more or larger files"),
        (archive({"top/recordings/0_ann_0.wav": wav(0, 0)}), "it holds 1 clips of 1 speakers instead of 60"),
        (archive({"top/README.md": b""}), "is not a folder"),
    ],
)
def test_what_arrived_is_checked(server, tmp_path, content, words):
    server.content = content
    with pytest.raises(InputError, match=words):
        download_module.fsdd(tmp_path / "fsdd", server.url)
    assert not (tmp_path / "fsdd").exists()
    server.content, server.tag = archive(GOOD), '"2"'
    assert len(download_module.fsdd(tmp_path / "fsdd", server.url).files) == 60


def unpack(content: bytes, folder):
    """What lies in `folder` after `content` is unpacked there; None where it was refused with a sentence."""
    packed = folder.with_suffix(".tar.gz")
    packed.write_bytes(content)
    folder.mkdir()
    try:
        download_module._unpack(download_module.FSDD, packed, folder, lambda *_: None)
    except InputError as error:
        assert "is damaged and was deleted" in str(error) and "\n" not in str(error) and not packed.exists()
        return None
    return {path.name: path.read_bytes() for path in folder.rglob("*.wav")}


def test_a_flipped_bit_is_refused_or_harmless(server, tmp_path, monkeypatch):
    names = list(GOOD)[:2]
    monkeypatch.setattr(download_module, "FSDD", download_module.FSDD._replace(num_clips=2))
    content = archive({name: GOOD[name] for name in names})
    whole = unpack(content, tmp_path / "whole")
    assert whole and len(whole) == 2
    bits = [*range(160), *range(160, 8 * len(content) - 160, 41), *range(8 * len(content) - 160, 8 * len(content))]
    refused = 0
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        found = unpack(bytes(flipped), tmp_path / str(bit))
        assert found in (None, whole), bit
        refused += found is None
    assert refused > len(bits) - 160  # the header holds a time and a name that nobody reads


def test_what_follows_the_last_member_is_read_to_its_end_but_not_for_ever(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_ARCHIVE_BYTES", 3_000_000)
    blank = gzip.compress(bytes(2_000_000))
    assert unpack(archive(GOOD) + blank, tmp_path / "long") == unpack(archive(GOOD), tmp_path / "good")
    assert unpack(archive(GOOD) + blank[:-9], tmp_path / "cut") is None
    assert unpack(archive(GOOD) + 2 * blank, tmp_path / "bomb") is None


def test_without_a_network_one_sentence_says_what_to_do(run_cli, tmp_path, server):
    code, _, err = run_cli("download", "fsdd", "--root", tmp_path / "fsdd", "--url", "http://127.0.0.1:9/x")
    assert code == 1 and len(err.splitlines()) == 1 and "git clone" in err and "--config.data.root=DIR" in err
    server.status = 404
    code, _, err = run_cli("download", "fsdd", "--root", tmp_path / "fsdd", "--url", server.url)
    assert code == 1 and "404" in err and len(err.splitlines()) == 1


def test_the_pinned_archives_are_pinned():
    for known in (download_module.FSDD, download_module.AUDIOMNIST):
        assert (
            re.fullmatch(r"https://codeload\.github\.com/.*/[0-9a-f]{40}", known.url)
            and known.url[-40:-30] in known.by_hand
        )
