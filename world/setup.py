"""With EDGERET_HOME, the public address of the repository, the package's page links there; all else is in pyproject.toml."""

import os

from setuptools import setup

HOME = os.environ.get("EDGERET_HOME", "").rstrip("/")

setup(
    project_urls={
        "Repository": HOME,
        "Documentation": f"{HOME}/blob/main/docs/languages.md",
        "Changelog": f"{HOME}/blob/main/CHANGELOG.md",
        "Issues": f"{HOME}/issues",
    }
    if HOME
    else {}
)
