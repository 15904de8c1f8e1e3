"""Load test of the live page's server: measures the delay that the server adds for many concurrent streams.

  python -m audiojax.demo --max-clients 500
  python -m experiments.benchmarks.load --url ws://127.0.0.1:8000 --streams 500 --seconds 60

Each stream sends its chunks in real time; the streams are evenly spaced in time. The delay of a word is the time from
sending the chunk with the sample at `emitted_seconds` to the arrival of the event. It is what network, queue and batch
add to the delay of the recogniser. The WebSocket frames are encoded in advance, as this program shares the server's
cores.

With --hostile, three more clients, in a process of their own, send as fast as the server reads, and reconnect when the
server closes their connection. The first sends sound at 767,999 Hz, the second another rate before each sample, and the
third repeats a start message, one sample and an end message. Runs without and with these clients alternate --repeats
times.
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
from experiments.benchmarks.hostile import hostile_clients
from experiments.benchmarks.sockets import BINARY, CLOSE, address, beginning, frame, handshake
from experiments.benchmarks.timing import add_out, write_record

NUM_SOUNDS = 16  # different sounds, shared by all streams
WORDS_A_SOUND = 10
GAP_SECONDS = 0.25
TAIL_SECONDS = 1.0  # to wait for the last events


class Stream(asyncio.Protocol):
    """One WebSocket client; a WebSocket library would need several times the CPU time."""

    def __init__(self, host: str, path: str):
        """Prepares a client for `path` on `host`."""
        self._host, self._path, self._rest, self._open = host, path, b"", False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent_at: list[float] = []
        self.events: list[tuple[float, float]] = []  # emitted_seconds and time of arrival
        self.closed = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the WebSocket handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(handshake(self._host, self._path))

    def connection_lost(self, _: Exception | None) -> None:
        """Marks the stream as closed."""
        self.closed = self.closed or "the connection was lost"
        if not self.ready.done():
            self.ready.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Decodes the frames that `data` completes."""
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
        """Sends a chunk and records the time."""
        self.sent_at.append(time.perf_counter())
        self._transport.write(message)

    def begin(self, rate_hz: int) -> None:
        """Sends the start message."""
        self._transport.write(beginning(rate_hz))

    def close(self) -> None:
        """Aborts the connection."""
        self._transport.abort()

    def _read(self, kind: int, content: bytes, now: float) -> None:
        if kind == CLOSE:
            self.closed = content[2:].decode() or "closed"
            self._transport.abort()
            return
        message = json.loads(content)
        if "label" in message:
            self.events.append((message["emitted_seconds"], now))
        elif message.get("status") == "ready":
            self.ready.set_result(None)


def spoken(number: int, rate_hz: int) -> np.ndarray:
    """Returns i16[t], ten digits of one synthetic voice in random order; `number` is the seed."""
    rng, parts = np.random.default_rng(number), []
    voice = make_voice(0, number)
    for digit in rng.permutation(len(DIGITS))[:WORDS_A_SOUND]:
        parts.append(prepare_clip(synthesise(DIGITS[digit], voice, rng), RATE_HZ, rate_hz))
        parts.append(np.zeros(int(GAP_SECONDS * rate_hz), np.int16))
    return np.concatenate(parts)


def cut(sound: np.ndarray, chunk_samples: int) -> list[bytes]:
    """Returns the WebSocket frames of a sound, which is padded with silence to a whole number of chunks."""
    whole = np.pad(sound, (0, -len(sound) % chunk_samples)).reshape(-1, chunk_samples)
    return [frame(BINARY, chunk.astype("<i2").tobytes()) for chunk in whole]


async def connect(url: str, number: int) -> list[Stream]:
    """Opens `number` streams. Raises InputError if the server does not answer or refuses one."""
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
    """Sends every chunk when it is due; the streams are evenly spaced in time and start at different positions."""
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
    """Returns the added delay of each word of a stream, in milliseconds."""
    delays = []
    for emitted_seconds, arrived in stream.events:
        chunk = max(0, math.ceil(emitted_seconds / chunk_seconds - 1e-6) - 1)
        delays.append(1e3 * (arrived - stream.sent_at[min(chunk, len(stream.sent_at) - 1)]))
    return delays


async def measure(args: argparse.Namespace) -> dict:
    """Runs the load test once and returns its result."""
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
        raise InputError(f"no word was recognised in {args.seconds:g} s; give sound with words, or more --seconds.")
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
    """Returns the 99th percentiles without and with hostile clients, measured in turn, and the change of the median."""
    late: dict[str, list[float]] = {"without": [], "with": []}
    lost = 0
    for _ in range(args.repeats):
        for name, values in late.items():
            with hostile_clients(args.url) if name == "with" else nullcontext():
                result = asyncio.run(measure(args))
            print(f"{name} hostile clients: {json.dumps(result)}", flush=True)
            values.append(result["added_ms"]["p99"])
            lost += result["streams_lost"]
            time.sleep(1)  # so that the server notices the closed connections
    return {"p99_ms": late, "added_by_hostile_ms": median(late["with"]) - median(late["without"]), "streams_lost": lost}


def main(argv: list[str]) -> int:
    """Runs the load test, prints the result, and returns 1 if a stream was lost."""
    parser = cli.parser("experiments.benchmarks.load", __doc__ or "")
    parser.prog = "python -m experiments.benchmarks.load"
    parser.add_argument("--url", default="ws://127.0.0.1:8000", help="default: ws://127.0.0.1:8000")
    parser.add_argument("--streams", type=int, default=500, help="default: 500")
    parser.add_argument("--seconds", type=float, default=60, help="default: 60")
    parser.add_argument("--rate", type=int, default=8000, help="sampling rate of the sound, in Hz; default: 8000")
    parser.add_argument("--chunk-ms", type=float, default=100, help="default: 100")
    parser.add_argument("--files", nargs="+", type=Path, default=[], help="sound files; default: synthetic voices")
    parser.add_argument("--hostile", action="store_true", help="measure without and with three hostile clients")
    parser.add_argument("--repeats", type=int, default=1, help="repetitions of that comparison; default: 1")
    add_out(parser)
    args = parser.parse_args(argv)
    if args.hostile:
        result = compare(args)
        print(f"hostile clients add {result['added_by_hostile_ms']:.0f} ms to the 99th percentile (medians)")
    else:
        result = asyncio.run(measure(args))
        added = result["added_ms"]
        print(f"{result['streams']} streams, {result['seconds']:g} s: {result['events_per_stream']:.1f} words a stream")
        print(f"added: median {added['median']:.0f} ms, 95 % {added['p95']:.0f} ms, 99 % {added['p99']:.0f} ms")
        print(f"{result['streams_lost']} streams lost; this program used {result['cores_used_here']:.2f} cores")
    print(json.dumps(result))
    write_record(args.out, result)
    return 1 if result["streams_lost"] else 0


if __name__ == "__main__":
    cli.run(main)
