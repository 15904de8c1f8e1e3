"""The networks by name, and `build`, which turns a config's model section into one of them."""

from flax import linen as nn

from audiojax.models.audionet import AudioNet
from audiojax.types import InputError

MODELS: dict[str, type[nn.Module]] = {"audionet": AudioNet}


def build(*, name: str, num_labels: int, **fields) -> nn.Module:
    """The network `name`, with one output a label. Raises InputError for a name that is not in MODELS."""
    if name not in MODELS:
        raise InputError(f"config.model.name is {name!r}; choose one of {', '.join(MODELS)}.")
    return MODELS[name](num_labels=num_labels, **fields)
