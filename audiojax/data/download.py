"""Downloads public data sets; an interrupted download is resumed."""

import contextlib
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import requests

from audiojax.data import sources
from audiojax.errors import InputError, one_line
from audiojax.io import console
from audiojax.io.files import check_room, only_process, whole_folder
from audiojax.io.progress import Progress

MAX_FILE_BYTES = 5_000_000


MAX_ARCHIVE_BYTES = 8_000_000_000


_NUM_TABLES = 1  # files beside the clips, less one: a table of speakers, or lists


_BLOCK_BYTES = 1 << 14


_TIMEOUT_SECONDS = 20.0


_NUM_TRIES = 4


class Archive(NamedTuple):
    """A data set that is published as a .tar.gz archive, and its expected content.

    `read` lists the recordings in the folder of the unpacked data set.
    """

    name: str
    url: str
    by_hand: str  # commands that create the same folder DIR
    members: str  # pattern of the required paths below the top folder of the archive
    num_speakers: int
    num_clips: int
    read: Callable[[Path], sources.Recordings]


def _in_git(name: str, repository: str, commit: str, *rest: Any) -> Archive:
    """Returns the archive of a commit on GitHub."""
    by_hand = f"git clone https://github.com/{repository} DIR && git -C DIR checkout {commit[:10]}"
    return Archive(name, f"https://codeload.github.com/{repository}/tar.gz/{commit}", by_hand, *rest)


FSDD = _in_git(
    "fsdd",
    "Jakobovski/free-spoken-digit-dataset",
    "f542ed54a2200dcbc85d7545f3833ae4b6c02898",
    r"recordings/[0-9]_[A-Za-z]+_[0-9]+\.wav",
    6,
    3_000,
    sources.fsdd,
)
AUDIOMNIST = _in_git(
    "audiomnist",
    "soerenab/AudioMNIST",
    "544b0f4bc65227e54332e665d5e02c24be6732c2",
    r"data/([0-9]{2}/[0-9]_[0-9]{2}_[0-9]+\.wav|audioMNIST_meta\.txt)",
    60,
    30_000,
    sources.audiomnist,
)


def fsdd(root: Path, url: str | None = None) -> sources.Recordings:
    """Downloads the Free Spoken Digit Dataset into `root`, unless it exists, and returns its recordings.

    `url` is another URL of the same archive. Raises InputError if the network fails or the content is not complete.
    """
    return fetch(FSDD, root, url)


def audiomnist(root: Path, url: str | None = None) -> sources.Recordings:
    """Downloads AudioMNIST into `root`, unless it exists, and returns its recordings.

    `url` is another URL of the same archive. Raises InputError if the network fails or the content is not complete.
    """
    return fetch(AUDIOMNIST, root, url)


def fetch(archive: Archive, root: Path, url: str | None = None) -> sources.Recordings:
    """Downloads, unpacks and checks an archive into `root`, unless it exists, and returns its recordings.

    `url` is another URL of the archive. Raises InputError, with instructions for a manual download, if the network
    fails or the archive is not as expected.
    """
    transfer = root.with_name(f"{root.name}.download")
    if not _is_there(root):
        with only_process(transfer):
            if not _is_there(root):  # another process may have finished before this one had the lock
                packed = transfer / "archive.tar.gz"
                with console.progress(f"downloading {archive.name}", "bytes") as report:
                    _transfer(archive, url or archive.url, packed, report)
                with console.progress(f"unpacking {archive.name}") as report, whole_folder(root) as partial:
                    _unpack(archive, packed, partial, report)
            _clear(transfer)  # with the lock file: a process that waits for it then finds the folder complete
    return _check(archive, root)


def _clear(transfer: Path) -> None:
    """Deletes the files of a transfer, and its folder if it is then empty."""
    for name in ("archive.tar.gz", "archive.tar.part", "archive.tar.etag", "lock"):
        with contextlib.suppress(OSError):
            (transfer / name).unlink()
    with contextlib.suppress(OSError):
        transfer.rmdir()


def _is_there(root: Path) -> bool:
    return root.exists() and any(root.iterdir())


