"""Cells and codes of residuals: what a vector is quantized to in two steps.

Coarse k-means cells first; then encoder, codebooks and decoder for vectors less the centre of
their cell (Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011, section 4).
A rotation turns cells as they are, so it is learned from residuals, and the centres are turned
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepq._common.types import Floats, Ids
from deepq.encoders.base import Encoder, as_rows
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Identity
from deepq.encoders.rotation import Rotation


class Residual(Encoder):
    """z -> z less the centre of its cell.

    Parameters
    ----------
    centres : (nlist, d) float32
        Centres of the cells.
    nearest : callable
        Gives the cells (n,) of embeddings (n, d).
    """

    can_decode = False

    def __init__(self, centres: Floats, nearest: Callable[[Floats], Ids]) -> None:
        super().__init__(centres.shape[1], centres.shape[1])
        self._centres, self._nearest = centres, nearest

    def encode(self, x: Floats) -> Floats:
        """Subtract its centre from each row of `x` (n, d)."""
        x = as_rows(x, self.d_in)
        residuals: Floats = x - self._centres[self._nearest(x)]
        return residuals

    def state(self) -> dict[str, Any]:
        """Return the centres: they tell trainings apart."""
        return {"centres": self._centres}


def split_rotation(encoder: Encoder) -> tuple[Encoder, Rotation | None]:
    """Return what comes before a rotation at the end, and that, if there is one."""
    *before, last = encoder.members
    if not isinstance(last, Rotation):
        return encoder, None
    return Chain.of(before, encoder.d_in), last


def residual_chain(before: Encoder, residual: Residual, rotation: Rotation) -> Chain:
    """Put a step to residuals between what comes before a rotation and that."""
    return Chain([*_working(before), residual, rotation])


def without_residual(encoder: Encoder) -> Encoder:
    """Take the step to residuals out of a chain again."""
    members = [member for member in encoder.members if not isinstance(member, Residual)]
    return Chain.of(members, encoder.d_in)


def _working(encoder: Encoder) -> list[Encoder]:
    return [member for member in encoder.members if not isinstance(member, Identity)]
