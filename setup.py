"""Says what pyproject.toml cannot: the folder configs/ is the package audiojax.configs in the wheel."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["audiojax*"]), "audiojax.configs"],
    package_dir={"audiojax.configs": "configs"},
)
