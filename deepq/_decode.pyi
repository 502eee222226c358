import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]

PANEL: int

def decode(words: NDArray[np.integer], arrays: dict[str, _Floats]) -> _Floats: ...
def choose(
    z: _Floats,
    candidates: NDArray[np.int32],
    arrays: dict[str, _Floats],
    summands: _Floats,
    trials: int,
    hope: float,
) -> NDArray[np.int32]: ...
def least(numbers: _Floats, count: int) -> tuple[NDArray[np.int32], _Floats]: ...
