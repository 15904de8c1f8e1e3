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
    """Returns the training task of `config`, clips or streams, with its data loaded."""
    if config.task == "streams":
        from audiojax.streaming.stream_task import StreamTask  # imported here: training on clips does not need it

        return StreamTask(config, loading.load(config))
    from audiojax.evaluation.clip_task import ClipTask

    return ClipTask(config, loading.load(config))


def train(
    config: ConfigDict, workdir: Path | str, *, num_devices: int | None = None, deadline: float = math.inf
) -> dict[str, Any]:
    """Trains the network of `config` and returns the results, the content of summary.json.

    Args:
        config: The config of the run.
        workdir: The folder of the run, which continues from its last checkpoint if it has one.
        num_devices: Number of devices that share each batch; all visible ones by default.
        deadline: Time to stop, in seconds of `time.monotonic`; for single-process runs.

    Raises:
        InputError: The workdir has another run, the data or the config cannot be used, or the loss is not finite.
        Stopped: Ctrl-C, SIGTERM or the deadline; the state is saved.
    """
    setup.check(config, num_devices)
    with sharding.together():
        task = of(config)
    return loop.run(task, workdir, num_devices=num_devices, deadline=deadline)


def load(workdir: Path | str | None = None, which: str = "best") -> Trained:
    """Returns the trained network of the run in `workdir`, or the packaged streaming recogniser if it is None.

    `which` is the checkpoint: "best" by validation accuracy, or "last".
    """
    return Trained.load(workdir, which) if workdir is not None else Trained.packaged()
