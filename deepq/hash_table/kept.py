"""What a hash table keeps of an embedding: the numbers, halves of them, or a code."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import require_finite
from deepq._common.errors import InputError, KindError
from deepq._common.types import Floats
from deepq.hash_table.ranking import ByCodes, ByEmbeddings, Ranking
from deepq.hash_table.rows import BucketRows
from deepq.quantizers.product import ProductQuantizer

_DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "codes": np.uint8}


class Kept:
    """One way to keep embeddings.

    Parameters
    ----------
    kept : "float32", "float16" or ProductQuantizer
        A quantizer is copied.
    m : int
        Numbers of an embedding.

    Attributes
    ----------
    name : "float32", "float16" or "codes"
    quantizer : ProductQuantizer or None
    width : int
        Numbers of a row that is kept.

    Raises
    ------
    KindError, InputError
        If it is none of these, or the quantizer is of other embeddings, or of more than 8 bits.
    """

    def __init__(self, kept: str | ProductQuantizer, m: int) -> None:
        self.quantizer: ProductQuantizer | None = None
        self.width = m
        if isinstance(kept, str) and kept in ("float32", "float16"):
            self.name = kept
            return
        if not isinstance(kept, ProductQuantizer):
            raise KindError(f"expected kept float32, float16 or a ProductQuantizer, got {kept!r}")
        if kept.nbits > 8:
            raise InputError(f"expected a quantizer of at most 8 bits, got {kept.nbits}")
        d = m if kept.codebooks is None else kept.M * kept.dsub
        if m % kept.M or d != m:
            raise InputError(
                f"expected a quantizer for embeddings of {m} numbers, got one of M = {kept.M}"
                + ("" if kept.codebooks is None else f" for {d}")
            )
        self.name, self.quantizer, self.width = "codes", copy.copy(kept), kept.code_size

    @property
    def dtype(self) -> Any:
        """Kind of what is kept."""
        return _DTYPES[self.name]

    @property
    def is_trained(self) -> bool:
        """Whether rows can be made."""
        return self.quantizer is None or self.quantizer.is_trained

    def rows(self, z: Floats, first: int, threads: int) -> NDArray[Any]:
        """Make what is kept of embeddings (n, m); `first` is the number of the first one.

        Raises InputError where they are not finite, or too large for float16.
        """
        require_finite(z, "embeddings", first)
        if self.quantizer is not None:
            return self.quantizer.with_threads(threads).encode(z)
        if self.name == "float32":
            return z
        with np.errstate(over="ignore"):
            halves = z.astype(np.float16)
        if not np.isfinite(halves).all():
            most = float(np.abs(z).max())
            raise InputError(f"expected embeddings that float16 holds, up to 65504, got {most:.6g}")
        return halves

    def ranking(self, rows: BucketRows, metric: int) -> Ranking:
        """Make what ranks such rows."""
        if self.quantizer is None:
            return ByEmbeddings(rows, metric)
        return ByCodes(rows, self.quantizer, metric)
