"""The house: who may import whom, one fence a heavy library, and no room too large."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {"types"},
    {"data", "interrupt", "rules"},
    {"models", "schema", "metrics", "mesh", "augment", "analysis", "environment", "integrity", "decoder"},
    {"relevance", "audible"},
    {"state", "hearing", "anatomy"},
    {"config"},
    {"tracker", "saved_config"},
    {"checkpoint", "runlog", "plots", "command"},
    {"trained", "prepare", "page", "download", "assembly"},
    {"listener_report", "start", "stream", "logit_stream", "stablehlo", "faithfulness"},
    {"onnx_graph"},
    {"evaluate", "predict", "listen", "export", "explain"},
    {"finish"},
    {"train"},
    {"main", "demo"},
]
FENCES = {
    "orbax": {"checkpoint"},
    "wandb": {"tracker"},
    "matplotlib": {"plots"},
    "rich": {"runlog"},
    "soundfile": {"data"},
    "soxr": {"data"},
    "absl": {"command"},
    "loky": {"data"},
    "psutil": {"data"},
    "filelock": {"data"},
    "requests": {"download"},
    "websockets": {"demo"},
    "sounddevice": {"listen"},
    "onnx": {"onnx_graph", "export"},
    "onnxruntime": {"export"},
}
MODULES = sorted((ROOT / "audiojax").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "audiojax").with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_floors(path):
    if path.parent.name == "audiojax" and path.stem == "__init__":
        assert not imports(path)
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "audiojax" and len(parts) > 1 and parts[1] != room(path):
            assert floor(parts[1]) < floor(room(path)), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_heavy_libraries_stay_behind_their_fence(path):
    for name in imports(path):
        top = name.split(".")[0]
        assert room(path) in FENCES.get(top, {room(path)}), f"{path.name} imports {top}"
        if room(path) in ("data", "types"):
            assert top not in ("jax", "flax", "optax"), f"{path.name} imports {top}"
        assert not name.startswith("jax.sharding") or room(path) == "mesh", f"{path.name} imports {name}"
        if top == "ml_collections":
            assert floor(room(path)) >= floor("config"), f"{path.name} is below config and imports ml_collections"


def test_configs_import_only_audiojax_config():
    for path in (ROOT / "configs").glob("*.py"):
        assert all(name.startswith("audiojax.config.") for name in imports(path)), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_file_outgrows_an_evening(path):
    assert len(path.read_text().splitlines()) <= 300


def test_light_commands_stay_light():
    """--help, a typo and preparing data need none of the heavy libraries."""
    heavy = ("jax", "orbax", "wandb", "matplotlib")
    code = f"import sys, audiojax.main, audiojax.prepare; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
