"""Turns the plain text of this project's docstrings into reStructuredText.

They have `code` in single backticks, indented blocks that are printed as they stand (the commands show them with
--help), and characters such as * and | that mean nothing.
"""

import re
from typing import Any

_CODE = re.compile(r"``.+?``|`[^`]+`")
_GOOGLE = re.compile(r"^\s*(Args|Arguments|Attributes|Example|Examples|Note|Raises|Returns|Yields):$")


def _escaped(line: str) -> str:
    parts, end = [], 0
    for code in _CODE.finditer(line):
        parts += [re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", line[end : code.start()]), f"``{code[0].strip('`')}``"]
        end = code.end()
    return "".join([*parts, re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", line[end:])])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _rest(what: str, lines: list[str]) -> list[str]:
    """Returns the docstring's `lines` with code marked, and the indented blocks outside of sections as literals."""
    if any(_GOOGLE.match(line) for line in lines):
        return [_escaped(line) for line in lines]
    out: list[str] = []
    literal = False
    for line in lines:
        indented = _indent(line) > 0 and line.strip()
        if indented and not literal:
            out += [*([""] if out and out[-1].strip() else []), "::", ""]
        elif literal and line.strip() and not indented:
            out.append("")
        literal = bool(indented) or (literal and not line.strip())
        out.append(f"    {line}" if indented else _escaped(line))
    return out


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _rest(what, lines)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out the fields of named tuples, whose docstrings are made by Python, and what Flax adds to modules."""
    document = getattr(obj, "__doc__", None) or ""
    return True if document.startswith("Alias for field number") or name in ("name", "parent", "scope") else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
