"""The live page's server: a real one on a real port, and real sockets; only the listener is a toy."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from served import Served, closed, get, pcm, raw_status, say, spoken, told_until, utterance, words
from websockets.asyncio.client import connect as asyncio_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from audiojax.demo import __main__ as command_line
from audiojax.errors import InputError
from audiojax.serving import server, sessions
from experiments.benchmarks.load import frame


@pytest.fixture(scope="module")
def served():
    with Served() as it:
        yield it


@pytest.fixture
def bystander(served):
    """Somebody who speaks while others misbehave, and must be heard all the same."""
    with served.socket() as client:
        assert words(say(client, [2])) == ["two"]
        yield client
        assert words(say(client, [3, 1])) == ["three", "one"]


def test_the_page_is_served_whole_and_guarded(served):
    status, headers, page = get(served.url)
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert b"<style" not in page and b"onclick" not in page and b"//" not in page.replace(b"//www.w3.org", b"")
    for name in (
        "page.css",
        "page.js",
        "show.js",
        "line.js",
        "messages.js",
        "sound.js",
        "view.js",
        "worklet.js",
        "icon.svg",
    ):
        status, headers, content = get(served.url + name)
        assert status == 200 and len(content) > 100 and headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["x", "../server.py", "%2e%2e/server.py", "server.py", "sample/10.wav", "sample/x.wav"]
)
def test_anything_else_is_not_found(served, path):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(served.url + path)
    assert error.value.code == 404 and error.value.headers["X-Content-Type-Options"] == "nosniff"


def test_samples_are_words_of_the_embedded_voices(served, tmp_path):
    assert [word["label"] for word in json.loads(get(served.url + "words.json")[2])] == list(
        served.listener.label_names
    )
    one, other = (get(f"{served.url}sample/7.wav?voice={voice}")[2] for voice in (0, 1))
    assert one != other
    (tmp_path / "7.wav").write_bytes(one)
    sound, rate_hz = soundfile.read(tmp_path / "7.wav")
    assert rate_hz == 16000 and 0.2 < len(sound) / rate_hz < 1 and np.abs(sound).max() > 0.2


@pytest.mark.parametrize("rate_hz, chunk_seconds", [(8000, 0.1), (16000, 0.04), (48000, 0.013), (44100, 1.0)])
def test_words_come_back_with_their_times(served, rate_hz, chunk_seconds):
    with served.socket() as client:
        messages = say(client, [7, 0, 4], rate_hz, chunk_seconds)
        assert messages[0]["labels"] == list(served.listener.label_names)
        assert words(messages) == ["seven", "zero", "four"]
        for message in (message for message in messages if "label" in message):
            assert set(message) == {"label", "start_seconds", "end_seconds", "emitted_seconds", "probability"}
            assert message["start_seconds"] < message["end_seconds"] < message["emitted_seconds"]
        assert words(say(client, [5], 8000)) == ["five"]  # another sound, of another rate, on the same socket


def test_words_come_while_the_sound_goes_on(served):
    with served.socket() as client:
        client.send('{"rate_hz": 8000}')
        client.send(pcm(spoken([6])))
        assert words(told_until(client, lambda message: "label" in message)) == ["six"]


def test_a_sensitivity_is_of_one_client_and_of_all_its_sounds(served):
    told = json.loads(get(served.url + "sensitivity.json")[2])
    assert told["threshold"] == 0.5 and list(told["points"]) == ["low", "normal", "high"]
    assert told["points"]["low"] == {"threshold": 0.99, "false_events_per_hour": 1.0, "digit_error_rate": 0.9}
    with served.socket() as one, served.socket() as other:
        one.send('{"sensitivity": "low"}')
        assert [words(say(client, [2])) for client in (one, other, one)] == [[], ["two"], []]
        one.send('{"sensitivity": "normal"}')
        assert words(say(one, [2])) == ["two"]


def test_another_sites_page_is_refused(served):
    host = served.url[len("http://") : -1]
    with served.socket(origin=f"http://{host}") as client:
        assert words(say(client, [1])) == ["one"]
    other = f"http://{host.replace(':', '.evil.example:')}"
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null", other):
        with pytest.raises(InvalidStatus) as error:
            served.socket(origin=origin)
        assert error.value.response.status_code == 403


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)


@pytest.mark.parametrize("target", ["//[", "//evil.example/", "http://[", "http://127.0.0.1/", "*", "x", "?"])
def test_a_target_that_is_no_path_is_a_bad_request(served, caplog, target):
    assert raw_status(served.url, target, "Host: 127.0.0.1") == 400
    assert raw_status(served.url, target, "Host: 127.0.0.1", *UPGRADE) == 400
    assert not caplog.records


@pytest.mark.parametrize(
    "origins",
    [
        ["http://["],
        ["http://127.0.0.1:x"],
        ["http://127.0.0.1:8000.evil.example"],
        ["http://127.0.0.1:99999"],
        ["http://[::1"],
        ["http://[1::2::3]"],
        ["http://127.0.0.1/path"],
        ["http://me@127.0.0.1"],
        ["//127.0.0.1"],
        ["127.0.0.1"],
        [""],
        ["null null"],
        ["http://\xe4"],
        ["http://127.0.0.1", "http://127.0.0.1"],
    ],
)
def test_a_malformed_origin_is_a_bad_request(served, caplog, origins):
    headers = [f"Origin: {origin}" for origin in origins]
    for more in ((), UPGRADE):
        assert raw_status(served.url, "/listen", "Host: 127.0.0.1", *headers, *more) == 400
    assert not caplog.records


@pytest.mark.parametrize("hosts", [[], [""], ["["], ["127.0.0.1:x"], ["a b"], ["127.0.0.1", "127.0.0.1"]])
def test_a_malformed_or_missing_host_is_a_bad_request(served, caplog, hosts):
    for more in ((), UPGRADE):
        assert raw_status(served.url, "/", *(f"Host: {host}" for host in hosts), *more) == 400
    assert not caplog.records


def test_a_header_given_twice_raises_nothing(served, caplog):
    assert raw_status(served.url, "/", "Host: localhost", "Upgrade: h2c", "Upgrade: h2c") == 200
    assert raw_status(served.url, "/listen", "Host: localhost", *UPGRADE, "Upgrade: websocket") in (101, 400, 426)
    assert not caplog.records


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "192.0.2.1", "[2001:db8::1]"],
)
def test_a_host_name_that_resolves_here_but_is_not_ours_is_refused(served, host):
    """A page of evil.example whose name then resolves to this server (DNS rebinding): Origin and Host agree."""
    number = served.url.split(":")[-1].strip("/")
    for path, more in (("/", ()), ("/words.json", ()), ("/listen", UPGRADE)):
        for name in (host, f"{host}:{number}"):
            assert raw_status(served.url, path, f"Host: {name}", f"Origin: http://{name}", *more) == 403


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9000", "LocalHost", "localhost.", "[::1]:80", "app.localhost"]
)
def test_the_own_names_are_answered_for_at_any_port(served, host):
    assert raw_status(served.url, "/", f"Host: {host}") == 200
    assert raw_status(served.url, "/listen", f"Host: {host}", f"Origin: http://{host}", *UPGRADE) == 101


def test_a_default_port_may_be_left_out(served):
    for origin, host in (("http://localhost", "localhost:80"), ("https://localhost:443", "localhost")):
        assert raw_status(served.url, "/listen", f"Host: {host}", f"Origin: {origin}", *UPGRADE) == 101
    assert raw_status(served.url, "/listen", "Host: localhost:81", "Origin: http://localhost", *UPGRADE) == 403


def test_names_can_be_allowed_and_a_bind_beyond_loopback_allows_addresses():
    with Served(host="0.0.0.0", allowed_hosts=["audio.example"]) as it:
        for host, status in (
            ("audio.example", 200),
            ("192.0.2.1:8000", 200),
            (socket.gethostname(), 200),
            ("evil.example", 403),
        ):
            assert raw_status(it.url, "/", f"Host: {host}") == status


def test_who_comes_too_late_is_told_so_and_places_are_freed():
    with Served(num_streams=2) as full, full.socket() as one:
        assert words(say(one, [1])) == ["one"]
        with full.socket() as two, full.socket() as three:
            assert words(say(two, [2])) == ["two"]
            error, code = closed(three)
            assert code == sessions.TRY_AGAIN_LATER and error == "all 2 places are taken; try again in a moment."
        for _ in range(5):
            with full.socket() as again:
                assert words(say(again, [3])) == ["three"]
        assert words(say(one, [4])) == ["four"]


@pytest.mark.parametrize(
    "messages, code, sentence",
    [
        (["hello"], sessions.INVALID_DATA, "is not JSON"),
        (["[" * 50_000], sessions.INVALID_DATA, "is not JSON"),
        (['{"rate_hz": "many"}'], sessions.POLICY, "is invalid"),
        (['{"rate_hz": true}'], sessions.POLICY, "is invalid"),
        (['{"rate_hz": 1e999}'], sessions.POLICY, "is invalid"),
        (['{"rate_hz": 8000, "more": 1}'], sessions.POLICY, "is invalid"),
        (["[1]"], sessions.POLICY, "is invalid"),
        (['{"end": true}'], sessions.POLICY, "is invalid"),
        (['{"rate_hz": -5}'], sessions.POLICY, "is invalid"),
        (['{"rate_hz": 12}'], sessions.POLICY, "the sample rate is 12 Hz"),
        (['{"rate_hz": 8000.5}'], sessions.POLICY, "is invalid"),
        (['{"sensitivity": "loud"}'], sessions.POLICY, "loud"),
        (['{"sensitivity": ["low"]}'], sessions.POLICY, "low"),
        (
            [f'{{"rate_hz": {44_101 + 2 * (i % 2)}}}' for i in range(50)],
            sessions.POLICY,
            "the sample rate changed 10 times",
        ),
        (['{"rate_hz": 8000}', b"\0\0", '{"rate_hz": 8001}', b"\0\0"] * 50, sessions.POLICY, "the sample rate changed"),
        ([b"\0\0"], sessions.POLICY, "sound came before its rate"),
        (['{"rate_hz": 8000}', b"\0\0\0"], sessions.UNSUPPORTED_DATA, "a message of 3 bytes is not 16-bit sound"),
        (['{"rate_hz": 8000}', bytes(server.MAX_MESSAGE_BYTES + 2)], 1009, None),
    ],
)
@pytest.mark.slow
def test_what_breaks_the_protocol_is_said_and_harms_nobody(served, bystander, caplog, messages, code, sentence):
    with served.socket() as client:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                client.send(message)
        told, closed_with = closed(client)
        assert closed_with == code and (sentence is None or sentence in told)
    assert not caplog.records


def test_a_sound_may_begin_at_the_same_rate_as_often_as_one_likes(served):
    with served.socket() as client:
        for _ in range(3 * sessions.MAX_RATE_CHANGES):
            client.send('{"rate_hz": 16000.0}')
        assert words(say(client, [4], 16_000)) == ["four"]


def turns(client: sessions.Client) -> list[list]:
    found = []
    while client.waits:
        found.append(client.take())
    return found


@pytest.mark.parametrize("rate_hz", [1000, 8000, 44_101, 96_000, 767_999])
def test_a_turn_of_one_client_is_bounded_whatever_it_sends(rate_hz):
    client, begin = sessions.Client(None, 0.0), f'{{"rate_hz": {rate_hz}}}'
    share = round(sessions.SOUND_PER_TURN_SECONDS * min(rate_hz, sessions.FULL_COST_RATE_HZ))
    for message in (begin, bytes(5 * 2 * share + 2)):
        client.put(message, 0.0)
    first, *more = turns(client)
    sounds = [len(sound) // 2 for turn in more for sound in turn]
    assert first == [rate_hz] and max(sounds) <= min(share, 20_000) and sum(sounds) == 5 * share + 1
    for _ in range(90):  # samples one by one are one piece of sound
        client.put(b"\0\0", 0.0)
    pieces = turns(client)
    assert all(len(turn) == 1 for turn in pieces) and sum(len(turn[0]) for turn in pieces) == 180
    assert len(pieces) >= 90 * sessions.MIN_ITEM_SECONDS / sessions.SOUND_PER_TURN_SECONDS
    for _ in range(20):
        for message in (begin, b"\0\0", '{"end": true}'):
            client.put(message, 0.0)
    assert not client.room.is_set()
    busy = turns(client)
    assert max(sum(item is None for item in turn) for turn in busy) == 1
    assert max(sum(isinstance(item, int) for item in turn) for turn in busy) <= 2
    assert len(busy) >= 20 * (sessions.BEGIN_SECONDS + sessions.END_SECONDS) / sessions.SOUND_PER_TURN_SECONDS - 3
    assert client.room.is_set()


def test_a_socket_is_read_in_small_parts(served, bystander, monkeypatch):
    parts, read = [], server.Connection.data_received
    monkeypatch.setattr(
        server.Connection, "data_received", lambda self, data: (parts.append(len(data)), read(self, data))
    )
    with served.socket() as client:
        assert json.loads(client.recv())["status"] == "ready"
        parts.clear()
        client.socket.sendall(frame(1, b'{"rate_hz": 8000}') + frame(2, b"\0\0") * 3000)
        for _ in range(500):
            if sum(parts) > server.READ_BYTES:
                break
            time.sleep(0.01)
    assert sum(parts) > server.READ_BYTES >= max(parts)


def test_text_that_is_no_text_and_bytes_that_are_no_protocol_harm_nobody(served, bystander, caplog):
    host, port = served.url[len("http://") : -1].split(":")
    for content in (
        b"\x16\x03\x01\x02\0\x01\0garbage",
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n" * 9000,
        b"GET /",
    ):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(content)
    with served.socket() as client:
        client.send(b"\xff\xfe", text=True)
        assert closed(client)[1] == 1007
    assert not caplog.records


def test_who_vanishes_leaves_a_free_place(bystander, served):
    for _ in range(2 * served.listener.num_streams):
        with served.socket() as client:
            client.send('{"rate_hz": 8000}')
            client.send(pcm(spoken([1])))
            client.socket.shutdown(socket.SHUT_RDWR)  # no goodbye
        time.sleep(0.05)


def test_who_is_silent_is_sent_home_and_who_speaks_is_not():
    with Served(idle_seconds=2) as strict, strict.socket() as silent, strict.socket() as speaker:
        farewell = ThreadPoolExecutor().submit(closed, silent)
        while not farewell.done():
            assert words(say(speaker, [1])) == ["one"]
        assert farewell.result() == ("nothing was sent for 2 seconds.", sessions.POLICY)
        assert words(say(speaker, [2])) == ["two"]


def test_who_sends_faster_than_it_is_spoken_is_slowed_down_and_others_are_heard():
    """An hour in one go: the server takes a little at a time, and does not read what it will not keep."""
    with Served() as it, it.socket() as greedy, it.socket() as speaker:
        greedy.send('{"rate_hz": 8000}')
        sender = threading.Thread(target=send_all, args=(greedy, bytes(2 * 8000), 3600), daemon=True)
        sender.start()
        for _ in range(5):
            assert words(say(speaker, [1])) == ["one"]
        assert sender.is_alive() and it.listener.most_seconds <= sessions.SOUND_PER_TURN_SECONDS + 0.02


def send_all(client, message, times):
    with contextlib.suppress(ConnectionClosed, OSError):
        for _ in range(times):
            client.send(message)


def test_who_does_not_read_is_parted_with(served, bystander):
    """Answers to pings pile up, as words would."""
    host, port = served.url[len("http://") : -1].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(
            f"GET /listen HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        pings = frame(9, bytes(125)) * 1000
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(2000):
                raw.sendall(pings)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl command that makes a certificate")
    folder = tmp_path_factory.mktemp("tls")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
    make += f"-addext subjectAltName=IP:127.0.0.1 -keyout {folder}/key.pem -out {folder}/cert.pem"
    subprocess.run(make.split(), check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_the_page_and_its_sound_go_over_tls(certificate):
    trust = ssl.create_default_context(cafile=certificate[0])

    async def received(url):
        """The messages that a client of one thread receives: OpenSSL forbids two at the same time in a connection."""
        async with asyncio.timeout(20), asyncio_connect(url, ssl=trust, compression=None) as client:
            for message in utterance([8]):
                await client.send(message)
            messages = []
            while not messages or messages[-1].get("status") != "ended":
                messages.append(json.loads(await client.recv()))
            return messages

    with Served(tls=server.load_tls(*certificate)) as it:
        assert it.url.startswith("https://") and get(it.url, context=trust)[0] == 200
        assert words(asyncio.run(received(it.url.replace("https", "wss") + "listen"))) == ["eight"]


def test_a_certificate_that_cannot_be_used_is_one_sentence(certificate, tmp_path):
    (tmp_path / "other.pem").write_text("no certificate")
    for pair in ((tmp_path / "none.pem", None), (tmp_path / "other.pem", None), (certificate[0], tmp_path / "none.pem"),
                 (certificate[0], certificate[0])):  # fmt: skip
        with pytest.raises(InputError, match=r"^--(certfile|keyfile) "):
            server.load_tls(*pair)


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--host", "256.1.1.1"], "--host 256.1.1.1"),
        (["--port", "70000"], "--port 70000 "),
        (["--max-clients", "0"], "--max-clients is 0"),
        (["--keyfile", "key.pem"], "needs its certificate"),
        (["--workdir", "nowhere"], "nowhere"),
        (["--allow-host", "http://audio.example"], "--allow-host http://audio.example "),
        (["--allow-host", "audio.example:99999"], "--allow-host audio.example:99999 "),
    ],
)
def test_a_wrong_option_is_one_sentence(args, sentence):
    with pytest.raises(InputError, match=sentence):
        command_line.main(["--port", "0", *args])


def test_a_port_in_use_and_a_missing_extra_are_one_sentence(served, monkeypatch):
    number = served.url.split(":")[-1].strip("/")
    with pytest.raises(InputError, match=rf"^--port {number} .*127\.0\.0\.1"):
        command_line.main(["--port", number])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[web\]'"):
        command_line.main([])


COMMAND = """
import runpy, sys, types
sys.path.insert(0, "tests")
from toy_listener import ToyListener
from audiojax import cli
cli.setup_jax = lambda: None
sys.modules["audiojax.streaming.recognizer"] = types.SimpleNamespace(Recognizers=ToyListener)
runpy.run_module("audiojax.demo", run_name="__main__")
"""


def command_process(*args) -> subprocess.Popen:
    """The command itself, with the toy listener, as a process."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", COMMAND, "--port=0", "--max-clients=3", *args], cwd=ROOT, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_serves_and_ends_when_told(number):
    with command_process() as process:
        url = process.stdout.readline().strip()
        assert get(url)[0] == 200
        with connect(url.replace("http", "ws") + "listen") as client:
            assert words(say(client, [9])) == ["nine"]
            process.send_signal(number)
            assert closed(client)[1] == 1001
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number and not out
    assert err == "\naudiojax: interrupted; the server has stopped.\n"


@pytest.mark.parametrize("host, reached", [("0.0.0.0", True), ("::", True), ("::1", False), ("127.0.0.1", False)])
def test_a_bind_beyond_loopback_says_what_it_means(host, reached, certificate):
    with contextlib.closing(server.open_port(host, 0)) as port:
        plain, secure = (server.exposure(port, tls) for tls in (None, server.load_tls(*certificate)))
    if reached:
        assert "no password" in plain and "--certfile" in plain
        assert "no password" in secure and "--certfile" not in secure
    else:
        assert plain is None and secure is None


def test_the_command_prints_what_a_bind_beyond_loopback_means():
    with command_process("--host=0.0.0.0", "--allow-host=audio.example") as process:
        url = process.stdout.readline().strip()
        assert raw_status(url, "/", "Host: audio.example") == 200
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=20)[1]
    assert "no password" in err.splitlines()[0] and "--host 127.0.0.1" in err
