from typing import Any

from numpy.typing import NDArray

def planes(weights: NDArray[Any], spacing: float, /) -> bytes: ...
