"""Reads and writes `workdir/config.json`, and checks whether a run can be resumed with another config."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax import renamed
from audiojax.config import base, flatten, parse_arg
from audiojax.errors import InputError, one_line
from audiojax.io.files import read_json, write_text
from audiojax.models import module_class
from audiojax.schema import NETWORKS

# Keys that may change when a run is resumed; train.num_epochs may also increase.
FREE_TO_CHANGE = ("data.root", "data.extra_root", "data.cache", "wandb", "mesh", "decoder", "train.log_every_steps")


def save(workdir: Path, config: ConfigDict, data: dict[str, Any], environment: dict[str, Any]) -> None:
    """Writes `workdir/config.json`: the config, the record of the data, and all environments the run has had.

    `data` is the result of `Data.record`: source, hashes and label names. `environment`, the result of
    `environment.describe`, is added to those that the file already has.
    """
    path = workdir / "config.json"
    environments = read_json(path).get("environments", []) if path.exists() else []
    if not isinstance(environments, list):
        environments = []
    if environment not in environments:
        environments.append(environment)
    content = {"config": config.to_dict(), "data": data, "environments": environments}
    write_text(path, json.dumps(content, indent=2) + "\n")


def load(workdir: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """Returns the config of the run in `workdir`, and the record of its data: source, hashes and label names.

    Both are read from config.json; keys that it lacks get their defaults. Raises InputError if there is no such file,
    or it is damaged.
    """
    path = workdir / "config.json"
    try:
        saved = read_json(path)
        saved["config"]["model"]["name"], saved["config"]["seed"], saved["data"]["label_names"][0]  # required
        renamed.migrate(saved["config"])
        for name, default in base(parse_arg("")).to_dict().items():  # a run from before a key did what its default does
            if isinstance(default, dict):
                saved["config"][name] = default | saved["config"].get(name, {})
            else:
                saved["config"].setdefault(name, default)
        known = NETWORKS[name].fields if (name := saved["config"]["model"]["name"]) in NETWORKS else ()
        later = {key: value for key, value in configs.LATER_MODEL_KEYS.items() if key in known}
        saved["config"]["model"] = later | saved["config"]["model"]
        _check_types(path, saved)
        config, data = ConfigDict(saved["config"], convert_dict=True), saved["data"]
    except FileNotFoundError:
        raise InputError(f"{workdir} holds no config.json; give the workdir that training printed.") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; train again in another workdir.") from None
    return config, data


def _check_types(path: Path, saved: dict[str, Any]) -> None:
    """Raises InputError for the first value in config.json whose type is not that of the default."""
    name = saved["config"]["model"]["name"]
    fields = dataclasses.fields(module_class(name)) if name in NETWORKS else ()  # `models.build` refuses an unknown one
    of_model = {f.name: f.default for f in fields if isinstance(f.default, bool | int | float | str | tuple)}
    defaults = flatten(base(parse_arg("")).to_dict() | {"model": of_model | {"name": ""}})
    wanted = {f"config.{name}": value for name, value in defaults.items()}
    wanted |= {"config.streams.synthetic_sources": [""], "config.streams.negative_sources": [""]}
    wanted |= {"data.label_names": [""], "data.source": "", "data.key": "", "data.also_key": "", "data.step": 0}
    for name, value in flatten({"config": saved["config"], "data": saved["data"]}).items():
        section = name.rpartition(".")[0]
        if section in wanted or (name in wanted and not _is_like(value, wanted[name])):
            name = section if section in wanted else name
            kind = type(wanted[name]).__name__
            raise InputError(f"{path} is damaged: {name} is not of type {kind}; restore that file.")


def _is_like(value: object, default: object) -> bool:
    """Returns whether a value has the type of its default, as in JSON; an int may replace a float.

    A list whose default is empty has numbers.
    """
    if isinstance(default, list):
        item = default[0] if default else 0.0
        return isinstance(value, list) and all(_is_like(x, item) for x in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def read_parameters(folder: Path) -> dict[str, Any]:
    """Returns the variables {"params", "batch_stats"} of a network in `folder`/parameters.npz, as 32-bit floats.

    Raises InputError if the file is damaged.
    """
    try:
        with np.load(folder / "parameters.npz") as saved:
            flat = {tuple(name.split("/")): saved[name].astype(np.float32) for name in saved}
            return traverse_util.unflatten_dict(flat)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{folder / 'parameters.npz'} cannot be read ({one_line(error)}); write it again.") from None


def check_resumable(workdir: Path, config: ConfigDict, data: dict[str, Any]) -> None:
    """Raises InputError, naming the differences, if the run in `workdir` has another config or other data.

    Differences in a few keys that do not affect training are allowed, such as the folder of the data, and a larger
    number of epochs. `data` is the record of the data: source, hashes and label names.
    """
    saved, saved_data = load(workdir)
    old, new = flatten(saved.to_dict()), flatten(config.to_dict())
    differing = [
        f"config.{name} {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not _may_change(name, old.get(name), new.get(name))
        if name != "split.seed" or configs.split_reads_seed(config)
    ]
    if any(saved_data.get(key) != data.get(key) for key in ("key", "also_key")):
        differing.append("the clips themselves")
    if differing:
        only_split_seed = len(differing) == 1 and differing[0].startswith("config.split.seed ")
        fix = f"set --config.split.seed={old['split.seed']} to continue it, " if only_split_seed else ""
        raise InputError(
            f"{workdir} holds a run of another config ({'; '.join(differing)}); {fix}give another --workdir, or delete "
            "that one."
        )


def _may_change(name: str, old: object, new: object) -> bool:
    if name == "train.num_epochs" and isinstance(old, int) and isinstance(new, int):
        return new > old
    if name in configs.TRAINING_FOLDERS:
        return bool(old) == bool(new)
    return any(name == free or name.startswith(free + ".") for free in FREE_TO_CHANGE)
