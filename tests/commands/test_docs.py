"""The documentation is made from the source: each key of a config is in the reference, each module in the tree."""

import sys
from pathlib import Path

import pytest

from audiojax import config as configs
from audiojax import schema

ROOT = Path(__file__).resolve().parent
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent


@pytest.fixture
def from_source(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    yield __import__("from_source")
    sys.modules.pop("from_source")


def test_the_config_reference_has_every_key_with_default_range_and_meaning(from_source):
    rows = {line.split("`")[1]: line for line in from_source.config_reference().splitlines() if line.startswith("| `")}
    for key, value in configs.flatten(configs.base(configs.parse_arg("")).to_dict()).items():
        if not isinstance(value, list) and key != "data.cache":
            assert f"| `{value!r}` |" in rows[key]
    assert [key for key, row in rows.items() if not row.split(" | ")[-1].strip(" |")] == []  # each has a meaning
    assert "0 to 2,147,483,647" in rows["seed"] and "augmentation" in rows["seed"]
    assert "at least 1" in rows["train.log_every_steps"]
    assert all(f"`{choice}`" in rows["data.on_bad_file"] for choice in schema.RULES["data.on_bad_file"])
    assert "`True`, `False`" in rows["optimizer.nesterov"]
    assert "BatchNorm" in rows["model.batch_norm"]  # of a network's docstring
    assert str(Path.home()) not in "".join(rows.values())


def test_the_tree_names_every_module(from_source):
    lines = from_source.tree().splitlines()
    files = [path for path in (ROOT / "audiojax").rglob("*.py") if path.name != "__init__.py"]
    for path in [*files, *(ROOT / "configs").glob("[!_]*.py")]:
        assert any(line.split()[0] == path.name and len(line.split()) > 2 for line in lines if line.split()), path


def test_the_test_command_of_the_readme_is_marked():
    before, _, rest = (ROOT / "README.md").read_text().partition("<!-- test-command -->\n```\n")
    assert before and "-m pytest" in rest.splitlines()[0]


def test_help_prints_the_same_reference(run_cli, from_source):
    code, out, _ = run_cli("main", "--help")
    shown, keys = out.split("keys of the config")[1], from_source.config_reference()
    named = [line.split("`")[1] for line in keys.splitlines() if line.startswith("| `")]
    assert code == 0 and len(named) > 100 and all(f"  {name}=" in shown for name in named)
    assert "the order of clips and the augmentation [0 to 2,147,483,647]" in " ".join(shown.split())
