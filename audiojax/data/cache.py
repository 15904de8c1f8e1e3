"""Cache of the clips of a source at one rate: a memory-mapped int16 file and a manifest.

A cache is written under a temporary name and renamed when complete, so that a killed run leaves no incomplete cache.
Later changes are detected by the checksums in the manifest; the cache is then built again.
"""

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from audiojax.audio.sound_files import read_sound
from audiojax.data.clips import Clips, Speaker
from audiojax.data.sources import Recordings
from audiojax.errors import InputError
from audiojax.io import workers
from audiojax.io.files import MARKER, whole_folder
from audiojax.io.progress import Progress

FORMAT = 4  # increment it when the same files yield other clips, or when the fields of the manifest change
_CLIPS_PER_TASK = 200
_BLOCK_BYTES = 4 << 20  # per checksum
_verified: set[tuple[Any, ...]] = (
    set()
)  # identities and checksums of the files of samples that this process has compared


def load_or_build(
    recordings: Recordings, *, rate_hz: int, on_bad_file: str, folder: Path, progress: Progress
) -> tuple[Clips, tuple[str, ...], tuple[str, ...]]:
    """Returns the clips of `recordings` at `rate_hz` from their cache below `folder`, which is built if needed.

    A cache is built again when the name, size or modification time of a file, the rate, or the version of a decoding
    library has changed. `progress` is called with (files done, files in total) only while a cache is built. A file that
    cannot be used raises InputError if `on_bad_file` is "stop", and is left out if it is "skip".

    Returns:
        The clips; a sentence for each file left out; and a sentence for each file that is shorter than its header
        states.
    """
    where = folder / f"{recordings.source}-{rate_hz}Hz-{_digest(str(recordings.root.resolve()))[:10]}"
    wanted = _fingerprint(recordings, rate_hz, on_bad_file)
    loaded = _load(where, wanted)
    for _ in range(2):  # again if another process has meanwhile written another cache there
        if loaded is None:
            _build(recordings, rate_hz, on_bad_file, where, wanted, progress)
            loaded = _load(where, wanted)
    if loaded is None:
        raise InputError(f"{where} changes while it is read; choose another folder with --config.data.cache.")
    clips, skipped, shorter = loaded
    return dataclasses.replace(clips, official=recordings.official), skipped, shorter


def _fingerprint(recordings: Recordings, rate_hz: int, on_bad_file: str) -> str:
    files = [(file.path, file.num_bytes, file.modified_ns) for file in recordings.files]
    about = [recordings.source, rate_hz, on_bad_file, recordings.speakers, recordings.skipped]
    return _digest(json.dumps([FORMAT, _versions(), about, files]))


