"""The reference of the config: every key's default, range and meaning, read from the source without importing jax.

Defaults and meanings are those of `config.SECTIONS`, whose comments explain the keys, and of the networks' classes,
whose docstrings explain their attributes; ranges are those of `schema`.
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from audiojax import config as configs
from audiojax import schema
from audiojax.rules import Items, Range, Rule, Text

_WIDTH = 100


class Key(NamedTuple):
    """One key of the config, with its default, the rule for valid values, and its meaning in words."""

    name: str  # with its section
    default: Any
    rule: Rule
    meaning: str

    def values(self, choice: str = "{}") -> str:
        """Returns the allowed values in words; "" if any text is. If they are listed, each has the format `choice`."""
        if isinstance(self.rule, Range | Items | Text):
            return "" if self.rule is schema.ANY_TEXT else str(self.rule)
        return ", ".join(choice.format("''" if value == "" else value) for value in self.rule)


class Section(NamedTuple):
    """The keys of one section of the config, or of one network; `meaning` describes the section."""

    name: str
    meaning: str
    keys: list[Key]


def sections() -> list[Section]:
    """Returns the sections that every config has; the first, "general", has the keys that belong to none."""
    defaults = configs.base(configs.parse_arg("")).to_dict()
    meanings = {name: text for function in configs.SECTIONS for name, text in _meanings(function).items()}
    defaults["data"]["cache"] = "~/.cache/audiojax"  # instead of the folder on this machine
    found = [Section("general", "", [])]
    for name, meaning in meanings.items():  # in the order of the source
        section, _, key = name.rpartition(".")
        if section:
            chosen = next(one for one in found if one.name == section)
            chosen.keys.append(Key(name, defaults[section][key], schema.RULES[name], meaning))
        elif isinstance(defaults[name], dict):
            found.append(Section(name, meaning, []))
        else:
            found[0].keys.append(Key(name, defaults[name], schema.RULES[name], meaning))
    return found


def networks() -> list[Section]:
    """Returns a section for each network, under its name: the keys that the config's section `model` has for it."""
    return [Section(name, "", _fields(row)) for name, row in schema.NETWORKS.items()]


def text() -> str:
    """Returns the reference as plain text, for `--help`."""
    lines = ["keys of the config, which are set as in --config.train.num_epochs=5, with their defaults:"]
    for section in sections():
        lines += ["", f"{section.name}{f': {section.meaning}' if section.meaning else ''}", *_lines(section)]
    for section in networks():
        lines += ["", f"model, if model.name is {section.name!r} ({schema.NETWORKS[section.name].config})"]
        lines += _lines(section)
    return "\n".join(lines)


def _lines(section: Section) -> list[str]:
    lines = []
    for key in section.keys:
        lines.append(f"  {key.name}={key.default!r}")
        about = " ".join(part for part in (key.meaning, f"[{key.values()}]" if key.values() else "") if part)
        lines += textwrap.wrap(about, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def _meanings(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the comment of each section and each key in a function that fills a config, {"section.key": comment}."""
    source = textwrap.dedent(inspect.getsource(function))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Attribute)):
            continue
        found[target.attr] = comments.get(node.lineno, "")
        if isinstance(node.value, ast.Call) and not node.value.args:
            for keyword in node.value.keywords:
                found[f"{target.attr}.{keyword.arg}"] = comments.get(keyword.value.end_lineno or 0, "")
    return found


def _fields(row: schema.Network) -> list[Key]:
    """Returns the keys of a network: the fields of its class that the config may set."""
    module, _, name = row.module.partition(":")
    path = Path(__file__).parent.parent / f"{module.replace('.', '/')}.py"
    cls = next(
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef) and node.name == name
    )
    meanings = _attributes(ast.get_docstring(cls) or "")
    return [
        Key(f"model.{field}", ast.literal_eval(node.value), row.fields[field], meanings.get(field, ""))
        for node in cls.body
        if isinstance(node, ast.AnnAssign) and node.value and (field := ast.unparse(node.target)) in row.fields
    ]


def _attributes(document: str) -> dict[str, str]:
    """Returns the section "Attributes:" of a docstring as {attribute: description}."""
    section = re.search(r"^Attributes:\n((?:    .*\n?|\n)*)", document, re.MULTILINE)
    entries = re.findall(r"^    ([\w, ]+): ((?:.*\n?)(?:^        .*\n?)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(about.split()) for names, about in entries for name in names.split(", ")}
