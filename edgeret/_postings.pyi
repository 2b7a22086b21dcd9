from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeret.blocks import Bitmap

def count(octets: bytes, start: int, end: int, /) -> int: ...
def decode(
    octets: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], /
) -> tuple[bytes, bytes, bytes]: ...
def encode(
    starts: NDArray[np.int64], rows: NDArray[np.int64], marks: NDArray[np.uint8], /
) -> tuple[bytes, bytes]: ...
def group(blobs: tuple[bytes, ...], /) -> tuple[bytes, bytes]: ...
def top_k(
    words: tuple[Sequence[object], ...],
    k: int,
    impacts: NDArray[np.uint8],
    blocks: NDArray[np.int64] | None,
    bitmaps: tuple[Bitmap, ...],
    must: NDArray[np.int64],
    /,
) -> tuple[bytes, bytes, bytes, int, int]: ...
