"""The live page's server: one process that serves the page and its WebSockets on one port."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from audiojax.errors import InputError, one_line
from audiojax.serving import access, assets
from audiojax.serving.sessions import Sessions

if TYPE_CHECKING:
    from audiojax.streaming.recognizer import Recognizers

SOCKET_PATH = "/listen"
IDLE_SECONDS = 60.0
MAX_MESSAGE_BYTES = 2**17  # 1.4 s at 48 kHz
READ_BYTES = 2**12  # per read of a socket: asyncio's 256 KiB can have 30,000 messages, which would delay other clients
MAX_MESSAGES = 4  # of one client in the queue of the library; further ones stay in the network


class Connection(ServerConnection):
    """A WebSocket connection whose socket is read in pieces of at most `READ_BYTES`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limits the size of a read from the socket; called by asyncio when the connection is open."""
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # attribute of asyncio's socket transports
        super().connection_made(transport)


def open_port(host: str, port: int) -> socket.socket:
    """Returns a socket that is bound to `port` of the address `host`, or to a free port if `port` is 0.

    Raises InputError if it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise InputError(
                f"--port {port} is in use at {host}; stop the program that uses it, or choose another port."
            ) from error
        if number in (errno.EACCES, errno.EPERM):
            raise InputError(f"--port {port} requires administrator rights; choose a port of 1024 or above.") from error
        if isinstance(error, OverflowError):
            raise InputError(f"--port {port} is not a port; choose a port from 0 to 65535.") from error
        raise InputError(f"--host {host} cannot be used ({one_line(error)}); try 127.0.0.1.") from error


def load_tls(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """Returns the TLS context of HTTPS for a certificate and its key in PEM format.

    `keyfile` is None if the key is in `certfile`. Raises InputError if the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, path in (("certfile", certfile), ("keyfile", keyfile)):
        if path and not path.is_file():
            raise InputError(f"--{name} {path} is not a file; give a certificate and its key in PEM format.")
    try:
        context.load_cert_chain(certfile, keyfile, password="")  # never prompt for a password
    except OSError as error:  # ssl.SSLError is a subclass
        fix = "give a certificate in PEM format and its key, without a password."
        raise InputError(f"--certfile {certfile} cannot be used ({one_line(error)}); {fix}") from error
    return context


def warm_up(recognizers: "Recognizers") -> None:
    """Runs one stream of silence, so that everything is compiled before the first client connects."""
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
    """Runs the server until it is cancelled or receives SIGINT or SIGTERM.

    Args:
        recognizers: Recognises words in the streams of the clients; its number of streams limits that of clients.
        port: A bound socket, see `open_port`.
        tls: The context of HTTPS; None for HTTP.
        announce: Called with the URL of the page when the server is ready.
        idle_seconds: Clients that send nothing for this time are disconnected.
        allowed_hosts: Host names that are accepted beside those of this machine.

    Raises:
        KeyboardInterrupt: A signal was received; the connections are closed.
    """
    stop, sessions = _stop_signal(), Sessions(recognizers, idle_seconds)
    bound_host = port.getsockname()[0]
    names = access.own_names(bound_host) | {*allowed_hosts}

    server = serve(
        sessions.receive,
        sock=port,
        ssl=tls,
        # With HTTPS, the browser already refuses a certificate of another host.
        process_request=_replies(recognizers, bound_host, names, any_name=tls is not None),
        create_connection=Connection,
        server_header=None,
        compression=None,  # sound compresses badly; compression would cost time and memory per client
        ping_interval=None,  # `Sessions.watch` disconnects silent clients
        close_timeout=2,
        max_size=MAX_MESSAGE_BYTES,
        max_queue=MAX_MESSAGES,
        logger=_logger(),
    )
    async with server:
        announce(url(port, tls))
        tasks = [asyncio.create_task(sessions.recognise()), asyncio.create_task(sessions.watch())]
        try:
            ends: list[asyncio.Future[Any]] = [stop, *tasks]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # raises, because the tasks end by errors only
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    raise KeyboardInterrupt(stop.result())


def _replies(
    recognizers: "Recognizers", bound_host: str, names: Iterable[str], *, any_name: bool
) -> Callable[[ServerConnection, Request], Awaitable[Response | None]]:
    """Returns the function that answers HTTP requests; it refuses those of other hosts and origins."""

    async def reply(connection: ServerConnection, request: Request) -> Response | None:
        try:
            access.check(request.headers, bound_host=bound_host, names=names, any_name=any_name)
            return await asyncio.to_thread(_reply, request, recognizers)
        except access.Refused as refused:
            return assets.response(refused.status, f"{refused}\n".encode())

    return reply


def _stop_signal() -> asyncio.Future[int]:
    """Returns a future of the number of the first SIGINT or SIGTERM that the process receives."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def ask_to_stop(number: int) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not available on Windows and outside the main thread, where Python's default handlers remain.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, ask_to_stop, number)
    return stop


def url(port: socket.socket, tls: ssl.SSLContext | None) -> str:
    """Returns the URL of the page for a browser on this machine; it is https with `tls`."""
    host, number = port.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{number}/"


def exposure(port: socket.socket, tls: ssl.SSLContext | None) -> str | None:
    """Returns a warning if other machines can reach the server at the socket `port`; None otherwise."""
    host, number = port.getsockname()[:2]
    if access.is_loopback(host):
        return None
    meaning = (
        f"every machine that can reach port {number} of this one can use the page and load the processor; "
        "there is no password. --host 127.0.0.1 serves this machine only."
    )
    if tls:
        return meaning
    return (
        f"{meaning} Sound is sent unencrypted, and browsers on other machines do not allow the microphone without "
        "HTTPS: give --certfile and --keyfile."
    )


def _reply(request: Request, recognizers: "Recognizers") -> Response | None:
    """Returns the response to an HTTP request; None accepts a WebSocket."""
    if request.method != "GET":
        return assets.response(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET is supported.\n")
    path, _, query = request.path.partition("?")
    if not path.startswith("/") or path.startswith("//"):  # an absolute URL or a host name instead of a path
        raise access.Refused(HTTPStatus.BAD_REQUEST, "The target of a request is a path, such as /.")
    if not any(value.lower() == "websocket" for value in request.headers.get_all("Upgrade")):
        return assets.answer(path, query, recognizers)
    if path != SOCKET_PATH:
        return assets.response(HTTPStatus.NOT_FOUND, f"The socket is at {SOCKET_PATH}.\n".encode())
    return None


def _logger() -> logging.Logger:
    """Returns a logger without the errors that invalid requests of other programs cause."""
    logger = logging.getLogger("audiojax.demo")
    logger.addFilter(lambda record: record.getMessage() != "opening handshake failed")
    return logger
