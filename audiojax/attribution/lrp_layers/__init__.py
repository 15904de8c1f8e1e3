"""Networks as lists of the layers through which `lrp` propagates relevance; see `seam`.

A network is cut after its front end (the seam). Networks on the waveform, or with trainable filters, are explained in
samples; networks on log-mel frames in bins, in nats above the floor, and AlexNet in decibels above its floor. So 0 is
silence in all of them. All of it is float32.
"""

import pkgutil

from flax import linen as nn

from audiojax import models
from audiojax.attribution.lrp_layers.parts import Seam
from audiojax.errors import InputError


def seam(model: nn.Module) -> Seam:
    """Returns a network as layers, by its row in `schema.NETWORKS`; raises InputError for one without them."""
    name, row = models.row(model)
    if not row.lrp:
        raise InputError(f"config.model.name is {name!r}, which has no layers for explain in audiojax.schema.NETWORKS.")
    found: Seam = pkgutil.resolve_name(row.lrp)(model)
    return found
