"""What a hash table is made of: the two encoders, what is kept, and the rows."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from deepq._common.arrays import require_finite
from deepq._common.checks import as_count, as_metric, as_size
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.threads import SharedLock
from deepq._common.types import Floats, Ids
from deepq.encoders.base import Encoder, embed
from deepq.encoders.plain import as_encoder
from deepq.hash_table.kept import Kept
from deepq.hash_table.probes import ORDERS, Words
from deepq.hash_table.ranking import Ranking
from deepq.hash_table.rows import MOST_BUCKETS, BucketRows
from deepq.hash_table.store import Store
from deepq.index.queries import Queries
from deepq.index.training_data import rows_for
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from deepq.objectives.base import Objective


class TableParts(Queries):
    """The part of a hash table that neither changes nor searches rows: see `HashTableIndex`."""

    rerank = 0

    def __init__(
        self,
        embedder: Encoder,
        hasher: Encoder,
        levels: int,
        width: int,
        *,
        sparsity: int = 1,
        kept: str | ProductQuantizer = "float32",
        metric: int = faiss.METRIC_L2,
        objective: Objective | None = None,
        hash_objective: Objective | None = None,
        training: TrainConfig | None = None,
        min_candidates: int = 0,
        order: str = "scores",
    ) -> None:
        self.levels, self.width = as_size(levels, "levels"), as_size(width, "width")
        self.sparsity = as_size(sparsity, "sparsity")
        if self.levels * np.log2(self.width) > np.log2(MOST_BUCKETS):
            got = f"{self.width} ** {self.levels}"
            raise InputError(f"expected at most {MOST_BUCKETS} buckets, got {got}")
        if self.sparsity > self.width:
            raise InputError(
                f"expected a sparsity of at most {self.width}, the words of a level, got {sparsity}"
            )
        if not isinstance(hasher, Encoder):
            raise KindError(f"expected an Encoder as hasher, got {type(hasher).__name__}")
        self._embedder = copy.deepcopy(as_encoder(embedder, hasher.d_in))
        self._hasher = copy.deepcopy(hasher)
        if self._hasher.d_out != self.levels * self.width:
            raise DimensionError(
                f"expected a hasher that gives {self.levels} x {self.width} scores, "
                f"got {self._hasher.d_out}"
            )
        if self._hasher.input_shape != self._embedder.input_shape:
            raise DimensionError(
                f"expected a hasher of inputs {self._embedder.input_shape}, as the embedder's, "
                f"got {self._hasher.input_shape}"
            )
        self.d, self.metric_type = self._embedder.d_in, as_metric(metric)
        self._kept = Kept(kept, self._embedder.d_out)
        if training is not None and not isinstance(training, TrainConfig):
            raise KindError(f"expected a TrainConfig, got {type(training).__name__}")
        self.objective, self.hash_objective = objective, hash_objective
        if order not in ORDERS:
            raise InputError(f"expected an order of {' or '.join(ORDERS)}, got {order!r}")
        self.order = order
        self.training, self.min_candidates = training, as_count(min_candidates, "min_candidates")
        self.history: list[dict[str, Any]] = []
        self.candidates: float | None = None
        self.verbose, self.num_threads = False, None
        self._lock, self._store = SharedLock(), Store(self._nothing())

    # ---- what it is made of ------------------------------------------------------------------

    @property
    def embedder(self) -> Encoder:
        """Gives embeddings; read only."""
        return self._embedder

    @property
    def hasher(self) -> Encoder:
        """Gives the scores of words; read only."""
        return self._hasher

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The embedder."""
        return self._embedder

    @property
    def product_quantizer(self) -> ProductQuantizer | None:  # type: ignore[override]
        """What makes codes of embeddings; None where these are kept."""
        return self._kept.quantizer

    @property
    def kept(self) -> str:
        """What is kept of a vector: "float32", "float16" or "codes"."""
        return self._kept.name

    @property
    def is_trained(self) -> bool:
        """Whether vectors can be added."""
        return self._embedder.is_fitted and self._hasher.is_fitted and self._kept.is_trained

    @property
    def ntotal(self) -> int:  # type: ignore[override]
        """How many vectors are stored."""
        return self._store.ntotal

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return int(self.width**self.levels)

    @property
    def bucket_sizes(self) -> Ids:
        """Vectors in each bucket, (buckets,) int64."""
        return self._ranking().rows.sizes

    def __repr__(self) -> str:
        metric = "L2" if self.metric_type == faiss.METRIC_L2 else "inner product"
        return (
            f"{type(self).__name__}(d={self.d}, levels={self.levels}, width={self.width}, "
            f"sparsity={self.sparsity}, kept={self.kept}, metric={metric}, "
            f"is_trained={self.is_trained}, ntotal={self.ntotal})"
        )

    # ---- inside ------------------------------------------------------------------------------

    def _nothing(self) -> BucketRows:
        """No rows."""
        ids, buckets = np.empty(0, np.int64), np.empty((0, self.sparsity), np.int64)
        content = np.empty((0, self._kept.width), self._kept.dtype)
        return BucketRows.of(content, ids, buckets, self.buckets)

    def _ranking(self) -> Ranking:
        """Return what ranks the rows that are stored now."""
        made = self._store.made
        if made is None:
            with self._lock.changing():
                made = self._store.ranking(lambda rows: self._kept.ranking(rows, self.metric_type))
        return made

    def _buckets(self, x: Floats) -> Ids:
        return Words.ranked(self._scores(x), self.levels).own_buckets(self.sparsity)

    def _scores(self, x: Floats) -> Floats:
        scores = embed(self._hasher, x)
        require_finite(scores, "scores of buckets")
        return scores

    def _vectors(self, x: Any, name: str = "x", **how: bool) -> Floats:
        return rows_for(self._embedder, x, name, **how)

    def _require_trained(self) -> None:
        if not self.is_trained:
            raise StateError("expected a trained index, got one before train()")

    def _threads(self) -> int:
        asked = self.num_threads
        return int(faiss.omp_get_max_threads()) if asked is None else as_size(asked, "num_threads")
