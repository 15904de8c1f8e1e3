"""`workdir/config.json`: the config that a run was made by, and whether another one may go on with it."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from audiojax.config import base, flatten, parse_arg
from audiojax.data.disk import write_text
from audiojax.types import InputError

# What may change between two starts of one run; train.num_epochs too, but only upwards.
FREE_TO_CHANGE = ("data.root", "data.also_root", "data.cache", "wandb", "mesh", "decoder", "train.log_every_steps")


def save(workdir: Path, config: ConfigDict, data: dict, environment: dict) -> None:
    """Writes `workdir/config.json`: the config, what is to be known of the data, and what the run is made with.

    A run that goes on in another environment lists them all.
    """
    path = workdir / "config.json"
    environments = json.loads(path.read_text()).get("environments", []) if path.exists() else []
    if environment not in environments:
        environments.append(environment)
    content = {"config": config.to_dict(), "data": data, "environments": environments}
    write_text(path, json.dumps(content, indent=2) + "\n")


def load(workdir: Path) -> tuple[ConfigDict, dict]:
    """The config and the data of a run; raises InputError where `workdir` is not one."""
    path = workdir / "config.json"
    try:
        saved = json.loads(path.read_text())
        saved["config"]["model"], saved["data"]["label_names"]  # without which there is no run
        for name, section in base(parse_arg("")).to_dict().items():
            if isinstance(section, dict):  # a run from before a key was there did what its default does
                saved["config"][name] = section | saved["config"].get(name, {})
        config, data = ConfigDict(saved["config"], convert_dict=True), saved["data"]
    except FileNotFoundError:
        raise InputError(f"{workdir} holds no config.json; give the workdir that training printed.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; train again in another workdir.") from None
    return config, data


def check_resumable(workdir: Path, config: ConfigDict, data: dict) -> None:
    """Raises InputError where `workdir` holds a run of another config or other data, naming what differs."""
    saved, saved_data = load(workdir)
    old, new = flatten(saved.to_dict()), flatten(config.to_dict())
    differing = [
        f"config.{name} {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not _may_change(name, old.get(name), new.get(name))
    ]
    if any(saved_data.get(key) != data.get(key) for key in ("key", "also_key")):
        differing.append("the clips themselves")
    if differing:
        raise InputError(
            f"{workdir} holds a run of another config ({'; '.join(differing)}); "
            "give another --workdir, or delete that one."
        )


def _may_change(name: str, old: object, new: object) -> bool:
    if name == "train.num_epochs" and isinstance(old, int) and isinstance(new, int):
        return new > old
    return any(name == free or name.startswith(free + ".") for free in FREE_TO_CHANGE)
