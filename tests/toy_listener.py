"""A live page's server with a listener of no network: a word is a tone of conftest's, and its pitch the label."""

import asyncio
import contextlib
import json
import threading
import urllib.request

import numpy as np
import pytest
from conftest import tone
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from audiojax.data.phonemes import DIGITS
from audiojax.demo import server
from audiojax.types import InputError

QUIET_STEPS = 3  # that end a word


class ToyEvent:
    _fields = ("label", "start_seconds", "end_seconds", "emitted_seconds", "probability")

    def __init__(self, *values):
        for name, value in zip(self._fields, values, strict=True):
            setattr(self, name, value)


class _Slot:
    def __init__(self):
        self.rate_hz, self.waiting, self.word, self.steps, self.quiet = 0, np.empty(0, np.float32), [], 0, 0


class ToyListener:
    """What `stream.Recognizers` promises, on sound of any rate."""

    rate_hz, step_samples, label_names = 8000, 160, DIGITS

    def __init__(self, num_streams: int):
        self.num_streams, self.slots, self.most_seconds = num_streams, {}, 0.0

    @classmethod
    def from_workdir(cls, workdir=None, num_streams=1):
        return cls(num_streams)

    def connect(self):
        free = [slot for slot in range(self.num_streams) if slot not in self.slots]
        if not free:
            return None
        self.slots[free[0]] = _Slot()
        return free[0]

    def leave(self, slot):
        del self.slots[slot]

    def reset(self, slot):
        self.slots[slot] = _Slot()

    def push(self, slot, samples, rate_hz=None):
        rate_hz = rate_hz or self.rate_hz
        if not 1000 <= rate_hz <= 768_000:
            raise InputError(f"the sample rate is {rate_hz} Hz; give one from 1000 to 768000.")
        of = self.slots[slot]
        if of.rate_hz not in (0, rate_hz):
            raise InputError("the rate changes.")
        of.rate_hz = rate_hz
        of.waiting = np.concatenate([of.waiting, np.asarray(samples, np.float32) / 32768])

    def advance(self):
        waiting = (len(of.waiting) / (of.rate_hz or self.rate_hz) for of in self.slots.values())
        self.most_seconds = max(self.most_seconds, *waiting, 0.0)
        return [(slot, event) for slot, of in self.slots.items() for event in self._heard(of)]

    def flush(self, slot):
        of = self.slots[slot]
        of.waiting = np.concatenate([of.waiting, np.zeros((of.rate_hz or self.rate_hz) // 2, np.float32)])
        return self._heard(of)

    def seconds(self, slot):
        return 0.02 * self.slots[slot].steps

    def _heard(self, of):
        size, events = (of.rate_hz or self.rate_hz) // 50, []
        while len(of.waiting) >= size:
            step, of.waiting = of.waiting[:size], of.waiting[size:]
            of.steps += 1
            if np.sqrt(np.mean(step**2)) > 0.05:
                of.word, of.quiet = [*of.word, step], 0
            elif of.word:
                of.quiet += 1
            if of.quiet == QUIET_STEPS:
                now, seconds = 0.02 * of.steps, 0.02 * len(of.word)
                end = now - 0.02 * QUIET_STEPS
                word = np.concatenate(of.word)
                spectrum = np.abs(np.fft.rfft(word * np.hanning(len(word))))
                pitch_hz = spectrum.argmax() * of.rate_hz / len(word)
                label = DIGITS[int(np.clip(round((pitch_hz - 300) / 250), 0, 9))]
                events.append(ToyEvent(label, end - seconds, end, now, 0.97))
                of.word, of.quiet = [], 0
        return events


class Served:
    """A server in a thread of its own, on a free port."""

    def __init__(self, num_streams=4, tls=None, idle_seconds=60.0, listener=None, port=0):
        self.listener = listener or ToyListener(num_streams)
        self._port = server.open_port("127.0.0.1", port)
        ready = threading.Event()

        def announce(url):
            self.url = url
            ready.set()

        self._run = server.run(self.listener, self._port, tls, announce=announce, idle_seconds=idle_seconds)
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

    def socket(self, origin=None, **options):
        url = self.url.replace("http", "ws", 1) + "listen"
        return connect(url, origin=origin, open_timeout=10, close_timeout=0.5, compression=None, **options)


def pcm(sound: np.ndarray) -> bytes:
    return (sound * 32767).astype("<i2").tobytes()


def spoken(labels, rate_hz=8000) -> np.ndarray:
    """f32[t]: words of the toy language, with silence between them."""
    silence = np.zeros(rate_hz // 4, np.float32)
    return np.concatenate([silence, *(part for label in labels for part in (tone(label, 1, 0, rate_hz), silence))])


def say(client, labels, rate_hz=8000, chunk_seconds=0.04) -> list[dict]:
    """What a client is told of a sound, until it has ended."""
    client.send(json.dumps({"rate_hz": rate_hz}))
    sound, size = spoken(labels, rate_hz), int(chunk_seconds * rate_hz)
    for at in range(0, len(sound), size):
        client.send(pcm(sound[at : at + size]))
    client.send('{"end": true}')
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


def get(url, **options):
    with urllib.request.urlopen(url, timeout=10, **options) as answer:
        return answer.status, answer.headers, answer.read()
