import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]

PANEL: int

def decode(words: NDArray[np.integer], arrays: dict[str, _Floats]) -> _Floats: ...
