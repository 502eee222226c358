"""Cells, and codes of residuals: what a vector is quantized to in two steps.

k-means cells first; then rotation, codebooks and decoder for vectors less the centre of their cell
(Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011, section 4). A rotation
turns cells as they are, so it is learned from residuals, and the centres are turned afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepq._common.types import Floats, Ids, Progress
from deepq.encoders.base import Encoder, embed
from deepq.encoders.chain import Chain
from deepq.encoders.rotation import Rotation
from deepq.quantizers.product import ProductQuantizer

_ITERATIONS = 16


class Cells:
    """The cells of a training: centres, and what vectors pass through before they lie in one.

    Parameters
    ----------
    before : Encoder
        Fitted; it gives what has cells.
    centres : (nlist, d) float32
        Centres of the cells.
    nearest : callable
        Gives the `count` nearest cells (n, count) of embeddings (n, d).
    """

    def __init__(
        self, before: Encoder, centres: Floats, nearest: Callable[[Floats, int], Ids]
    ) -> None:
        self.before, self.centres, self.nearest = before, centres, nearest

    def split(self, x: Floats) -> tuple[Floats, Ids]:
        """Residuals (n, d) of vectors (n, d_in), and their cells (n,)."""
        z = embed(self.before, x)
        cells = self.nearest(z, 1)[:, 0]
        residuals: Floats = z - self.centres[cells]
        return residuals, cells


class CentreQuantizer(ProductQuantizer):
    """One codebook of any number of codewords: the centres of cells, learned as codewords are.

    Parameters
    ----------
    nlist : int
        Number of cells, at most `MOST`.
    """

    MOST = 1 << 16

    def __init__(self, nlist: int) -> None:
        super().__init__(1, 16)
        self._nlist = nlist

    @property
    def ksub(self) -> int:
        """Number of cells."""
        return self._nlist

    def learn(self, z: Floats, *, seed: int, progress: Progress | None = None) -> Floats:
        """Learn the centres (nlist, d) of embeddings (n, d), at least as many.

        `progress` is called after each iteration with {"stage": "cells", "iteration", "error"}.
        """

        def told(entry: dict[str, Any]) -> None:
            if progress is not None:
                progress({**entry, "stage": "cells"})

        self.train(z, iterations=_ITERATIONS, seed=seed, progress=told)
        centres: Floats = self.trained()[0]
        return centres


def split_rotation(encoder: Encoder) -> tuple[Encoder, Rotation | None]:
    """Return what comes before a rotation at the end, and that, if there is one."""
    *before, last = encoder.members
    if not isinstance(last, Rotation):
        return encoder, None
    return Chain.of(before, encoder.d_in), last