def _transfer(archive: Archive, url: str, packed: Path, progress: Progress) -> None:
    """Downloads `packed`; resumes an earlier download if the server supports it."""
    part = packed.with_suffix(".part")
    for number in range(_NUM_TRIES):
        if packed.exists():
            return
        try:
            _transfer_once(url, part, packed, progress)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if number == _NUM_TRIES - 1:
                raise InputError(_by_hand(archive, f"{url} cannot be fetched ({_reason(error)})")) from None
            time.sleep(2**number / 4)
        except requests.RequestException as error:
            raise InputError(_by_hand(archive, f"{url} cannot be fetched ({_reason(error)})")) from None


def _transfer_once(url: str, part: Path, packed: Path, progress: Progress) -> None:
    tag_file = part.with_suffix(".etag")
    have = part.stat().st_size if part.exists() and tag_file.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:  # with If-Range, changed content is sent completely
        headers |= {"Range": f"bytes={have}-", "If-Range": tag_file.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as answer:
        if have and answer.status_code == 416:  # nothing is left to send
            if (
                answer.headers.get("Content-Range") == f"bytes */{have}"
            ):  # an earlier run was killed before the renaming
                part.rename(packed)
                return
            part.unlink()
            raise requests.ConnectionError(f"the server has less than the {have:,} bytes of an earlier download")
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0
            tag_file.unlink(missing_ok=True)
            if answer.headers.get("ETag", "").startswith('"'):  # a weak ETag does not allow ranges
                tag_file.write_text(answer.headers["ETag"])
        total = have + int(answer.headers.get("Content-Length", 0))
        if total > have:
            check_room(part.parent, total - have)
        with part.open("ab" if have else "wb") as out:
            for block in answer.iter_content(_BLOCK_BYTES):
                out.write(block)
                have += len(block)
                progress(have, max(total, have))
    if have < total:  # requests does not notice a connection that is closed early
        raise requests.ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")
    part.rename(packed)
    tag_file.unlink(missing_ok=True)


def _unpack(archive: Archive, packed: Path, folder: Path, progress: Progress) -> None:
    """Writes the required members, regular files of limited size, into `folder`."""
    required = re.compile(rf"[^/]+/({archive.members})")
    try:
        with tarfile.open(packed, "r:gz") as members:
            done = 0
            for member in members:
                match = required.fullmatch(member.name)
                too_long = (
                    not 0 <= member.size <= MAX_ARCHIVE_BYTES - member.offset_data
                )  # a decompression bomb is not even skipped
                if not too_long and (match is None or not member.isfile()):
                    continue
                if match is None or too_long or member.size > MAX_FILE_BYTES or done > archive.num_clips + _NUM_TABLES:
                    raise InputError(f"the archive has more or larger files than {archive.name}, such as {member.name}")
                target = folder / match[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(member)
                assert content is not None
                with content, target.open("wb") as out:
                    shutil.copyfileobj(content, out)
                done += 1
                progress(done, max(done, archive.num_clips))
            stream = members.fileobj
            assert stream is not None
            while stream.read(1 << 20):  # gzip compares the checksum at the end of the stream
                if stream.tell() > MAX_ARCHIVE_BYTES:
                    raise InputError("the archive has too much data after its last file")
        _check(archive, folder)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OSError, InputError) as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the archive
            raise
        packed.unlink(missing_ok=True)
        reason = _reason(error).replace(str(folder), "it")
        raise InputError(_by_hand(archive, f"the downloaded archive is damaged and was deleted ({reason})")) from None


def _check(archive: Archive, root: Path) -> sources.Recordings:
    found = archive.read(root)
    if (len(found.speakers), len(found.files)) != (archive.num_speakers, archive.num_clips):
        raise InputError(
            f"{root} holds {len(found.files):,} clips of {len(found.speakers)} speakers instead of "
            f"{archive.num_clips:,} of {archive.num_speakers}; delete that folder, or give another --root."
        )
    return found


def _by_hand(archive: Archive, problem: str) -> str:
    return f"{problem}; try again, or run {archive.by_hand}, and set --config.data.root=DIR."


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    return one_line(getattr(inner, "reason", inner))
