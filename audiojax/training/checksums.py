"""Whether what was read is what was written: checksums of trees, and errors that prove damage."""

import errno
import re
import zlib
from typing import Any

import jax
import numpy as np

from audiojax.errors import one_line


def checksum(tree: Any) -> int:
    """CRC-32 of all arrays of a tree, in its order."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def checksum_of_shapes(tree: Any) -> int:
    """CRC-32 of the names, shapes and types of a tree of arrays, or of what orbax says of one."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    lines = sorted(f"{name} {leaf.dtype} {tuple(leaf.shape)}" for name, leaf in named.items())
    return zlib.crc32("\n".join(lines).encode())


def verify(parts: dict[str, Any], checksums: dict[str, Any]) -> None:
    """Raises ValueError for the first of `parts` that has not the checksum it was written with."""
    for name, part in parts.items():
        if checksum(part) != checksums[name]:
            raise ValueError(f"the checksum of its {name} is another")


def proves_damage(error: BaseException) -> bool:
    """Whether what the files hold is the cause: not memory, open files, rights or a network disk out of reach."""
    error, absent = _root(error), (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    if isinstance(error, OSError):
        return error.errno in absent
    codes = re.findall(r"os_error_code='(\d+)'", str(error))  # as tensorstore says it, in a ValueError
    # A RecursionError is of JSON that is nested too deeply.
    kinds = ValueError | LookupError | TypeError | AttributeError | ArithmeticError | RecursionError
    content = isinstance(error, kinds)
    return content and all(int(code) in absent for code in codes) and "RESOURCE_EXHAUSTED" not in str(error)


def reason(error: BaseException) -> str:
    """What an error says that a library may have wrapped, as part of a sentence."""
    return one_line(_root(error), 120)


def _root(error: BaseException) -> BaseException:
    return _root(error.__cause__) if error.__cause__ else error
