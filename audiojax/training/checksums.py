"""Checksums of trees of arrays, and the classification of errors as damage."""

import errno
import re
import zlib
from typing import Any

import jax
import numpy as np

from audiojax.errors import one_line


def checksum(tree: Any) -> int:
    """Returns the CRC-32 of the content of all arrays of a tree, in the order of its leaves."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def checksum_of_shapes(tree: Any) -> int:
    """Returns the CRC-32 of the names, shapes and types of the arrays in a tree, or in orbax's metadata of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    lines = sorted(f"{name} {leaf.dtype} {tuple(leaf.shape)}" for name, leaf in named.items())
    return zlib.crc32("\n".join(lines).encode())


def verify(parts: dict[str, Any], checksums: dict[str, Any]) -> None:
    """Raises ValueError if the CRC-32 of one of `parts` {name: tree} is not that in `checksums` {name: CRC-32}."""
    for name, part in parts.items():
        if checksum(part) != checksums[name]:
            raise ValueError(f"the checksum of its {name} differs")


def proves_damage(error: BaseException) -> bool:
    """Returns whether `error`, raised while files were read, means that the files are damaged or missing.

    Other causes prove nothing: too little memory, too many open files, no permission, a disk that does not respond.
    """
    error, absent = _root(error), (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    if isinstance(error, OSError):
        return error.errno in absent
    codes = re.findall(r"os_error_code='(\d+)'", str(error))  # tensorstore's format, in a ValueError
    # JSON that is nested too deeply raises RecursionError.
    kinds = ValueError | LookupError | TypeError | AttributeError | ArithmeticError | RecursionError
    content = isinstance(error, kinds)
    return content and all(int(code) in absent for code in codes) and "RESOURCE_EXHAUSTED" not in str(error)


def reason(error: BaseException) -> str:
    """Returns the message of the exception that began the chain of `error`, on one line of at most 120 characters."""
    return one_line(_root(error), 120)


def _root(error: BaseException) -> BaseException:
    return _root(error.__cause__) if error.__cause__ else error
