"""Builds the optional native scan; everything else is in pyproject.toml.

Without a working compiler the package installs all the same and scans with NumPy, unless
EDGERET_REQUIRE_NATIVE=1 makes that an error (release builds set it).
"""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

REQUIRED = os.environ.get("EDGERET_REQUIRE_NATIVE", "0") not in ("", "0")


class BuildScan(build_ext):
    """Says what a failed build costs; the extension's `optional` decides whether it is an error."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link `ext`."""
        try:
            super().build_extension(ext)
        except CCompilerError:
            self.warn(
                "no native scan: searches will run on NumPy, several times slower; for the native one "
                "install a C compiler and install edgeret again"
            )
            raise


setup(
    ext_modules=[
        Extension(
            "edgeret._scan",
            ["edgeret/_scan.c"],
            depends=["edgeret/_search.h", "edgeret/_seek.h", "edgeret/_seek_x86.h", "edgeret/_seek_neon.h"],
            extra_compile_args=["-O3"],
            py_limited_api=True,
            optional=not REQUIRED,
        )
    ],
    cmdclass={"build_ext": BuildScan},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
