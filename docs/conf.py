"""Sphinx: the pages of this folder, and the reference from the docstrings."""

from importlib import metadata

project = "edgeret"
author = "The edgeret authors"
release = metadata.version("edgeret")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_argparse_cli"]
html_theme = "furo"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# `[text](../benchmarks/results/x.jsonl)` and the like lead out of this folder, to the repository.
suppress_warnings = ["myst.xref_missing"]
