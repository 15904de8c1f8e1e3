"""Fills pages with what the source says: the config reference and the tree of the code.

A page has a line such as `<!-- config-reference -->`, which is replaced by Markdown when the page is read. Keys,
defaults, ranges, choices and the comments that explain them are read from `audiojax.config`, `audiojax.schema` and the
networks' classes, so that nothing is written twice.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audiojax
from audiojax import config as configs
from audiojax import models, schema

ROOT = Path(audiojax.__file__).parent.parent
HEADER = "| key | default | range | meaning |\n|---|---|---|---|\n"


def _comments(source: str) -> dict[int, str]:
    """Returns the comment of each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def meanings(function: Callable) -> dict[str, str]:
    """Returns {"section.key": comment} of a function that fills a config; a section has its own comment."""
    source = textwrap.dedent(inspect.getsource(function))
    comments, found = _comments(source), {}
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Attribute)):
            continue
        found[target.attr] = comments.get(node.lineno, "")
        if isinstance(node.value, ast.Call) and not node.value.args:
            alone = node.value.lineno == node.value.end_lineno
            for keyword in node.value.keywords:
                found[f"{target.attr}.{keyword.arg}"] = "" if alone else comments.get(keyword.value.end_lineno or 0, "")
    return found


def attributes(cls: type) -> dict[str, str]:
    """Returns {field: description} of the section "Attributes:" of a class's docstring."""
    document = inspect.getdoc(cls) or ""
    section = re.search(r"^Attributes:\n((?:    .*\n?|\n)*)", document, re.MULTILINE)
    entries = re.findall(r"^    (\w+): ((?:.*\n?)(?:^        .*\n?)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _range(rule: schema.Rule) -> str:
    if isinstance(rule, schema.Range | schema.Items | schema.Text):
        return "" if rule is schema.ANY_TEXT else str(rule)
    return ", ".join(f"`{choice}`" for choice in rule)


def _row(key: str, default: Any, rule: schema.Rule, meaning: str) -> str:
    cells = [f"`{key}`", f"`{default!r}`", _range(rule), meaning.replace("|", r"\|")]
    return f"| {' | '.join(cells)} |\n"


def _default(key: str, value: Any) -> Any:
    return "~/.cache/audiojax" if key == "data.cache" else value  # not the folder of whoever builds the site


def config_reference() -> str:
    """Returns a table for each section of the config, and one for the fields of each network."""
    keys, said = configs.base(configs.parse_arg("")).to_dict(), meanings(configs.base)
    text = "## General\n\n" + HEADER
    text += "".join(
        _row(key, value, schema.RULES[key], said.get(key, ""))
        for key, value in keys.items()
        if not isinstance(value, dict)
    )
    for section, values in keys.items():
        if isinstance(values, dict):
            about = said.get(section, "")
            text += f"\n## {section}\n\n" + (f"{about[:1].upper()}{about[1:]}\n\n" if about else "") + HEADER
            rows = ((f"{section}.{key}", value) for key, value in values.items())
            text += "".join(
                _row(key, _default(key, value), schema.RULES[key], said.get(key, "")) for key, value in rows
            )
    text += "\n## model\n\nThe keys depend on `model.name`. The defaults are those of the class.\n"
    for name, row in schema.NETWORKS.items():
        cls = models.module_class(name)
        fields = [f for f in dataclasses.fields(cls) if f.name not in ("parent", "name", "num_labels", "rate_hz")]
        said = attributes(cls)
        text += f"\n### {name}\n\n{HEADER}"
        text += "".join(_row(f"model.{f.name}", f.default, row.fields[f.name], said.get(f.name, "")) for f in fields)
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


FILLED = {"<!-- config-reference -->": config_reference, "<!-- tree -->": tree}


def _fill(app: Any, docname: str, source: list[str]) -> None:
    for mark, make in FILLED.items():
        if mark in source[0]:
            source[0] = source[0].replace(mark, make())


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
