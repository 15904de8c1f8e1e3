"""Networks as the layers that `lrp` shares relevance out to: `seam`, by the network's row in `schema.NETWORKS`.

The seam lies behind the front end: relevance is that of the samples of a network on the waveform, after their scale, or
whose filters are learnt, and that of the bins of a network behind log-mel, in nats above its floor, or decibels. So 0
is silence in all of them. All of it is float32.
"""

import pkgutil

from flax import linen as nn

from audiojax import models
from audiojax.attribution.lrp_layers.parts import Seam
from audiojax.errors import InputError


def seam(model: nn.Module) -> Seam:
    """Returns a network's layers; raises InputError for one that cannot be explained."""
    name, row = models.row(model)
    if not row.lrp:
        raise InputError(f"config.model.name is {name!r}, which has no layers for explain in audiojax.schema.NETWORKS.")
    found: Seam = pkgutil.resolve_name(row.lrp)(model)
    return found
