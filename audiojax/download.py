"""Downloads a public data set, at a pinned commit, into a folder that the other commands read.

  python -m audiojax.download fsdd
  python -m audiojax.download audiomnist --root /data/audiomnist

An interrupted download is resumed if the server supports it. Only sound files and the table of speakers are unpacked,
and the folder is created when it is complete.
"""

import pkgutil
from pathlib import Path

from audiojax import cli
from audiojax import config as configs
from audiojax.schema import SOURCES


def main(argv: list[str]) -> None:
    """Downloads the public data set that the arguments `argv` name, and prints a command that trains on it."""
    parser = cli.parser("download", __doc__ or "")
    parser.add_argument("name", choices=sorted(name for name, source in SOURCES.items() if source.download))
    parser.add_argument("--root", type=Path, help="folder to create (default: one in audiojax's cache)")
    parser.add_argument("--url", help="another URL of the same archive (.tar.gz), such as a mirror")
    args = parser.parse_args(argv)
    root = (args.root or configs.cache_dir() / args.name).expanduser().resolve()
    found = pkgutil.resolve_name(SOURCES[args.name].download)(root, args.url)
    print(f"{len(found.files):,} clips of {len(found.speakers)} speakers are in {root}; next, for example:")
    print(f"python -m audiojax.main --config configs/cnn.py:{args.name} --config.data.root={root}")


if __name__ == "__main__":
    cli.run(main)
