from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]

def simd_levels() -> list[str]: ...
def simd() -> str: ...
def set_simd(name: str) -> None: ...
def search(
    codes: NDArray[np.uint8],
    M: int,
    nbits: int,
    D: _Floats,
    I: NDArray[np.int64],
    *,
    queries: _Floats | None = None,
    codebooks: _Floats | None = None,
    luts: _Floats | None = None,
    inner_product: bool = False,
    allowed: NDArray[np.uint8] | None = None,
    num_threads: int = 1,
) -> None: ...
def range_search(
    codes: NDArray[np.uint8],
    M: int,
    nbits: int,
    radius: float,
    *,
    queries: _Floats | None = None,
    codebooks: _Floats | None = None,
    luts: _Floats | None = None,
    inner_product: bool = False,
    allowed: NDArray[np.uint8] | None = None,
    num_threads: int = 1,
) -> tuple[NDArray[np.uint64], _Floats, NDArray[np.int64]]: ...
def mark_ids(ids: NDArray[np.int64], n: int) -> NDArray[np.uint8]: ...
def all_finite(x: _Floats) -> bool: ...
def count_ids(bits: NDArray[np.uint8], n: int) -> int: ...
def unpack(codes: NDArray[np.uint8], M: int, nbits: int) -> NDArray[np.uint8]: ...
def assign(
    z: _Floats, codebooks: _Floats, *, num_threads: int = 1
) -> NDArray[np.unsignedinteger[Any]]: ...
def accumulate(
    z: _Floats, words: NDArray[np.unsignedinteger[Any]], ksub: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]: ...
def sum_cells(
    x: _Floats, words: NDArray[np.unsignedinteger[Any]], ksub: int
) -> tuple[_Floats, NDArray[np.int64]]: ...
def add_up(tables: _Floats, words: NDArray[np.unsignedinteger[Any]]) -> _Floats: ...
