"""Which kernels a network computes with: those tuned for CPU cores, or plain ones."""

import jax

from audiojax.errors import InputError

CHOICES = ("auto", "plain")


def tuned(kernels: str) -> bool:
    """Returns whether `kernels` asks for those tuned for the CPU: "auto" does where jax computes there by default.

    Tuned kernels have gradients of their own, which `jax.jvp` and `jax.hessian` refuse; plain ones have all of them.

    Raises InputError for what is none of `CHOICES`.
    """
    if kernels not in CHOICES:
        raise InputError(f"config.model.kernels is {kernels!r}; choose {' or '.join(CHOICES)}.")
    return kernels == "auto" and jax.default_backend() == "cpu"
