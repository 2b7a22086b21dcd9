"""Watch: when something changes in folders, told by the package watchfiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edgeret.errors import StorageError
from edgeret.storage import sides
from edgeret.storage.place import absolute, status

_TOGETHER_MS: Final = 400
"""Changes that follow each other are waited for so long at most, and until there is none for `_STEP_MS`."""
_STEP_MS: Final = 50
_LOOK_MS: Final = 500
"""Between two looks at whether there is anything to do: a change does not wait for them."""


def changes(folders: Sequence[str], index: str) -> Iterator[bool]:
    """Whether something has changed: at first, when the watch has begun, that is so, and then twice a second or sooner.

    index: its own files are no change. Raises StorageError where the package is missing, or the system refuses.
    """
    try:
        from watchfiles import watch
    except ImportError:
        raise StorageError(
            "the package watchfiles follows folders, and is missing: pip install 'edgeret[watch]'"
        ) from None
    roots = [Path(folder).absolute() for folder in folders]
    own = absolute(index)

    def is_ours(_: object, path: str) -> bool:
        inside = [Path(path).relative_to(root) for root in roots if Path(path).is_relative_to(root)]
        return not sides.is_of(own, path) and not all(
            any(part.startswith(".") for part in place.parts) for place in inside
        )

    try:
        while True:
            begun = moved = False
            watched = _identities(roots)
            for found in watch(
                *roots,
                watch_filter=is_ours,
                debounce=_TOGETHER_MS,
                step=_STEP_MS,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,
                raise_interrupt=True,
            ):
                yield bool(found) or not begun
                begun = True
                moved |= any(Path(path) in roots for _, path in found)
                lying = _identities(roots)
                if None not in lying and (moved or lying != watched):
                    # The system follows the folder that lay there, wherever it is.
                    break
    except OSError as error:
        raise StorageError(f"cannot watch the folders ({error}): call sync now and then instead") from None


def _identities(folders: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Which folders lie there; None where none does."""
    return [None if found is None else (found.st_dev, found.st_ino) for found in map(status, folders)]
