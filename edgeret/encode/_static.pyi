from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

def isas() -> tuple[str, ...]: ...
def student(
    read: Callable[[int], bytes],
    most: int,
    token_scales: NDArray[np.float32],
    inner: NDArray[np.int8],
    inner_scales: NDArray[np.float32],
    inner_bias: NDArray[np.float32],
    outer: NDArray[np.int8],
    outer_scales: NDArray[np.float32],
    outer_bias: NDArray[np.float32],
    isa: str,
) -> Any: ...
def head(
    inner: NDArray[np.int8],
    inner_scales: NDArray[np.float32],
    inner_bias: NDArray[np.float32],
    outer: NDArray[np.int8],
    outer_scales: NDArray[np.float32],
    outer_bias: NDArray[np.float32],
    isa: str,
) -> Any: ...
def encode(student: Any, ids: list[int]) -> bytearray: ...
def correct(head: Any, total: NDArray[np.float32]) -> bytearray: ...
