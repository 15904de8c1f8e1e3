"""How much later words arrive when many people speak at once: paced sound on many sockets of a live page's server.

  python -m audiojax.demo --max-clients 500
  python -m experiments.load --url ws://127.0.0.1:8000 --streams 500 --seconds 60

Each stream sends a chunk whenever it would have been recorded, all streams evenly out of step. The delay of a word is
the time from sending the chunk that holds the last sample it took (`emitted_seconds`) to its arrival: what network,
queue and batch add to the recogniser's own delay. The frames are made once, as this program shares the server's cores.

With --hostile, three more clients, in a process of their own, send as fast as the server reads, and connect again
whenever they are closed: one sends sound at 767,999 Hz, one another rate before each sample, and one a beginning, a
sample and an end again and again. It measures --repeats times without and with them, in turn.
"""

import argparse
import asyncio
import json
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import numpy as np

from audiojax import cli
from audiojax.audio.signal import prepare_clip
from audiojax.audio.sound_files import read_sound
from audiojax.errors import InputError
from audiojax.synthesis.formant import RATE_HZ, synthesise
from audiojax.synthesis.phonemes import DIGITS
from audiojax.synthesis.voices import make_voice
from experiments.hostile import hostile_clients
from experiments.sockets import BINARY, CLOSE, address, beginning, frame, handshake

NUM_SOUNDS = 16  # different ones, among all streams
WORDS_A_SOUND = 10
GAP_SECONDS = 0.25
TAIL_SECONDS = 1.0  # in which last words may arrive


class Stream(asyncio.Protocol):
    """One socket, by hand: a library would cost several times as much."""

    def __init__(self, host: str, path: str):
        self._host, self._path, self._rest, self._open = host, path, b"", False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent_at: list[float] = []
        self.events: list[tuple[float, float]] = []  # emitted_seconds, and when it arrived
        self.closed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(handshake(self._host, self._path))

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = self.closed or "the connection was lost"
        if not self.ready.done():
            self.ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        now, data = time.perf_counter(), self._rest + data
        if not self._open:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self._open = True
            if b" 101 " not in head.split(b"\r\n")[0]:
                self.closed = head.split(b"\r\n")[0].decode()
                self._transport.close()
                return
        while len(data) >= 2:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4]), 4
            if len(data) < max(4, start) or len(data) < start + size:
                break
            self._read(data[0] & 15, data[start : start + size], now)
            data = data[start + size :]
        self._rest = data

    def send(self, message: bytes) -> None:
        self.sent_at.append(time.perf_counter())
        self._transport.write(message)

    def begin(self, rate_hz: int) -> None:
        self._transport.write(beginning(rate_hz))

    def close(self) -> None:
        self._transport.abort()

    def _read(self, kind: int, content: bytes, now: float) -> None:
        if kind == CLOSE:
            self.closed = content[2:].decode() or "closed"
            self._transport.abort()
            return
        told = json.loads(content)
        if "label" in told:
            self.events.append((told["emitted_seconds"], now))
        elif told.get("status") == "ready":
            self.ready.set_result(None)


def spoken(number: int, rate_hz: int) -> np.ndarray:
    """i16[t]: sound `number`, ten digits of one embedded voice in some order."""
    rng, parts = np.random.default_rng(number), []
    voice = make_voice(0, number)
    for digit in rng.permutation(len(DIGITS))[:WORDS_A_SOUND]:
        parts.append(prepare_clip(synthesise(DIGITS[digit], voice, rng), RATE_HZ, rate_hz))
        parts.append(np.zeros(int(GAP_SECONDS * rate_hz), np.int16))
    return np.concatenate(parts)


def cut(sound: np.ndarray, chunk_samples: int) -> list[bytes]:
    """The frames of a sound, which is made a whole number of chunks by silence."""
    whole = np.pad(sound, (0, -len(sound) % chunk_samples)).reshape(-1, chunk_samples)
    return [frame(BINARY, chunk.astype("<i2").tobytes()) for chunk in whole]


async def connect(url: str, number: int) -> list[Stream]:
    host, port, netloc, path = address(url)
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    for _ in range(number):
        try:
            _, stream = await loop.create_connection(lambda: Stream(netloc, path), host, port)
        except OSError as error:
            raise InputError(
                f"--url {url} does not answer ({error.strerror}); start python -m audiojax.demo."
            ) from error
        await stream.ready
        if stream.closed:
            raise InputError(f"stream {len(streams) + 1} was refused ({stream.closed}); see --max-clients of the demo.")
        streams.append(stream)
    return streams


