"""With EDGERET_HOME, the public address of the repository, links of the package's page lead there."""

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
