"""Which kernels a network computes with: those tuned for CPU cores, or plain ones."""

import jax

from audiojax.errors import InputError

CHOICES = ("auto", "plain")


def tuned(kernels: str) -> bool:
    """Returns whether to use the kernels tuned for the CPU: with "auto", if the CPU is jax's default backend.

    Tuned kernels have custom gradients, with which `jax.jvp` and `jax.hessian` raise an error; plain ones have all
    derivatives.

    Raises InputError for a value that is not in `CHOICES`.
    """
    if kernels not in CHOICES:
        raise InputError(f"config.model.kernels is {kernels!r}; choose {' or '.join(CHOICES)}.")
    return kernels == "auto" and jax.default_backend() == "cpu"
