"""A trained run loaded from its workdir: network, parameters, config and labels."""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.special
from flax import linen as nn
from flax import traverse_util
from ml_collections import ConfigDict

from audiojax import config as configs
from audiojax import models
from audiojax.data import batches
from audiojax.data.clips import Clips
from audiojax.errors import InputError
from audiojax.io.files import read_json, write_text
from audiojax.training import checkpoint, run_dir

PACKAGED = Path(__file__).parent / "streaming" / "pretrained"


@dataclass(frozen=True)
class Trained:
    """A trained network with its parameters, the config of its run, and a record of its data.

    `variables` are the first argument of `model.apply`, and `step` is the training step that they were saved at. `data`
    has the source, the hash of the clips and the names of the labels. `temperature` divides the logits before they
    become probabilities.
    """

    config: ConfigDict
    data: dict[str, Any]  # the record of the data in config.json: source, key, label_names
    model: nn.Module
    variables: dict[str, Any]
    step: int
    temperature: float = 1.0  # divides the logits before they become probabilities

    @classmethod
    def load(cls, workdir: Path | str, which: str = "best", root: str | None = None) -> "Trained":
        """Loads a checkpoint of the run in `workdir`: the "best" by validation accuracy, or the "last" one.

        `root` is the folder of the data set, if it has moved since the training. Raises InputError if there is no
        checkpoint that can be read.
        """
        workdir = Path(workdir)
        config, data = run_dir.load(workdir)
        config.data.root = root or config.data.root
        variables, step = checkpoint.restore_variables(workdir, which)
        temperature = _read_temperatures(workdir).get(str(step), 1.0)
        return cls(config, data, _build(config, data), jax.device_put(variables), step, temperature)

    @classmethod
    def packaged(cls) -> "Trained":
        """Loads the streaming digit recogniser that is installed with this package.

        It is described in `audiojax/streaming/pretrained/MODEL_CARD.md`.
        """
        config, data = run_dir.load(PACKAGED)
        variables = run_dir.read_parameters(PACKAGED)
        return cls(config, data, _build(config, data), jax.device_put(variables), data["step"])

    def write_packaged(self, folder: Path) -> None:
        """Writes config.json and parameters.npz into `folder`, in the format of the packaged recogniser.

        Parameters are 16-bit floats there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        content = {"config": self.config.to_dict(), "data": self.data | {"step": self.step}}
        write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")
        flat = traverse_util.flatten_dict(jax.device_get(self.variables), sep="/")
        small = {name: x.astype(np.float16) if name.startswith("params/") else x for name, x in flat.items()}
        np.savez_compressed(folder / "parameters.npz", **small)

    @property
    def streams(self) -> bool:
        """Returns whether the network recognises words in streams; otherwise it classifies clips."""
        return bool(self.config.task == "streams")

    def about(self) -> dict[str, int]:
        """Returns {"step": training step of the checkpoint, "parameters": number of parameters}."""
        return {"step": self.step, "parameters": sum(x.size for x in jax.tree.leaves(self.variables["params"]))}

    def check_clips(self, clips: Clips) -> None:
        """Raises InputError unless `clips` are those that the run was trained on."""
        if clips.key != self.data["key"]:
            raise InputError("the clips of config.data are not those that this run was trained on; restore them.")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Returns the names of the labels, each at the index of its label."""
        return tuple(self.data["label_names"])

    def logits(self, audio: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Returns the logits f32[B, labels] of a batch of clips.

        `audio` i16[B, T] is right-padded with zeros, and `length` i32[B] is the number of samples before the padding.
        """
        return np.asarray(_apply(self.model, self.variables, audio, length))

    def logits_of(self, clips: Clips, indices: np.ndarray) -> np.ndarray:
        """Returns the logits f32[n, labels] of the n clips at `indices`, in this order."""
        shape, order = configs.batch_shape(self.config), batches.by_length(clips, indices)
        if len(indices) == 1:  # avoids the padding of a batch
            shape["batch_size"] = 1
        groups = self._groups(clips, indices[order])
        parts = batches.prefetch(batch for group in groups for batch in batches.evaluation(clips, group, **shape))
        logits = np.concatenate([self.logits(part["audio"], part["length"])[part["mask"] > 0] for part in parts])
        return logits[np.argsort(order)]

    def _groups(self, clips: Clips, indices: np.ndarray) -> list[np.ndarray]:
        """Splits `indices`, sorted by length, into groups whose clips can share a batch.

        The logits of a network that does not mask padding depend on the padded length, so a group has one such length.
        For other networks, all clips are one group.
        """
        shape = configs.batch_shape(self.config)
        if not shape["bucket_samples"] or getattr(self.model, "mask_padding", True):
            return [indices]
        lengths = shape["length_samples"], shape["bucket_samples"]
        padded = [batches.padded_samples(int(number), *lengths) for number in clips.length[indices]]
        return np.split(indices, np.flatnonzero(np.diff(padded)) + 1)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probabilities f64[..., labels] of `logits`, divided by the temperature if one was fitted."""
        return softmax(logits, self.temperature)


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the probabilities f64[..., labels] of `logits` / `temperature`."""
    return scipy.special.softmax(np.asarray(logits, np.float64) / temperature, axis=-1)


def _build(config: ConfigDict, data: dict[str, Any]) -> nn.Module:
    num_labels = len(data["label_names"])
    return models.build(**config.model, task=config.task, num_labels=num_labels, rate_hz=config.data.rate_hz)


def write_temperature(workdir: Path, step: int, temperature: float) -> None:
    """Saves the softmax temperature of the checkpoint at training step `step`, which `Trained.load` reads."""
    known = _read_temperatures(workdir) | {str(step): temperature}
    write_text(workdir / "calibration.json", json.dumps({"temperature_by_step": known}, indent=2) + "\n")


def _read_temperatures(workdir: Path) -> dict[str, float]:
    try:
        saved = read_json(workdir / "calibration.json")["temperature_by_step"]
        temperatures = {str(step): float(temperature) for step, temperature in saved.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return {}
    return {step: temperature for step, temperature in temperatures.items() if 0 < temperature < math.inf}


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: dict[str, Any], audio: jax.Array, length: jax.Array) -> Any:
    return model.apply(variables, audio, length)
