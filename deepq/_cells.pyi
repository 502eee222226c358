import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Ids = NDArray[np.int64]
_Codes = NDArray[np.uint8]

class Cells:
    codebooks: _Floats
    centres: _Floats
    middle: _Floats
    def __init__(
        self,
        nlist: int,
        codebooks: _Floats,
        centres: _Floats,
        nbits: int,
        by_residual: bool,
        inner_product: bool,
    ) -> None: ...
    def place(
        self, codes_at: int, ids_at: int, stride: int, pointer_at: int, size_at: int
    ) -> None: ...
    def forget(self) -> None: ...
    def nearest(self, queries: _Floats, cells: _Ids, num_threads: int) -> bool: ...
    def sizes(self) -> _Ids: ...
    def entries(self) -> tuple[_Ids, _Ids]: ...
    def codes_at(self, places: _Ids) -> _Codes: ...
    def ids_at(self, places: _Ids) -> _Ids: ...
    def list_of(self, cell: int) -> tuple[_Codes, _Ids]: ...

def search(
    table: Cells,
    queries: _Floats,
    cells: _Ids,
    D: _Floats,
    I: _Ids,
    places: _Ids,
    *,
    allowed: dict[int, _Codes] | None = None,
    num_threads: int = 1,
) -> None: ...
def range_search(
    table: Cells,
    queries: _Floats,
    cells: _Ids,
    radius: float,
    *,
    allowed: dict[int, _Codes] | None = None,
    num_threads: int = 1,
) -> tuple[NDArray[np.uint64], _Floats, _Ids]: ...
