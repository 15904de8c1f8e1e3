"""The configuration of the documentation site: python -m sphinx -W docs docs/_build/html."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]
# The notebook's processes use this checkout, this interpreter, and no account.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_MODE"] = "disabled"

import audiojax

project = "audiojax"
author = "The audiojax authors"
copyright = f"2026, {author}"
version = release = audiojax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "plain_docstrings",
    "from_source",
]
exclude_patterns = ["_build", "_ext", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

nb_execution_mode = os.environ.get("AUDIOJAX_DOCS_EXECUTE", "force")  # "off" for quick work on the text
nb_execution_timeout = 600  # a cell, on a busy machine
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True

html_theme = "sphinx_book_theme"
html_title = "audiojax"
html_theme_options = {"show_toc_level": 2, "use_download_button": True, "home_page_in_toc": True}
