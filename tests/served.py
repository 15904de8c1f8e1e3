"""A live page's server in this process, and what its clients say and are told."""

import asyncio
import contextlib
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import tone
from toy_listener import ToyListener
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from audiojax.serving import server


class Served:
    """A server in a thread of its own, on a free port."""

    def __init__(
        self, num_streams=4, tls=None, idle_seconds=60.0, listener=None, port=0, host="127.0.0.1", allowed_hosts=()
    ):
        self.listener = listener or ToyListener(num_streams)
        self._port = server.open_port(host, port)
        ready = threading.Event()

        def announce(url):
            self.url = url
            ready.set()

        options = {"announce": announce, "idle_seconds": idle_seconds, "allowed_hosts": allowed_hosts}
        self._run = server.run(self.listener, self._port, tls, **options)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert ready.wait(10)

    def _serve(self):
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._task = self._loop.create_task(self._run)
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._task)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def places_taken(self) -> int:
        return len(self.listener.slots)

    def socket(self, origin=None, **options):
        url = self.url.replace("http", "ws", 1) + "listen"
        return connect(url, origin=origin, open_timeout=10, close_timeout=0.5, compression=None, **options)


def pcm(sound: np.ndarray) -> bytes:
    return (sound * 32767).astype("<i2").tobytes()


def spoken(labels, rate_hz=8000) -> np.ndarray:
    """f32[t]: words of the toy language, with silence between them."""
    silence = np.zeros(rate_hz // 4, np.float32)
    return np.concatenate([silence, *(part for label in labels for part in (tone(label, 1, 0, rate_hz), silence))])


def utterance(labels, rate_hz=8000, chunk_seconds=0.04) -> Iterator[str | bytes]:
    """The messages in which a client sends a sound."""
    yield json.dumps({"rate_hz": rate_hz})
    sound, size = spoken(labels, rate_hz), int(chunk_seconds * rate_hz)
    for at in range(0, len(sound), size):
        yield pcm(sound[at : at + size])
    yield '{"end": true}'


def say(client, labels, rate_hz=8000, chunk_seconds=0.04) -> list[dict]:
    """The messages that a client receives for a sound, until it has ended."""
    for message in utterance(labels, rate_hz, chunk_seconds):
        client.send(message)
    return told_until(client, lambda message: message.get("status") == "ended")


def told_until(client, met) -> list[dict]:
    messages = []
    while not (messages and met(messages[-1])):
        messages.append(json.loads(client.recv(timeout=20)))
    return messages


def words(messages) -> list[str]:
    return [message["label"] for message in messages if "label" in message]


def closed(client) -> tuple[str | None, int]:
    """The last error that a client is told, and the code it is closed with."""
    error = None
    with pytest.raises(ConnectionClosed) as end:
        while True:
            error = json.loads(client.recv(timeout=20)).get("error", error)
    return error, end.value.rcvd.code


def raw_status(url: str, target: str, *headers: str) -> int:
    """The status of the answer to a GET whose target and headers are sent as they are."""
    host, port = url.split("//")[1].strip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall("\r\n".join([f"GET {target} HTTP/1.1", *headers, "", ""]).encode("latin-1"))
        return int(raw.makefile("rb").readline().split()[1])


def get(url, **options):
    with urllib.request.urlopen(url, timeout=10, **options) as answer:
        return answer.status, answer.headers, answer.read()
