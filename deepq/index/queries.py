"""What a search does with its queries, wherever the codes lie."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.arrays import as_output
from deepq._common.checks import as_k
from deepq._common.types import Floats, Ids
from deepq.encoders.base import Encoder, embed
from deepq.quantizers.product import ProductQuantizer

_FLT_MAX = float(np.finfo(np.float32).max)


class Queries:
    """The part of a searching strand that knows nothing of codes."""

    metric_type: int
    ntotal: int
    rerank: int
    encoder: Encoder
    product_quantizer: ProductQuantizer

    @property
    def _worst(self) -> float:
        """The score beside id -1."""
        return -_FLT_MAX if self.metric_type == faiss.METRIC_INNER_PRODUCT else _FLT_MAX

    def _outputs(self, x: Floats, k: Any, D: Any, I: Any) -> tuple[Floats, Ids]:
        """Return the arrays that the k results of every query go to."""
        k = as_k(k, len(x), self.ntotal)
        D = as_output(D, (len(x), k), np.float32, "D")
        return D, as_output(I, (len(x), k), np.int64, "I")

    def _encode_queries(self, x: Floats) -> tuple[slice | Ids, Floats]:
        """Which queries are finite, before and after encoding, and their embeddings."""
        usable: slice | Ids = slice(None)
        if not _scan.all_finite(x):
            usable = np.flatnonzero(np.isfinite(x).all(axis=1))
        with np.errstate(over="ignore", invalid="ignore"):
            z = embed(self.encoder, x[usable])
        if not _scan.all_finite(z):
            finite = np.flatnonzero(np.isfinite(z).all(axis=1))
            usable, z = np.arange(len(x))[usable][finite], z[finite]
        return usable, z

    def _rerank_count(self, params: Any) -> int:
        """How many results of a scan are ranked anew in a call; 0 without a decoder."""
        count = getattr(params, "rerank", None)
        count = self.rerank if count is None else count
        return int(count) if count and self.product_quantizer.decoder is not None else 0

    @staticmethod
    def _limits(n: int, usable: slice | Ids, lims: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Where the results of n queries end, of which the usable ones have those up to `lims`."""
        counts = np.zeros(n, np.uint64)
        counts[usable] = np.diff(lims)
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)])