async def speak(streams: Sequence[Stream], sounds: Sequence[list[bytes]], chunk_seconds: float, seconds: float) -> None:
    """Sends every chunk when it is due, the streams evenly out of step and each from another place of its sound."""
    apart = chunk_seconds / len(streams)
    start, number = time.perf_counter(), 0
    while number * apart < seconds:
        due = min(int((time.perf_counter() - start) / apart), int(seconds / apart))
        for k in range(number, due):
            stream, index = k % len(streams), k // len(streams)
            sound = sounds[stream % len(sounds)]
            if not streams[stream].closed:
                streams[stream].send(sound[(index + 37 * stream) % len(sound)])
        number = max(number, due)
        await asyncio.sleep(0.002)
    await asyncio.sleep(TAIL_SECONDS)


def delays_ms(stream: Stream, chunk_seconds: float) -> list[float]:
    """Of each word of a stream, what was added."""
    delays = []
    for emitted_seconds, arrived in stream.events:
        chunk = max(0, math.ceil(emitted_seconds / chunk_seconds - 1e-6) - 1)
        delays.append(1e3 * (arrived - stream.sent_at[min(chunk, len(stream.sent_at) - 1)]))
    return delays


async def measure(args: argparse.Namespace) -> dict:
    chunk_samples = round(args.chunk_ms * args.rate / 1000)
    streams = await connect(args.url, args.streams)
    sounds = [read_sound(path, args.rate) for path in args.files] or [spoken(i, args.rate) for i in range(NUM_SOUNDS)]
    frames = [cut(sound, chunk_samples) for sound in sounds]
    for stream in streams:
        stream.begin(args.rate)
    cpu, wall = time.process_time(), time.perf_counter()
    await speak(streams, frames, chunk_samples / args.rate, args.seconds)
    load = (time.process_time() - cpu) / (time.perf_counter() - wall)
    lost = [stream.closed for stream in streams if stream.closed]
    for stream in streams:
        stream.close()
    delays = np.array([ms for stream in streams for ms in delays_ms(stream, chunk_samples / args.rate)])
    if not len(delays):
        raise InputError(f"no word was heard in {args.seconds:g} s; give sound with words, or more --seconds.")
    middle, late, latest = np.percentile(delays, (50, 95, 99)).tolist()
    return {
        "streams": args.streams,
        "seconds": args.seconds,
        "chunk_ms": args.chunk_ms,
        "rate_hz": args.rate,
        "events": len(delays),
        "events_per_stream": len(delays) / args.streams,
        "added_ms": {"median": middle, "p95": late, "p99": latest, "max": float(delays.max())},
        "streams_lost": len(lost),
        "first_loss": lost[0] if lost else None,
        "cores_used_here": load,
    }


def compare(args: argparse.Namespace) -> dict:
    """Medians of the 99th percentiles without and with hostile clients, measured in turn."""
    late: dict[str, list[float]] = {"without": [], "with": []}
    lost = 0
    for _ in range(args.repeats):
        for name, values in late.items():
            with hostile_clients(args.url) if name == "with" else nullcontext():
                result = asyncio.run(measure(args))
            print(f"{name} hostile clients: {json.dumps(result)}", flush=True)
            values.append(result["added_ms"]["p99"])
            lost += result["streams_lost"]
            time.sleep(1)  # in which the server notices who left
    return {"p99_ms": late, "added_by_hostile_ms": median(late["with"]) - median(late["without"]), "streams_lost": lost}


def main(argv: list[str]) -> int:
    parser = cli.parser("experiments.load", __doc__ or "")
    parser.prog = "python -m experiments.load"
    parser.add_argument("--url", default="ws://127.0.0.1:8000", help="default: ws://127.0.0.1:8000")
    parser.add_argument("--streams", type=int, default=500, help="default: 500")
    parser.add_argument("--seconds", type=float, default=60, help="default: 60")
    parser.add_argument("--rate", type=int, default=8000, help="of the sound that is sent, in Hz; default: 8000")
    parser.add_argument("--chunk-ms", type=float, default=100, help="default: 100")
    parser.add_argument("--files", nargs="+", type=Path, default=[], help="sounds; default: the embedded voices")
    parser.add_argument("--hostile", action="store_true", help="measure without and with three hostile clients")
    parser.add_argument("--repeats", type=int, default=1, help="of that comparison; default: 1")
    args = parser.parse_args(argv)
    if args.hostile:
        result = compare(args)
        print(f"hostile clients add {result['added_by_hostile_ms']:.0f} ms to the 99th percentile (medians)")
        print(json.dumps(result))
        return 1 if result["streams_lost"] else 0
    result = asyncio.run(measure(args))
    added = result["added_ms"]
    print(f"{result['streams']} streams, {result['seconds']:g} s: {result['events_per_stream']:.1f} words a stream")
    print(f"added: median {added['median']:.0f} ms, 95 % {added['p95']:.0f} ms, 99 % {added['p99']:.0f} ms")
    print(f"{result['streams_lost']} streams were lost; this program used {result['cores_used_here']:.2f} cores")
    print(json.dumps(result))
    return 1 if result["streams_lost"] else 0


if __name__ == "__main__":
    cli.run(main)
