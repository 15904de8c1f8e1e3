"""Chooses the task of a config; the entry points `train` and `load`."""

import math
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from audiojax.data import loading
from audiojax.inference import Trained
from audiojax.training import loop, setup, sharding
from audiojax.training.task import Task


def of(config: ConfigDict) -> Task:
    """Returns the task that `config` describes, with its data loaded."""
    if config.task == "streams":
        from audiojax.streaming.stream_task import StreamTask  # imported here: training on clips does not need it

        return StreamTask(config, loading.load(config))
    from audiojax.evaluation.clip_task import ClipTask

    return ClipTask(config, loading.load(config))


def train(
    config: ConfigDict, workdir: Path | str, *, num_devices: int | None = None, deadline: float = math.inf
) -> dict[str, Any]:
    """Trains a config in `workdir`, see `training.loop.run`, and returns the content of summary.json."""
    setup.check(config, num_devices)
    with sharding.together():
        task = of(config)
    return loop.run(task, workdir, num_devices=num_devices, deadline=deadline)


def load(workdir: Path | str | None = None, which: str = "best") -> Trained:
    """Returns the run in `workdir` at its "best" or "last" checkpoint; the packaged recogniser for None."""
    return Trained.load(workdir, which) if workdir is not None else Trained.packaged()
