"""Builds the optional native code; everything else is in pyproject.toml.

Without a working compiler the package installs all the same and uses NumPy and Python instead, unless
EDGERET_REQUIRE_NATIVE=1 makes that an error (release builds set it). With EDGERET_HOME, the public address of the
repository, links of the package's page lead there (release builds set it too).
"""

import os
import re
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

REQUIRED = os.environ.get("EDGERET_REQUIRE_NATIVE", "0") not in ("", "0")

HOME = os.environ.get("EDGERET_HOME", "").rstrip("/")


def page(text: str, home: str) -> str:
    """The README as it can be read elsewhere: what it links to, and shows, lies in the repository."""
    for start, kind in ((r"!\[[^\]]*\]\(", "raw"), (r"(?<!!)\[[^\]]*\]\(", "blob")):
        text = re.sub(rf"({start})(?!https?:|#)", rf"\1{home}/{kind}/main/", text)
    return text.replace("](#", f"]({home}#")


class BuildNative(build_ext):
    """Says what a failed build costs; the extension's `optional` decides whether it is an error."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link `ext`."""
        try:
            super().build_extension(ext)
        except CCompilerError:
            self.warn(
                f"no native {ext.name}: NumPy will do its work, several times slower; for the native one "
                "install a C compiler and install edgeret again"
            )
            raise


def extension(module: str, *headers: str) -> Extension:
    """The extension module `edgeret.<module>`, of the file in `native/` that has its name without the underscore."""
    name = module.rpartition("_")[2]
    return Extension(
        f"edgeret.{module}",
        [f"native/{name}.c"],
        depends=[f"native/{header}.h" for header in ("python", *headers)],
        # Floats must not depend on whether a processor multiplies and adds in one step.
        extra_compile_args=["-O3", "-ffp-contract=off"],
        libraries=["m"],
        py_limited_api=True,
        optional=not REQUIRED,
    )


readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
setup(
    long_description=page(readme, HOME) if HOME else readme,
    long_description_content_type="text/markdown",
    project_urls={
        "Repository": HOME,
        "Documentation": f"{HOME}/blob/main/docs/index.md",
        "Changelog": f"{HOME}/blob/main/CHANGELOG.md",
        "Issues": f"{HOME}/issues",
    }
    if HOME
    else {},
    ext_modules=[
        extension("_scan", "search", "seek", "seek_x86", "seek_neon", "octets"),
        extension("_codec"),
        extension("encode._static", "static", "static_vnni"),
        extension("encode._tokenize", "text", "trie", "tokenize", "unigram", "bpe"),
        extension("_words", "words"),
        extension("_postings", "postings", "lists", "octets"),
        extension("storage._checksum", "checksum", "digest", "lines", "octets"),
        extension("storage._terms", "terms", "checksum", "lists", "lines", "octets"),
    ],
    cmdclass={"build_ext": BuildNative},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
