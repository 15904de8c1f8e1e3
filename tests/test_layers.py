"""Which package may import which, one importer for each heavy library, and the size of modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [  # a module imports from lower layers and from its own package alone
    {"errors"},
    {"io"},
    {"audio"},
    {"rules"},
    {"schema"},
    {"renamed"},
    {"config"},
    {"reference"},
    {"synthesis"},
    {"data"},
    {"models"},
    {"training"},
    {"inference"},
    {"evaluation"},
    {"streaming"},
    {"attribution", "exporting"},
    {"serving", "tasks"},
    {"cli"},
    {"main", "prepare", "evaluate", "predict", "explain", "listen", "export", "download", "demo"},
]
COMMANDS = LAYERS[-1]
IMPORTERS = {  # a library, and the packages or modules that alone import it
    "orbax": {"training.checkpoint"},
    "wandb": {"training.wandb_logging"},
    "matplotlib": {"evaluation.plots"},
    "rich": {"io.console"},
    "soundfile": {"audio", "data", "synthesis"},
    "soxr": {"audio", "data", "synthesis"},
    "absl": {"cli"},
    "loky": {"io.workers"},
    "psutil": {"io.workers"},
    "filelock": {"io.files"},
    "requests": {"data.download"},
    "websockets": {"serving"},
    "sounddevice": {"listen"},
    "onnx": {"exporting"},
    "pyarrow": {"data.hub"},
    "huggingface_hub": {"data.hub"},
    "onnxruntime": {"exporting"},
}
NO_JAX = {"errors", "io", "audio", "rules", "schema", "renamed", "config", "reference", "synthesis", "data"}
MODULES = sorted((ROOT / "audiojax").rglob("*.py"))


def name_of(path: Path) -> str:
    """Returns a module's name within audiojax, as in "data.cache"; a package's is its own."""
    return ".".join(path.relative_to(ROOT / "audiojax").with_suffix("").parts).removesuffix(".__init__")


def package_of(path: Path) -> str:
    return name_of(path).partition(".")[0]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(package: str) -> int:
    return next(number for number, packages in enumerate(LAYERS) if package in packages)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_lower_layers(path):
    if path == ROOT / "audiojax" / "__init__.py":
        return  # its public names are imported when they are used
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "audiojax" and len(parts) > 1 and parts[1] != package_of(path):
            assert layer(parts[1]) < layer(package_of(path)), f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_heavy_library_has_one_importer(path):
    for name in imports(path):
        top = name.split(".")[0]
        allowed = IMPORTERS.get(top, {package_of(path)})
        assert {package_of(path), name_of(path)} & allowed, f"{name_of(path)} imports {top}"
        if package_of(path) in NO_JAX:
            assert top not in ("jax", "flax", "optax"), f"{name_of(path)} imports {top}"
        sharding = name_of(path) == "training.sharding"
        assert not name.startswith("jax.sharding") or sharding, f"{name_of(path)} imports {name}"
        if top == "ml_collections":
            assert layer(package_of(path)) >= layer("config"), f"{name_of(path)} is below config"


def test_configs_import_only_audiojax_config():
    for path in (ROOT / "configs").glob("*.py"):
        assert all(name.startswith("audiojax.config.") for name in imports(path)), path


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_at_most_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", [*MODULES, *(ROOT / "experiments").rglob("*.py")], ids=lambda path: path.stem)
def test_a_function_has_at_most_60_lines(path):
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [node.name for node in functions if node.end_lineno - node.lineno >= 60]


def loaded_by(module: str, names: tuple[str, ...]) -> list[str]:
    """Returns which modules whose names begin with one of `names` are loaded where `module` alone is imported."""
    code = f"import sys, {module}; print(*sorted(m for m in sys.modules if m.startswith({names!r})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.split()


def test_commands_import_heavy_libraries_late():
    """--help, a typo and preparing data need none of them."""
    heavy = ("jax", "orbax", "wandb", "matplotlib")
    assert loaded_by("audiojax.main, audiojax.prepare", heavy) == []


def test_the_training_loop_loads_neither_streams_nor_voices_nor_attribution():
    other = ("audiojax.streaming", "audiojax.synthesis", "audiojax.attribution")
    assert loaded_by("audiojax.training.loop", other) == []
