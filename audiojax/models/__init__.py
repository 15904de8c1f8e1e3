"""The networks: `build` makes one from a config's section `model`; they are listed in `schema.NETWORKS`."""

import dataclasses
import pkgutil
from typing import Any

from flax import linen as nn

from audiojax.errors import InputError
from audiojax.rules import one_of
from audiojax.schema import NETWORKS, Network


def module_class(name: str) -> type[nn.Module]:
    """Returns the class of the network that `schema.NETWORKS` lists as `name`; raises InputError if it lists none."""
    one_of("config.model.name", name, tuple(NETWORKS))
    model: type[nn.Module] = pkgutil.resolve_name(NETWORKS[name].module)
    return model


def row(model: nn.Module) -> tuple[str, Network]:
    """Returns the name under which `schema.NETWORKS` lists the class of `model`, and the row that describes that class.

    Raises InputError for a class that is not listed.
    """
    module = f"{type(model).__module__}:{type(model).__qualname__}"
    for name, row in NETWORKS.items():
        if row.module == module:
            return name, row
    raise InputError(f"{type(model).__name__} is not in audiojax.schema.NETWORKS; choose one of {', '.join(NETWORKS)}.")


def build(*, name: str, num_labels: int, rate_hz: int, task: str = "clips", **fields: Any) -> nn.Module:
    """Returns the network that `schema.NETWORKS` lists as `name`; its parameters are not initialised.

    It has one logit per label or, if `task` is "streams", the outputs `gru.StreamOutputs`. Raises
    InputError for a name or field that does not exist.

    Args:
        name: A key of `schema.NETWORKS`.
        num_labels: The number of labels.
        rate_hz: The sampling rate of the sound in Hz.
        task: "clips" for one prediction per clip, "streams" for one at each step of a continuous stream.
        fields: Other attributes of the network's class, the keys of the config's section `model`.
    """
    model = module_class(name)
    known = {field.name for field in dataclasses.fields(model)}
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise InputError(f"config.model.{unknown[0]} is not a key of {name}; was this run made by another version?")
    fields |= {key: value for key, value in (("rate_hz", rate_hz), ("task", task)) if key in known}
    # A config from JSON has lists in the place of tuples, and a network must be hashable.
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return model(num_labels=num_labels, **fields)
