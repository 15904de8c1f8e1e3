"""Checksums of trees of arrays, and the classification of errors as damage."""

import errno
import re
import zlib
from typing import Any

import jax
import numpy as np

from audiojax.errors import one_line


def checksum(tree: Any) -> int:
    """Returns the CRC-32 of all arrays of a tree, in its order."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def checksum_of_shapes(tree: Any) -> int:
    """Returns the CRC-32 of names, shapes and types of a tree of arrays, or of orbax's metadata of one."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    lines = sorted(f"{name} {leaf.dtype} {tuple(leaf.shape)}" for name, leaf in named.items())
    return zlib.crc32("\n".join(lines).encode())


def verify(parts: dict[str, Any], checksums: dict[str, Any]) -> None:
    """Raises ValueError for the first of `parts` whose checksum differs."""
    for name, part in parts.items():
        if checksum(part) != checksums[name]:
            raise ValueError(f"the checksum of its {name} differs")


def proves_damage(error: BaseException) -> bool:
    """Returns whether the content of files caused an error, not memory, open files, permissions or a network disk."""
    error, absent = _root(error), (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    if isinstance(error, OSError):
        return error.errno in absent
    codes = re.findall(r"os_error_code='(\d+)'", str(error))  # tensorstore's format, in a ValueError
    # JSON that is nested too deeply raises RecursionError.
    kinds = ValueError | LookupError | TypeError | AttributeError | ArithmeticError | RecursionError
    content = isinstance(error, kinds)
    return content and all(int(code) in absent for code in codes) and "RESOURCE_EXHAUSTED" not in str(error)


def reason(error: BaseException) -> str:
    """Returns the message of an error, which a library may have wrapped, as part of a sentence."""
    return one_line(_root(error), 120)


def _root(error: BaseException) -> BaseException:
    return _root(error.__cause__) if error.__cause__ else error
