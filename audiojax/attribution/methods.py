"""Attribution methods by name."""

import functools
from collections.abc import Callable, Sequence

import jax

from audiojax.attribution.gradients import gradient, integrated
from audiojax.attribution.lrp import RULES, Layer, lrp

Method = Callable[[Sequence[Layer], jax.Array, jax.Array], jax.Array]


METHODS: dict[str, Method] = {
    "gradient": gradient,
    "integrated": integrated,
    **{f"lrp-{name}": functools.partial(lrp, rule=rule) for name, rule in RULES.items()},
}
