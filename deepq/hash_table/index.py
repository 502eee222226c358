"""``HashTableIndex``: rows in learned buckets, of which a search looks at a few."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from deepq._common.arrays import as_free_ids
from deepq._common.checks import as_count
from deepq._common.errors import DimensionError, FormatError, InputError, KindError, StateError
from deepq._common.threads import openmp_threads
from deepq._common.types import Floats, Ids
from deepq.encoders.base import embed
from deepq.hash_table.kept import Kept
from deepq.hash_table.parts import TableParts
from deepq.hash_table.probes import Words, probes
from deepq.hash_table.state import held_table, made_table, table_fingerprint
from deepq.hash_table.store import Store
from deepq.hash_table.training import HashTraining, as_classes
from deepq.index.state import copied, packed, reduced, unpack
from deepq.index.tensors import accepts_tensors
from deepq.index.training_data import checked_blocks, rows_to_add, training_data
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from typing_extensions import Self


class HashTableIndex(TableParts):
    """A hash table of learned buckets: one network says where a vector lies, another ranks.

    Jeong, Kim & Song, "End-to-end efficient representation learning via cascading combinatorial
    optimization", CVPR 2019; `recipes.hierarchical` makes one. The hasher gives every vector
    `width` scores for each of some levels. A word of each level, the best, is the number of its
    bucket, of width ** levels; with a sparsity of s it lies in s buckets, of the s best words of
    the last level. A search looks into the buckets of the query, and into more where there are too
    few candidates; these are ranked by the embeddings of the embedder, or by codes of them.

    It has the methods of an index of faiss's, but is none: faiss's composites do not take it.

    Parameters
    ----------
    embedder : Encoder or torch.nn.Module
        Gives the embeddings that rank; of rows of the same kind as the hasher.
    hasher : Encoder
        Gives levels * width scores.
    levels, width : int
        There are width ** levels buckets, at most 2^24.
    sparsity : int
        Buckets that a vector lies in, 1 to `width`.
    kept : "float32", "float16" or ProductQuantizer
        What is kept of a vector: its embedding, or the code of it.
    metric : int
        ``faiss.METRIC_L2`` or ``faiss.METRIC_INNER_PRODUCT``, of embeddings.
    objective, hash_objective : Objective, optional
        What the networks in embedder and hasher minimise.
    training : TrainConfig, optional
        Settings of `train`.
    min_candidates : int
        Candidates that a query has at least, as far as there are so many; never fewer than k.
    order : "scores" or "counting"
        Which buckets a query looks into after its own: by the sums of their words' scores, or in
        the paper's order, in which the last level's word varies first.

    Attributes
    ----------
    d : int
        Length of a vector.
    candidates : float or None
        Mean share of the stored vectors that the queries of the last search looked at.
    history : list of dict
        Entries of the last training: see `deepq.training.trainer.Outcome`. Stages are "metric",
        "buckets", and those of codebooks.
    verbose : bool
        Whether a training shows progress bars.
    num_threads : int or None
        Most threads of a call; None for as many as ``faiss.omp_get_max_threads`` says.

    Raises
    ------
    InputError, DimensionError, KindError
        If a number is out of range, an argument of the wrong kind, or the parts do not fit.
    """

    kind = "hash_table"

    @property
    def fingerprint(self) -> str | None:
        """16 hexadecimal digits that say what buckets and rows mean; None before the training."""
        if not self.is_trained:
            return None
        with held_table(self, empty=True) as state:
            return table_fingerprint(state)

    # ---- training ----------------------------------------------------------------------------

    @accepts_tensors
    def train(self, x: Any, y: Any) -> None:
        """Learn the metric, then the buckets, and codebooks if codes are kept; it must be empty.

        Parameters
        ----------
        x : (n, d) array, or torch Dataset or DataLoader
            Finite training vectors, or images as the networks take them.
        y : (n,) int or str, or (n, c) bool
            A class for each row; tags of which each row has one. A class of one row is left out
            where rows are compared within classes.

        Raises
        ------
        InputError
            If labels are no classes, or there is nothing to learn; if rows are not finite.
        StateError
            If vectors are stored.
        ImportError
            If OR-Tools, which finds codes of classes, is not installed.
        DimensionError, KindError
            If `x` or `y` is of the wrong shape or kind. The index is unchanged by any failure.
        FormatError, OSError
            If a checkpoint is damaged, or cannot be read or written.
        KeyboardInterrupt
            On Ctrl-C. If the second network had been trained for an epoch by then, the index is
            trained with the best that there was; else it is unchanged, and a checkpoint, if there
            is one, keeps what was reached.
        """
        x, y = training_data(x, y, self.d, self._embedder.input_shape)
        if callable(x):
            raise KindError("expected an array to train on with labels, got a callable")
        if y is None:
            raise InputError("expected labels y to train a hash table with, got None")
        y = as_classes(y, len(x))
        with self._lock.changing(), openmp_threads(self._threads()):
            if self.ntotal:
                raise StateError(
                    f"expected an empty index when it is trained, got {self.ntotal} vectors, whose "
                    "buckets would lose their meaning: reset() it first"
                )
            quantizer = self._kept.quantizer
            quantizer = None if quantizer is None else quantizer.fresh()
            training = HashTraining(
                self.metric_type,
                self.objective,
                self.hash_objective,
                self.training or TrainConfig(),
                bool(self.verbose),
            )
            copies = copy.deepcopy(self._embedder), copy.deepcopy(self._hasher)
            embedder, hasher, history, interrupted = training.learn(*copies, quantizer, x, y)
            self._embedder, self._hasher, self.history = embedder, hasher, history
            if quantizer is not None:
                self._kept = Kept(quantizer, embedder.d_out)
        if interrupted:
            raise KeyboardInterrupt

    # ---- storing -----------------------------------------------------------------------------

    @accepts_tensors
    def add(self, x: Any) -> None:
        """Store vectors (n, d); their ids go on from the largest that was ever given.

        Raises StateError before training, and as `train` for rows that are not finite.
        """
        x = self._rows_to_add(x)
        with self._lock.changing():
            self._append(x, self._store.next_id + np.arange(len(x)))

    @accepts_tensors
    def add_with_ids(self, x: Any, xids: Any) -> None:
        """Store vectors (n, d) under ids (n,), at least 0. Raises as `add`, and for other ids."""
        x, ids = self._rows_to_add(x), as_free_ids(xids, "xids")
        if len(ids) != len(x):
            raise DimensionError(f"expected an id for each of {len(x)} vectors, got {len(ids)}")
        with self._lock.changing():
            self._append(x, ids)

    @accepts_tensors
    def remove_ids(self, x: Any) -> int:
        """Remove vectors by ids (n,) or a faiss.IDSelector; return how many. Others keep theirs."""
        with self._lock.changing():
            return self._store.remove(x)

    def reset(self) -> None:
        """Remove all vectors; the training stays."""
        with self._lock.changing():
            self._store = Store(self._nothing())

    def copy_empty(self) -> Self:
        """Copy without vectors: the same training and settings."""
        with held_table(self, empty=True) as state:
            return made_table(copied(state), type(self))

    # ---- searching ---------------------------------------------------------------------------

    @accepts_tensors
    def search(
        self, x: Any, k: int, *, min_candidates: int | None = None, D: Any = None, I: Any = None
    ) -> tuple[Floats, Ids]:
        """Find the k nearest of the vectors in the buckets of every query.

        Parameters
        ----------
        x : (n, d) array
            Queries.
        k : int
            Neighbours per query.
        min_candidates : int, optional
            Of this call: see the class. ``index.ntotal`` looks at all vectors.
        D, I : (n, k) arrays of float32 and int64, optional
            Where results go.

        Returns
        -------
        D : (n, k) float32
            Scores, best first: squared L2 distances of embeddings, or inner products; of codes, to
            or with what they stand for. Where there is no k-th vector, or the query is not finite,
            +FLT_MAX for L2 and -FLT_MAX for inner product.
        I : (n, k) int64
            Ids; equal scores in ascending order of id; -1 where there is none.

        Raises
        ------
        StateError
            If the index is not trained.
        DimensionError, KindError, InputError
            If an argument has the wrong shape or kind, or is out of range.
        """
        x = self._vectors(x)
        D, I = self._outputs(x, k, D, I)
        least = as_count(
            self.min_candidates if min_candidates is None else min_candidates, "min_candidates"
        )
        self._require_trained()
        D.fill(self._worst)
        I.fill(-1)
        ranking, share = self._ranking(), 0.0
        if len(x) and len(ranking.rows):
            usable, z = self._encode_queries(x)
            words = Words.ranked(self._scores(x[usable]), self.levels)
            least = max(least, D.shape[1])
            looked = probes(ranking.rows, words, self.sparsity, least, self.order)
            costs, found = ranking.best(z, looked.buckets, D.shape[1], self._threads())
            is_found = found >= 0
            costs[is_found] *= 1.0 if self.metric_type == faiss.METRIC_L2 else -1.0
            D[usable] = np.where(is_found, costs, self._worst)
            I[usable] = np.where(is_found, ranking.rows.ids[found], -1)
            share = float(looked.found.mean()) / len(ranking.rows) if len(z) else 0.0
        self.candidates = share
        return D, I

    @accepts_tensors
    def bucket_ids(self, x: Any) -> Ids:
        """Buckets (n, sparsity) int64 of finite vectors (n, d), the best first.

        Raises StateError before training.
        """
        self._require_trained()
        x = self._vectors(x, finite=True, keep_bytes=True)
        parts = [self._buckets(block) for _, block in checked_blocks(x)]
        return np.concatenate(parts or [np.empty((0, self.sparsity), np.int64)])

    def _append(self, x: Any, ids: Ids) -> None:
        """Encode rows, and store them; the caller keeps other writers out."""
        parts = []
        for first, block in checked_blocks(x, progress=bool(self.verbose)):
            content = self._kept.rows(embed(self._embedder, block), first, self._threads())
            parts.append((content, ids[first : first + len(block)], self._buckets(block)))
        self._store.append(parts)

    def _rows_to_add(self, x: Any) -> Any:
        self._require_trained()
        return rows_to_add(self._embedder, x)

    # ---- leaving the process -----------------------------------------------------------------

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        with held_table(self) as state:
            content = packed(state, operator.index(protocol))
        return reduced(self, HashTableIndex, restore_table, content)

    def __setstate__(self, state: Any) -> None:
        """Refuse: a pickle of ours is whole without."""
        raise FormatError("expected a pickle of an index, got one that changes an index")


def restore_table(
    text: str, parts: Sequence[Any], living: Sequence[Any] = (), cls: Any = HashTableIndex
) -> HashTableIndex:
    """Make the hash table that a pickle holds: the only function that one calls."""
    index: HashTableIndex = made_table(unpack(text, parts, living), cls)
    return index
