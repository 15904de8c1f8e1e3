"""A source's clips at one rate: one int16 file, memory-mapped, and a manifest that says what it was made from.

A cache is built under a temporary name and renamed when whole, so that a killed run leaves none that is believed.
"""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from audiojax.data.atomic import whole_folder
from audiojax.data.sources import Recordings, read_sound
from audiojax.types import Clips, InputError, Progress, Speaker

FORMAT = 1  # raise it when the same files would give other clips
_CLIPS_PER_TASK = 200


def load_or_build(recordings: Recordings, *, rate_hz: int, folder: Path, progress: Progress) -> Clips:
    """The clips of `recordings` at `rate_hz`, from their cache below `folder`; built where it is missing or stale.

    Stale means that a file's name, size or time, the rate, or a library that decides the samples has changed.
    `progress` is called only while a cache is built.
    """
    where = folder / f"{recordings.source}-{rate_hz}Hz-{_digest(str(recordings.root.resolve()))[:10]}"
    wanted = _fingerprint(recordings, rate_hz)
    if _fingerprint_on_disk(where) != wanted:
        _build(recordings, rate_hz, where, wanted, progress)
    return _load(where)


def _fingerprint(recordings: Recordings, rate_hz: int) -> str:
    files = [(file.path, file.num_bytes, file.modified_ns) for file in recordings.files]
    return _digest(json.dumps([FORMAT, recordings.source, rate_hz, _versions(), recordings.speakers, files]))


def _versions() -> dict[str, str]:
    return {"libsndfile": soundfile.__libsndfile_version__, "soxr": soxr.__version__}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint_on_disk(where: Path) -> str | None:
    try:
        return json.loads((where / "manifest.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError):
        return None


def _build(recordings: Recordings, rate_hz: int, where: Path, fingerprint: str, progress: Progress) -> None:
    with whole_folder(where) as folder:
        content, lengths = hashlib.sha256(), []
        with open(folder / "samples.int16", "wb") as out:
            for clip in _read_all(recordings, rate_hz):
                sound = clip.astype("<i2").tobytes()
                content.update(sound)
                out.write(sound)
                lengths.append(len(clip))
                progress(len(lengths), len(recordings.files))
            out.flush()
            os.fsync(out.fileno())
        columns = {
            "label": [file.label for file in recordings.files],
            "speaker": [file.speaker for file in recordings.files],
            "take": [file.take for file in recordings.files],
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
            "clips": {"path": [file.path for file in recordings.files], **columns},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))


def _read_all(recordings: Recordings, rate_hz: int) -> Iterator[np.ndarray]:
    """Yields i16[t] of every file in order, read by as many processes as there are cores where that pays."""
    paths = [str(recordings.root / file.path) for file in recordings.files]
    tasks = [paths[i : i + _CLIPS_PER_TASK] for i in range(0, len(paths), _CLIPS_PER_TASK)]
    read = partial(_read_some, rate_hz=rate_hz)
    num_workers = min(len(tasks), os.cpu_count() or 1)
    if num_workers == 1:
        for task in tasks:
            yield from read(task)
        return
    # Not forked: a fork of a process in which jax runs threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        pending = [pool.submit(read, task) for task in tasks[: 2 * num_workers]]
        for position in range(len(tasks)):
            clips = pending.pop(0).result()
            if position + 2 * num_workers < len(tasks):  # a window, so that memory does not grow with the source
                pending.append(pool.submit(read, tasks[position + 2 * num_workers]))
            yield from clips


def _read_some(paths: list[str], rate_hz: int) -> list[np.ndarray]:
    return [read_sound(path, rate_hz) for path in paths]


def _load(where: Path) -> Clips:
    manifest = json.loads((where / "manifest.json").read_text())
    clips = manifest["clips"]
    offsets = np.concatenate([[0], np.cumsum(clips["length"], dtype=np.int64)])
    samples = np.memmap(where / "samples.int16", dtype="<i2", mode="r")
    if len(samples) != offsets[-1]:
        raise InputError(f"{where} is damaged: {len(samples)} samples instead of {offsets[-1]}; delete that folder.")
    return Clips(
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