def _versions() -> dict[str, str]:
    return {"libsndfile": soundfile.__libsndfile_version__, "soxr": soxr.__version__}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _build(
    recordings: Recordings, rate_hz: int, on_bad_file: str, where: Path, fingerprint: str, progress: Progress
) -> None:
    with whole_folder(where, known=("samples.int16", "manifest.json", MARKER)) as folder:
        content, files, lengths, skipped, shorter = hashlib.sha256(), [], [], list(recordings.skipped), list[str]()
        with open(folder / "samples.int16", "wb") as out:
            read = _read_all(recordings, rate_hz)
            for done, (file, (clip, warnings)) in enumerate(zip(recordings.files, read, strict=True), 1):
                progress(done, len(recordings.files))
                if isinstance(clip, str):
                    if on_bad_file != "skip":
                        raise InputError(f"{clip.rstrip('.')}, or leave it out: --config.data.on_bad_file=skip.")
                    skipped.append(clip)
                    continue
                shorter += warnings
                sound = clip.astype("<i2").tobytes()
                content.update(sound)
                out.write(sound)
                files.append(file)
                lengths.append(len(clip))
            if not files:
                about = f"{len(skipped):,} files are bad, as {skipped[0].rstrip('.')}"
                raise InputError(f"{recordings.root} has no usable sound: {about}.")
            out.flush()
            os.fsync(out.fileno())
        samples = np.memmap(folder / "samples.int16", dtype=np.uint8, mode="r")
        columns = {
            "label": [file.label for file in files],
            "speaker": [file.speaker for file in files],
            "take": [file.take for file in files],
            "length": lengths,
        }
        names = {"label_names": recordings.label_names, "speakers": recordings.speakers, "rate_hz": rate_hz}
        content.update(json.dumps([columns, names]).encode())
        manifest = {
            "source": recordings.source,
            "root": str(recordings.root.resolve()),
            "format": FORMAT,
            "versions": _versions(),
            "fingerprint": fingerprint,
            "key": content.hexdigest(),
            **names,
            "clips": {"path": [file.path for file in files], **columns},
            "skipped": skipped,
            "shorter": shorter,
            "checksums": _checksums(samples),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": _digest(json.dumps(manifest))}))
        del samples  # Windows does not rename a folder with a mapped file


def _read_all(recordings: Recordings, rate_hz: int) -> Iterator[tuple[np.ndarray | str, list[str]]]:
    """Yields, for each file in order, i16[t] or the reason why it cannot be used, and warnings.

    Many files are read by a process per core.
    """
    paths = [str(recordings.root / file.path) for file in recordings.files]
    tasks = [paths[i : i + _CLIPS_PER_TASK] for i in range(0, len(paths), _CLIPS_PER_TASK)]
    read = partial(_read_some, rate_hz=rate_hz)
    num_workers = min(len(tasks), workers.num_cores())
    if num_workers == 1:
        for task in tasks:
            yield from read(task)
        return
    with workers.pool(num_workers) as pool:
        pending = [pool.submit(read, task) for task in tasks[: 2 * num_workers]]
        for position in range(len(tasks)):
            clips = pending.pop(0).result()
            if position + 2 * num_workers < len(tasks):  # a window, which limits the memory
                pending.append(pool.submit(read, tasks[position + 2 * num_workers]))
            yield from clips


def _read_some(paths: list[str], rate_hz: int) -> list[tuple[np.ndarray | str, list[str]]]:
    clips: list[tuple[np.ndarray | str, list[str]]] = []
    for path in paths:
        warnings: list[str] = []
        try:
            clips.append((read_sound(path, rate_hz, warn=warnings.append, refuse_silence=True), warnings))
        except InputError as error:
            clips.append((str(error), []))
    return clips


def _checksums(samples: np.ndarray) -> list[int]:
    """Returns the CRC-32 of each block of the samples."""
    content = memoryview(samples).cast("B")  # type: ignore[arg-type]  # numpy declares no buffer before Python 3.12
    return [zlib.crc32(content[start : start + _BLOCK_BYTES]) for start in range(0, len(content), _BLOCK_BYTES)]


def _is_verified(samples: np.ndarray, stat: os.stat_result, checksums: list[int]) -> bool:
    """Returns whether the samples have these checksums; compares them once per process and identity of their file."""
    identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, *checksums)
    if identity not in _verified and _checksums(samples) == checksums:
        _verified.add(identity)
    return identity in _verified


def _load(where: Path, fingerprint: str) -> tuple[Clips, tuple[str, ...], tuple[str, ...]] | None:
    """Loads a cache; returns None if it is absent, stale or damaged."""
    try:
        manifest = json.loads((where / "manifest.json").read_text())
        if manifest["fingerprint"] != fingerprint or manifest.pop("digest") != _digest(json.dumps(manifest)):
            return None
        clips = manifest["clips"]
        offsets = np.concatenate([[0], np.cumsum(clips["length"], dtype=np.int64)])
        with open(where / "samples.int16", "rb") as file:
            samples = np.memmap(file, dtype="<i2", mode="r")
            if not _is_verified(samples, os.fstat(file.fileno()), manifest["checksums"]):
                return None
        loaded = Clips(
            source=manifest["source"],
            rate_hz=manifest["rate_hz"],
            samples=samples,
            offsets=offsets,
            label=np.asarray(clips["label"], np.int32),
            speaker=np.asarray(clips["speaker"]),
            take=np.asarray(clips["take"], np.int32),
            path=tuple(clips["path"]),
            label_names=tuple(manifest["label_names"]),
            speakers={name: Speaker(*about) for name, about in manifest["speakers"].items()},
            key=manifest["key"],
        )
        whole = len(samples) == offsets[-1] and {len(column) for column in clips.values()} == {len(loaded)}
        return (loaded, tuple(manifest["skipped"]), tuple(manifest["shorter"])) if whole else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
