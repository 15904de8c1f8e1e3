"""Access control of the live page's server: it accepts requests for its own host name from its own page only.

A page of another site can send requests to a server on this machine or network. The Origin header reveals this, unless
the host name of that site resolves to this server (DNS rebinding); then the Host header names a foreign host.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from http import HTTPStatus

from websockets.datastructures import Headers

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{0,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Refused(Exception):
    """A request that is refused; its message is one sentence for the response, its `status` an HTTP status."""

    def __init__(self, status: HTTPStatus, sentence: str):
        super().__init__(sentence)
        self.status = status


def parse_authority(text: str) -> tuple[str, int | None]:
    """Returns the host, in lower case and without brackets, and the port of `HOST[:PORT]`, or None if there is none.

    Raises ValueError if `text` has another form.
    """
    match = _AUTHORITY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    address, name, port = match.groups()
    number = int(port) if port else None
    if number is not None and number > 65535:
        raise ValueError(f"{port} is not a port")
    return str(ipaddress.IPv6Address(address)) if address else name.lower().rstrip("."), number


def own_names(bound_host: str) -> frozenset[str]:
    """Returns the names under which other machines reach a server at the numeric address `bound_host`."""
    if is_loopback(bound_host):
        return frozenset()
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({name, short, f"{short}.local"})


def is_loopback(host: str) -> bool:
    """Returns whether a server at `host`, a numeric address, is reachable from this machine only."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def check(headers: Headers, *, bound_host: str, names: Iterable[str], any_name: bool) -> None:
    """Raises Refused unless the Host header names this server and the Origin, if there is one, is its own page.

    `bound_host` is the server's address, and `names` are its host names; `any_name` accepts every name in the Host
    header.
    """
    try:
        (value,) = headers.get_all("Host")
        host, port = parse_authority(value)
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "A request needs one Host header, HOST or HOST:PORT.") from None
    if not any_name and not _is_own(host, bound_host, names):
        sentence = f"This server does not answer for the host {host}; --allow-host {host} changes that."
        raise Refused(HTTPStatus.FORBIDDEN, sentence)
    origins = headers.get_all("Origin")
    if not origins:
        return
    try:
        (origin,) = origins
        scheme, origin_host, origin_port = _parse_origin(origin)
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "The Origin header is not SCHEME://HOST[:PORT].") from None
    default = _DEFAULT_PORTS.get(scheme)
    if (origin_host, origin_port or default) != (host, port or default):
        raise Refused(HTTPStatus.FORBIDDEN, "A page of another site may not use this server.")


def _parse_origin(text: str) -> tuple[str, str, int | None]:
    """Returns scheme, host and port; "null", which browsers send for a page without a site, has an empty host."""
    if text == "null":
        return "", "", None
    match = _ORIGIN.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not an origin")
    return match[1].lower(), *parse_authority(match[2])


def _is_own(host: str, bound_host: str, names: Iterable[str]) -> bool:
    if host == "localhost" or host.endswith(".localhost") or host in names:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A numeric address is not resolved by DNS, so another site cannot use it as its name.
    return address.is_loopback or not is_loopback(bound_host)
