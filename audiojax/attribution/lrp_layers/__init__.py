"""Networks as lists of the layers through which `lrp` propagates relevance, the share of a logit attributed to a value.

The layers begin after a network's front end, and the values there are explained: samples in networks on the waveform or
with trainable filters, and bins in networks on spectrograms. Bins of log-mel are in nats above the floor, those of
AlexNet in decibels above its floor, so 0 is silence in all of them. All arrays are float32.
"""

import pkgutil

from flax import linen as nn

from audiojax import models
from audiojax.attribution.lrp_layers.parts import Seam
from audiojax.errors import InputError


def seam(model: nn.Module) -> Seam:
    """Returns a network split in two: its front end, and the layers after it, through which relevance is propagated.

    The function that describes the network is named in `schema.NETWORKS`. Raises InputError for a network without one.
    """
    name, row = models.row(model)
    if not row.lrp:
        raise InputError(f"config.model.name is {name!r}, which explain does not support (audiojax.schema.NETWORKS).")
    found: Seam = pkgutil.resolve_name(row.lrp)(model)
    return found
