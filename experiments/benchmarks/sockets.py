"""Encodes the messages of a WebSocket client; a library would need more CPU time than the server under test."""

import base64
import json
import os
import struct
from urllib.parse import urlsplit

from audiojax.errors import InputError

TEXT, BINARY, CLOSE = 1, 2, 8


def address(url: str) -> tuple[str, int, str, str]:
    """Returns host, port, network location and path of a URL. Raises InputError if its scheme is not ws."""
    parts = urlsplit(url)
    if parts.scheme != "ws" or not parts.hostname:
        raise InputError(f"--url is {url}; give one like ws://127.0.0.1:8000.")
    return parts.hostname, parts.port or 80, parts.netloc, parts.path.rstrip("/") or "/listen"


def handshake(host: str, path: str) -> bytes:
    """Returns the HTTP request that opens a WebSocket connection."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def beginning(rate_hz: int) -> bytes:
    """Returns the frame that starts a stream."""
    return frame(TEXT, json.dumps({"rate_hz": rate_hz}).encode())


def frame(kind: int, content: bytes) -> bytes:
    """Returns a WebSocket frame of a client, with a mask of zero, so that the content is not changed."""
    size = len(content)
    length = struct.pack("!B", 128 | size) if size < 126 else struct.pack("!BH", 128 | 126, size)
    return bytes([128 | kind]) + length + bytes(4) + content
