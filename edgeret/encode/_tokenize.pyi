from typing import Any

import numpy as np
from numpy.typing import NDArray

def tokenizer(
    pages: NDArray[np.uint16],
    entries: NDArray[np.uint32],
    sequences: NDArray[np.uint32],
    marks: NDArray[np.uint32],
    units: NDArray[np.uint32],
    special: NDArray[np.uint32],
    unknown: int,
    longest: int,
    continuing: int,
    before: int,
) -> Any: ...
def encode(
    tokenizer: Any, text: str, special: bool, placed: bool
) -> tuple[list[int], list[tuple[int, int]], list[int]]: ...
def unigram(
    pages: NDArray[np.uint16],
    entries: NDArray[np.uint32],
    sequences: NDArray[np.uint32],
    special: NDArray[np.uint32],
    octets: NDArray[np.uint32],
    unknown: int,
    unknown_score: float,
    flags: int,
    before: int,
    file: int,
    offset: int,
    units: int,
    scores: int,
) -> Any: ...
def encode_unigram(
    tokenizer: Any, text: str, special: bool, placed: bool
) -> tuple[list[int], list[tuple[int, int]], list[int]]: ...
def byte_pairs(
    pages: NDArray[np.uint16],
    entries: NDArray[np.uint32],
    sequences: NDArray[np.uint32],
    special: NDArray[np.uint32],
    octets: NDArray[np.uint32],
    pairs: NDArray[np.uint32],
    flags: int,
    before: int,
    file: int,
    offset: int,
    units: int,
    vocabulary: int,
    merges: int,
) -> Any: ...
def encode_byte_pairs(
    tokenizer: Any, text: str, special: bool, placed: bool, part: int
) -> tuple[list[int], list[tuple[int, int]], list[int]]: ...
