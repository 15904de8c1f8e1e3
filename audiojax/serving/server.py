"""The live page's server: one port for the page and its sockets, one process, and no harm from who misbehaves."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from audiojax.errors import InputError, one_line
from audiojax.serving import access, assets
from audiojax.serving.sessions import Hall

if TYPE_CHECKING:
    from audiojax.streaming.recognizer import Recognizers

SOCKET_PATH = "/listen"
IDLE_SECONDS = 60.0
MAX_MESSAGE_BYTES = 2**17  # 1.4 s at 48 kHz
READ_BYTES = 2**12  # of one socket at once: asyncio's 256 KiB hold 30,000 messages, for which all others would wait
MAX_MESSAGES = 4  # of one client that wait to be read; what is beyond stays in the network


class Connection(ServerConnection):
    """A socket that is read a little at a time, from its first byte."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's socket transports
        super().connection_made(transport)


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens at `port`, any free one for 0; raises InputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise InputError(f"--port {port} is in use at {host}; stop who uses it, or choose another one.") from error
        if number in (errno.EACCES, errno.EPERM):
            raise InputError(f"--port {port} needs more rights than yours; choose one from 1024.") from error
        if isinstance(error, OverflowError):
            raise InputError(f"--port {port} is not a port; choose one from 0 to 65535.") from error
        raise InputError(f"--host {host} cannot be listened at ({one_line(error)}); try 127.0.0.1.") from error


def load_tls(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """What HTTPS needs; raises InputError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, path in (("certfile", certfile), ("keyfile", keyfile)):
        if path and not path.is_file():
            raise InputError(f"--{name} {path} is not a file; give a certificate and its key in PEM format.")
    try:
        context.load_cert_chain(certfile, keyfile, password="")  # never ask for one at the terminal
    except OSError as error:  # of which ssl.SSLError is one
        fix = "give a certificate in PEM format and the key, without a password, that belongs to it."
        raise InputError(f"--certfile {certfile} cannot be used ({one_line(error)}); {fix}") from error
    return context


def warm_up(recognizers: "Recognizers") -> None:
    """Has everything compiled before somebody waits for it."""
    slot = recognizers.connect()
    assert slot is not None
    recognizers.push(slot, np.zeros(4 * recognizers.step_samples, np.int16))
    recognizers.advance()
    recognizers.flush(slot)
    recognizers.leave(slot)


async def run(
    recognizers: "Recognizers",
    port: socket.socket,
    tls: ssl.SSLContext | None = None,
    *,
    announce: Callable[[str], None],
    idle_seconds: float = IDLE_SECONDS,
    allowed_hosts: Iterable[str] = (),
) -> None:
    """Serves until it is cancelled, or a signal comes, which it raises as KeyboardInterrupt once all is closed.

    Beside this machine's own names it answers for those in `allowed_hosts`.
    """
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def ask_to_stop(number: int) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not on Windows, nor beside the main thread: there the interpreter's own ways remain.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, ask_to_stop, number)
    hall = Hall(recognizers, idle_seconds)

    bound_host = port.getsockname()[0]
    names = access.own_names(bound_host) | {*allowed_hosts}

    async def reply(connection: ServerConnection, request: Request) -> Response | None:
        try:
            # With HTTPS no other name gets here: the browser refuses a certificate of another host.
            access.check(request.headers, bound_host=bound_host, names=names, any_name=tls is not None)
            return await asyncio.to_thread(_reply, request, recognizers.label_names)
        except access.Refused as refused:
            return assets.response(refused.status, f"{refused}\n".encode())

    server = serve(
        hall.receive,
        sock=port,
        ssl=tls,
        process_request=reply,
        create_connection=Connection,
        server_header=None,
        compression=None,  # sound does not shrink, and five hundred clients would cost time and memory
        ping_interval=None,  # who has vanished is silent, which `Hall.watch` sees
        close_timeout=2,
        max_size=MAX_MESSAGE_BYTES,
        max_queue=MAX_MESSAGES,
        logger=_logger(),
    )
    async with server:
        announce(url(port, tls))
        tasks = [asyncio.create_task(hall.listen()), asyncio.create_task(hall.watch())]
        try:
            ends: list[asyncio.Future[Any]] = [stop, *tasks]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # it never ends but by an error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    raise KeyboardInterrupt(stop.result())


def url(port: socket.socket, tls: ssl.SSLContext | None) -> str:
    """Where a browser on this machine finds the page."""
    host, number = port.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{number}/"


def exposure(port: socket.socket, tls: ssl.SSLContext | None) -> str | None:
    """Returns what it means that other machines reach the server; None where only this one does."""
    host, number = port.getsockname()[:2]
    if access.is_loopback(host):
        return None
    meaning = (
        f"every machine that reaches port {number} of this one can use the page and its processor; "
        "there is no password. --host 127.0.0.1 serves this machine only."
    )
    if tls:
        return meaning
    return (
        f"{meaning} Sound travels unencrypted, and browsers on other machines do not give the page the microphone "
        "without HTTPS: give --certfile and --keyfile."
    )


def _reply(request: Request, label_names: tuple[str, ...]) -> Response | None:
    """The answer to a request over HTTP; None lets a WebSocket through."""
    if request.method != "GET":
        return assets.response(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET is understood.\n")
    path, _, query = request.path.partition("?")
    if not path.startswith("/") or path.startswith("//"):  # another host's name, where a path belongs
        raise access.Refused(HTTPStatus.BAD_REQUEST, "The target of a request is a path, such as /.")
    if not any(value.lower() == "websocket" for value in request.headers.get_all("Upgrade")):
        return assets.answer(path, query, label_names)
    if path != SOCKET_PATH:
        return assets.response(HTTPStatus.NOT_FOUND, f"The socket is at {SOCKET_PATH}.\n".encode())
    return None


def _logger() -> logging.Logger:
    """Errors of this program only: what strangers send to an open port is none."""
    logger = logging.getLogger("audiojax.demo")
    logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")
    return logger
