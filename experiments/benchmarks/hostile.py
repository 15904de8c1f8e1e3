"""Hostile clients of the live page's server, which try to delay other clients, for `experiments.benchmarks.load`."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from audiojax.errors import InputError
from experiments.benchmarks.sockets import BINARY, TEXT, address, beginning, frame, handshake

WRITE_BYTES = 2**16  # per write


def hostile_messages() -> dict[str, tuple[bytes, bytes]]:
    """Returns, for each hostile client, the bytes that it sends once and the bytes that it then repeats."""
    sample = frame(BINARY, bytes(2))
    rates = b"".join(beginning(rate_hz) + sample for rate_hz in range(44_101, 44_301, 2))
    ends = beginning(8000) + sample + frame(TEXT, b'{"end": true}')
    sound = np.random.default_rng(0).integers(-9000, 9000, WRITE_BYTES // 2 - 1).astype("<i2").tobytes()
    return {
        "coprime rate": (beginning(767_999) + frame(BINARY, bytes(200)), frame(BINARY, sound)),
        "alternating rates": (b"", rates * (WRITE_BYTES // len(rates) + 1)),
        "ends": (b"", ends * (WRITE_BYTES // len(ends) + 1)),
    }


async def attack(url: str, first: bytes, again: bytes) -> None:
    """Sends as fast as the server reads, and connects again whenever the connection ends; never returns."""
    host, port, netloc, path = address(url)
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(handshake(netloc, path) + first)
        tasks = [asyncio.create_task(_read_until_error(reader)), asyncio.create_task(_write(writer, again))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.transport.abort()


async def _read_until_error(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while (content := await reader.read(2**16)) and b'"error"' not in content:
            pass


async def _write(writer: asyncio.StreamWriter, content: bytes) -> None:
    with suppress(OSError):
        while True:
            writer.write(content)
            await writer.drain()


def attack_all(url: str) -> None:
    """Runs all hostile clients; the entry point of their process."""

    async def run() -> None:
        await asyncio.gather(*(attack(url, *messages) for messages in hostile_messages().values()))

    asyncio.run(run())


@contextmanager
def hostile_clients(url: str) -> Iterator[None]:
    """Runs the hostile clients in a process of their own while the context is open."""
    process = multiprocessing.get_context("spawn").Process(target=attack_all, args=(url,), daemon=True)
    process.start()
    try:
        time.sleep(2)  # the process imports this module and connects
        yield
        if not process.is_alive():
            raise InputError(f"the hostile clients failed at {url}; is the server's --max-clients large enough?")
    finally:
        process.terminate()
        process.join()
