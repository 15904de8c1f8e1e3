"""WebSocket clients' bytes, written by hand: a library costs several times as much as what is measured with them."""

import base64
import json
import os
import struct
from urllib.parse import urlsplit

from audiojax.errors import InputError

TEXT, BINARY, CLOSE = 1, 2, 8


def address(url: str) -> tuple[str, int, str, str]:
    """Host, port, host and port as in a header, and path."""
    parts = urlsplit(url)
    if parts.scheme != "ws" or not parts.hostname:
        raise InputError(f"--url is {url}; give one like ws://127.0.0.1:8000.")
    return parts.hostname, parts.port or 80, parts.netloc, parts.path.rstrip("/") or "/listen"


def handshake(host: str, path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def beginning(rate_hz: int) -> bytes:
    return frame(TEXT, json.dumps({"rate_hz": rate_hz}).encode())


def frame(kind: int, content: bytes) -> bytes:
    """A client's WebSocket frame, whose mask is zero, so that nothing has to be masked."""
    size = len(content)
    length = struct.pack("!B", 128 | size) if size < 126 else struct.pack("!BH", 128 | 126, size)
    return bytes([128 | kind]) + length + bytes(4) + content
