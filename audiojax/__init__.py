"""audiojax: spoken-digit recognition in JAX. Its public names are imported when they are first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiojax.streaming.recognizer import Recognizer
    from audiojax.tasks import load, train

__version__ = "0.1.0"
__all__ = ["Recognizer", "load", "train"]
_MODULES = {"Recognizer": "audiojax.streaming.recognizer", "load": "audiojax.tasks", "train": "audiojax.tasks"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module 'audiojax' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Returns the names in the package, including the public ones that are not imported yet."""
    return sorted({*globals(), *__all__})
