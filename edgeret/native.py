"""Whether what was built from C may run."""

from __future__ import annotations

import os


def is_allowed() -> bool:
    """Whether EDGERET_NO_NATIVE is unset, empty or 0."""
    return os.environ.get("EDGERET_NO_NATIVE", "0") in ("", "0")
