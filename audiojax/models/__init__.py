"""The networks by name, and `build`, which turns a config's model section into one of them."""

import dataclasses
from typing import Any

from flax import linen as nn

from audiojax.errors import InputError
from audiojax.models.alexnet import AlexNet
from audiojax.models.audionet import AudioNet
from audiojax.models.gru import GRU
from audiojax.models.melcnn import MelCNN
from audiojax.models.resnet1d import ResNet1D

MODELS: dict[str, type[nn.Module]] = {
    "audionet": AudioNet,
    "gru": GRU,
    "melcnn": MelCNN,
    "resnet1d": ResNet1D,
    "alexnet": AlexNet,
}


def build(*, name: str, num_labels: int, rate_hz: int, **fields: Any) -> nn.Module:
    """The network `name` for sound of `rate_hz`, with one output a label.

    Raises InputError for a name or field that does not exist.
    """
    if name not in MODELS:
        raise InputError(f"config.model.name is {name!r}; choose one of {', '.join(MODELS)}.")
    model = MODELS[name]
    known = {field.name for field in dataclasses.fields(model)}
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise InputError(f"config.model.{unknown[0]} is no key of {name}; was this run made by another version?")
    if "rate_hz" in known:
        fields["rate_hz"] = rate_hz
    # A config that was read from JSON has lists, and a network must be hashable.
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return model(num_labels=num_labels, **fields)
