from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]

PANEL: int

def decode(words: NDArray[np.integer], arrays: dict[str, NDArray[Any]]) -> _Floats: ...
def multiply(rows: _Floats, panels: _Floats) -> _Floats: ...
def beam(costs: _Floats, cross: _Floats, width: int) -> NDArray[np.int32]: ...
def choose(
    z: _Floats,
    candidates: NDArray[np.int32],
    arrays: dict[str, NDArray[Any]],
    summands: NDArray[np.int8],
    scale: float,
    trials: int,
    hope: float,
) -> NDArray[np.int32]: ...
def least(numbers: _Floats, count: int) -> tuple[NDArray[np.int32], _Floats]: ...
def rank(
    queries: _Floats,
    vectors: _Floats,
    ids: NDArray[np.int64],
    places: NDArray[np.int64],
    inner_product: bool,
    D: _Floats,
    I: NDArray[np.int64],
) -> None: ...
def roughly_first(
    queries: _Floats,
    ids: NDArray[np.int64],
    words: NDArray[np.uint8],
    summands: NDArray[np.int8],
    count: int,
    inner_product: bool,
) -> NDArray[np.int64]: ...
def reaches(numbers: _Floats, least: float) -> bool: ...
def unknown(
    ids: NDArray[np.int64],
    codes: NDArray[np.uint8],
    kept: NDArray[np.uint8],
    known: NDArray[np.uint8],
) -> NDArray[np.int64]: ...
def same(a: _Floats, b: _Floats | None) -> bool: ...
