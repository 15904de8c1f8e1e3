"""Sphinx extension that generates parts of pages from the source: config reference, tree of the code, operating points.

A page has a line such as `<!-- config-reference -->`, which is replaced by Markdown when the page is read.
"""

import ast
import re
from pathlib import Path
from typing import Any

import audiojax
from audiojax import reference
from audiojax.inference import PACKAGED
from audiojax.streaming import operating_points

ROOT = Path(audiojax.__file__).parent.parent
HEADER = "| key | default | range | meaning |\n|---|---|---|---|\n"


def _table(keys: list[reference.Key]) -> str:
    rows = []
    for key in keys:
        meaning = key.meaning.replace("|", r"\|")
        rows.append(f"| `{key.name}` | `{key.default!r}` | {key.values('`{}`')} | {meaning} |\n")
    return HEADER + "".join(rows)


def config_reference() -> str:
    """Returns a table for each section of the config, and one for the keys of each network."""
    text = ""
    for section in reference.sections():
        about = f"{section.meaning[:1].upper()}{section.meaning[1:]}.\n\n" if section.meaning else ""
        title = section.name.capitalize() if section.name == "general" else section.name
        text += f"## {title}\n\n{about}{_table(section.keys)}\n"
    text += "## model\n\nThe keys depend on `model.name`. The defaults are those of the class.\n"
    for section in reference.networks():
        text += f"\n### {section.name}\n\n{_table(section.keys)}"
    return text


def tree() -> str:
    """Returns the tree of the code with the first sentence of each module, as a block of text."""
    lines = ["configs/"]
    lines += [_line(path, 1) for path in sorted((ROOT / "configs").glob("[!_]*.py"))]
    return "```text\n" + "\n".join([*lines, *_folder(ROOT / "audiojax", 0)]) + "\n```\n"


def _folder(folder: Path, depth: int) -> list[str]:
    init = folder / "__init__.py"
    lines = [f"{'  ' * depth}{folder.name + '/':<{30 - 2 * depth}} {_first(init)}"]
    lines += [_line(path, depth + 1) for path in sorted(folder.glob("*.py")) if path != init]
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists():
            lines += _folder(inner, depth + 1)
    return lines


def _line(path: Path, depth: int) -> str:
    return f"{'  ' * depth}{path.name:<{30 - 2 * depth}} {_first(path)}"


def _first(path: Path) -> str:
    """Returns the first sentence of a module's docstring."""
    document = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s(?=[A-Z])", " ".join(document.split()))[0]


def points() -> str:
    """Returns a table of the operating points of the packaged recogniser."""
    text = "| `--sensitivity` | threshold | false events per hour | digit errors |\n|---|---|---|---|\n"
    for name, (threshold, events, errors) in operating_points.read(PACKAGED).items():
        text += f"| `{name}` | {threshold:g} | {events:.0f} | {100 * errors:.1f} % |\n"
    return text


FILLED = {"<!-- config-reference -->": config_reference, "<!-- tree -->": tree, "<!-- operating-points -->": points}


def _fill(app: Any, docname: str, source: list[str]) -> None:
    for mark, make in FILLED.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, make())


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
