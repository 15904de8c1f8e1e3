"""Serves a page that recognises digits from the microphone of a browser, live.

It prints the address of the page. Browsers allow the microphone on this machine (localhost) or over HTTPS only: for
other machines give --host 0.0.0.0 with --certfile and --keyfile. The server accepts requests for the names of this
machine; --allow-host adds another name.
"""

import asyncio
import functools
import importlib.util
import sys
from pathlib import Path

from audiojax import cli
from audiojax.errors import InputError


def main(argv: list[str]) -> None:
    """Runs the server until it is interrupted."""
    parser = cli.parser("demo", __doc__ or "")
    parser.add_argument(
        "--workdir", type=Path, help="folder of a run of configs/listen.py; default: the packaged recogniser"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0 chooses a free one")
    parser.add_argument("--certfile", type=Path, help="a certificate (PEM), for HTTPS")
    parser.add_argument("--keyfile", type=Path, help="its key, if it is in another file")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="another host name of this server, for example behind a proxy; can be repeated",
    )
    parser.add_argument("--max-clients", type=int, default=64, help="concurrent clients; default: 64")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("websockets") is None:
        raise InputError("the live page needs an extra: pip install -e '.[web]'.")
    if args.max_clients < 1:
        raise InputError(f"--max-clients is {args.max_clients}; give 1 or more.")
    if args.keyfile and not args.certfile:
        raise InputError(f"--keyfile {args.keyfile} needs its certificate; give --certfile too.")

    from audiojax.serving import access, server

    hosts = {args.host.lower()}
    for name in args.allow_host:
        try:
            hosts.add(access.parse_authority(name)[0])
        except ValueError as error:
            raise InputError(f"--allow-host {name} cannot be used; give a host name such as audio.example.") from error
    tls = server.load_tls(args.certfile, args.keyfile) if args.certfile else None
    with server.open_port(args.host, args.port) as port:
        cli.setup_jax()
        from audiojax.streaming.recognizer import Recognizers

        recognizers = Recognizers.from_workdir(args.workdir, num_streams=args.max_clients)
        server.warm_up(recognizers)
        if meaning := server.exposure(port, tls):
            print(f"audiojax: {meaning}", file=sys.stderr, flush=True)
        announce = functools.partial(print, flush=True)
        asyncio.run(server.run(recognizers, port, tls, announce=announce, allowed_hosts=hosts))


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the server has stopped.")
