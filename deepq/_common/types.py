"""Names for the arrays and numbers that all rooms speak of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
