"""AudioMNIST from the Hugging Face hub (gilkeyio/AudioMNIST): parquet files with sound and speaker.

It needs pyarrow and huggingface_hub, the extra `[hub]`. A snapshot is unpacked once, into the cache, in the layout of
AudioMNIST.
"""

import dataclasses
import hashlib
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audiojax import config as configs
from audiojax.data import sources
from audiojax.data.listing import without_suffix
from audiojax.errors import InputError, one_line
from audiojax.io.files import whole_folder

NAME = "gilkeyio/AudioMNIST"
COLUMNS = ("audio", "digit", "speaker_id", "gender", "accent", "age")
NUM_VALIDATION = 12  # of the training speakers, at most a quarter of them
_LISTS = "official.json"


def read(root: Path | str, on_bad_file: str = "stop", *, revision: str = "") -> sources.Recordings:
    """Lists the clips of a snapshot: a folder with parquet files, or a data set's name on the hub, as OWNER/NAME.

    Their official split is that of the snapshot, with some of its training speakers for validation.

    Args:
        root: The folder or the name.
        on_bad_file: "stop" raises InputError for a file that is not named like AudioMNIST's, "skip" leaves it out.
        revision: The commit, branch or tag of a data set given by name; "" for the newest.

    Raises:
        InputError: The extra `[hub]` is missing, the hub cannot be reached, or the files are not AudioMNIST's.
    """
    snapshot = Path(root).expanduser()
    if not snapshot.is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(root)):
        snapshot = _fetch(str(root), revision)
    files = sorted(snapshot.rglob("*.parquet"))
    if not files:
        raise InputError(f"{root} holds no parquet file; set --config.data.root to a snapshot's folder, or to {NAME}.")
    about = [(str(file.relative_to(snapshot)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(json.dumps([str(snapshot.resolve()), about]).encode()).hexdigest()[:16]
    unpacked = configs.cache_dir() / f"hub-{digest}"
    if not unpacked.exists():
        with whole_folder(unpacked) as folder:
            _unpack(files, folder)
    official = {part: frozenset(paths) for part, paths in json.loads((unpacked / _LISTS).read_text()).items()}
    return dataclasses.replace(sources.audiomnist(unpacked, on_bad_file), source="hub", official=official)


def download(root: Path, url: str | None = None) -> sources.Recordings:
    """Downloads AudioMNIST from the Hugging Face hub into `root` and lists its clips.

    `url` is the name OWNER/NAME of the data set on the hub, by default `NAME`.
    """
    return read(_fetch(url or NAME, "", root))


def _library(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        raise InputError(f"the source hub needs {name}, an extra: pip install 'audiojax[hub]'.")
    return importlib.import_module(name)


def _fetch(name: str, revision: str, folder: Path | None = None) -> Path:
    """Downloads a snapshot into `folder`, by default the hub's cache, and returns its folder."""
    hub = _library("huggingface_hub")
    try:
        how: dict[str, Any] = dict(revision=revision or None, local_dir=folder, allow_patterns="*.parquet")
        return Path(hub.snapshot_download(name, repo_type="dataset", **how))
    except Exception as error:  # of several libraries: the hub's, of HTTP, of sockets
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{name}{at} cannot be fetched from the Hugging Face hub ({one_line(error, 160)}); give the folder of a "
            "snapshot as --config.data.root, or try again with a network."
        ) from None


def _unpack(files: list[Path], folder: Path) -> None:
    """Writes AudioMNIST's layout into `folder`, and the lists of its validation and test clips."""
    takes: Counter[tuple[int, str]] = Counter()
    speakers: dict[str, dict[str, Any]] = {}
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for file in files:
        part = "test" if file.name.startswith("test") or file.parent.name == "test" else "train"
        for row in _rows(file):
            try:
                digit, name, sound = int(row["digit"]), f"{int(row['speaker_id']):02d}", row["audio"]["bytes"]
                suffix = Path(row["audio"].get("path") or "a.wav").suffix or ".wav"
                path = f"data/{name}/{digit}_{name}_{takes[digit, name]}{suffix}"
                speakers.setdefault(name, {key: row[key] for key in ("gender", "accent", "age")})
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(sound)
            except (TypeError, ValueError, AttributeError) as error:
                raise InputError(
                    f"{file} has a row that is no clip of AudioMNIST ({one_line(error, 100)}); fetch it again."
                ) from None
            takes[digit, name] += 1
            parts[part].setdefault(name, []).append(without_suffix(path))
    (folder / "data" / "audioMNIST_meta.txt").write_text(json.dumps(speakers))
    names = sorted(set(parts["train"]) - set(parts["test"]))
    number = min(NUM_VALIDATION, max(len(names) // 4, 1))
    validation = names[:: max(len(names) // number, 1)][:number]
    lists = {"validation": [path for name in validation for path in parts["train"][name]]}
    lists["test"] = [path for paths in parts["test"].values() for path in paths]
    (folder / _LISTS).write_text(json.dumps(lists))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    pyarrow = _library("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    try:
        content = parquet.ParquetFile(file)
        if absent := [name for name in COLUMNS if name not in content.schema_arrow.names]:
            raise InputError(f"{file} has no column {', '.join(absent)}; it is not AudioMNIST's, see {NAME}.")
        for batch in content.iter_batches(256, columns=list(COLUMNS)):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} is damaged ({one_line(error, 100)}); fetch it again.") from None
