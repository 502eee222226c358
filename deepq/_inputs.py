"""What a network is trained on: vectors wherever they are, and queries behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.checks import as_vectors
from deepq._common.errors import InputError
from deepq._common.types import Floats, Ids
from deepq.encoders.base import Encoder, embed

_BLOCK, _BLOCK_NUMBERS = 4096, 1 << 24  # rows and numbers that are read at once


class Inputs:
    """Rows that are made when they are asked for.

    Parameters
    ----------
    x : (n, d) array
        Training vectors; they may be mapped from a file, and are then checked as they are read.
    queries : (p, d) float32 or uint8, optional
        Stand behind them, as rows too.
    before : Encoder, optional
        What the vectors pass through before they come to the network.
    """

    def __init__(
        self,
        x: NDArray[Any],
        queries: NDArray[Any] | None = None,
        before: Encoder | None = None,
    ) -> None:
        self.x, self.queries, self.before = x, queries, before

    def take(self, rows: Ids) -> NDArray[Any]:
        """Return some rows (m, d), float32 or uint8."""
        n = len(self.x)
        if self.queries is None:
            found = np.asarray(self.x[rows])
        else:
            kind = np.result_type(self.x, self.queries)
            found = np.empty((len(rows), self.x.shape[1]), kind)
            behind = rows >= n
            found[~behind] = self.x[rows[~behind]]
            found[behind] = self.queries[rows[behind] - n]
        mapped = isinstance(self.x, np.memmap)
        found = as_vectors(
            found, self.x.shape[1], "training vectors", finite=mapped, keep_bytes=True
        )
        return found if self.before is None else self.before.encode(found)

    def embeddings(self, encoder: Encoder, rows: Ids) -> Floats:
        """Embeddings (m, d_out) of some rows, which are read block by block.

        Raises InputError where they are not finite.
        """
        z = np.empty((len(rows), encoder.d_out), np.float32)
        size = max(1, min(_BLOCK, _BLOCK_NUMBERS // encoder.d_in))
        for i in range(0, len(rows), size):
            z[i : i + size] = embed(encoder, self.take(rows[i : i + size]))
        if not np.isfinite(z).all():
            raise InputError(diverged("finite embeddings", "NaN or infinity"))
        return z


def diverged(expected: str, got: str) -> str:
    """Say that a training went astray."""
    return f"expected {expected} in training the network, got {got}: lower the learning_rate"
