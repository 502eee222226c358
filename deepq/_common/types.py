"""Names for the arrays and numbers that all rooms speak of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

METRIC_INNER_PRODUCT = 0
METRIC_L2 = 1

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
Words = NDArray[np.unsignedinteger[Any]]

Progress = Callable[[dict[str, Any]], None]


class InCells(NamedTuple):
    """The cells that vectors lie in.

    Attributes
    ----------
    centres : (m, d) float32
        Centres of some cells.
    cells : (n,) int64
        For each vector the row of its cell among them.
    """

    centres: Floats
    cells: Ids

    def part(self, rows: Any) -> InCells:
        """Those of some of the vectors."""
        return InCells(self.centres, self.cells[rows])
