from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgeret.scan import Block

def isas() -> tuple[str, ...]: ...
def top_k(blocks: Iterable[Block], planes: NDArray[np.uint64], k: int, isa: str) -> tuple[bytes, bytes]: ...
