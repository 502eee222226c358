"""What IndexPQ has besides its array methods, handed to the C++ objects of a `NativeFlat`.

The SWIG wrappers of IndexPQ refuse a handle of another C++ class, so nothing of IndexPQ may stay
as it is: attributes are delegated, and the raw methods (``*_c``, ``*_ex`` and their like, which
take pointers and check nothing) go to the chain, or to the IndexPQ inside with encoded queries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import faiss

from deepq._common.checks import as_metric, as_search_type
from deepq.index.native.flat import IndexPQ, NativeFlat

# Attributes that only the IndexPQ inside has.
_INNER = (
    "codes",
    "do_polysemous_training",
    "encode_signs",
    "polysemous_ht",
    "polysemous_training",
    "pq",
)
# Attributes that both C++ objects have and that must agree.
_BOTH = ("metric_arg", "ntotal", "verbose")
# Raw methods of the chain: vectors are those of the input space.
_CHAIN_METHODS = (
    "add_c",
    "add_ex",
    "add_with_ids_c",
    "add_with_ids_ex",
    "assign_c",
    "compute_residual",
    "compute_residual_n",
    "get_distance_computer",
    "range_search_c",
    "reconstruct_batch_c",
    "reconstruct_c",
    "reconstruct_n_c",
    "remove_ids_c",
    "sa_code_size",
    "sa_decode_c",
    "sa_encode_c",
    "search1",
    "search_and_reconstruct_c",
    "search_c",
    "search_ex",
    "search_subset",
    "train_c",
    "train_ex",
    "train_with_queries",
)
# Raw methods of codes, for which the encoder plays no part.
_INNER_METHODS = ("get_CodePacker", "permute_entries_c")
# Raw methods of the IndexPQ inside whose first arguments are (n, pointer to n queries).
_ENCODED_METHODS = (
    "hamming_distance_histogram",
    "hamming_distance_table",
    "search_core_polysemous",
)


class Surface(IndexPQ):  # type: ignore[misc, valid-type]
    """An IndexPQ whose handle is a chain: delegation only."""

    _native: NativeFlat

    @property
    def code_size(self) -> int:
        """Bytes of one code; read only."""
        return int(self._native.pq_index.code_size)

    @property
    def is_trained(self) -> bool:
        """Whether vectors can be added; set it after putting codebooks into ``pq.centroids``."""
        return bool(self._native.chain.is_trained)

    @is_trained.setter
    def is_trained(self, value: bool) -> None:
        self._native.pq_index.is_trained = self._native.chain.is_trained = bool(value)
        for transform in self._native.transforms if value else ():
            transform.is_trained = True  # a rotation not learned stays the identity

    @property
    def metric_type(self) -> int:
        """faiss.METRIC_L2 or faiss.METRIC_INNER_PRODUCT."""
        return int(self._native.pq_index.metric_type)

    @metric_type.setter
    def metric_type(self, value: int) -> None:
        metric = as_metric(value)
        self._native.pq_index.metric_type = self._native.chain.metric_type = metric

    @property
    def search_type(self) -> int:
        """ST_PQ for look-up tables of queries, ST_SDC for symmetric search, or polysemous.

        Symmetric search is for nbits = 8, and takes a table of M * 2^16 numbers.
        """
        return int(self._native.pq_index.search_type)

    @search_type.setter
    def search_type(self, value: int) -> None:
        self._native.pq_index.search_type = as_search_type(value)
        self._native.settle_symmetric()

    def get_FlatCodesDistanceComputer(self) -> Any:  # noqa: N802
        """Return a distance computer for queries of the input space, as `get_distance_computer`."""
        return self._native.chain.get_distance_computer()

    def add_sa_codes_c(self, n: int, x: Any, xids: Any) -> None:
        """Append `n` packed codes at a pointer."""
        self._native.pq_index.add_sa_codes_c(n, x, xids)
        self._native.chain.ntotal = self._native.pq_index.ntotal


def _attribute(name: str, *, both: bool) -> property:
    def get(self: Surface) -> Any:
        return getattr(self._native.pq_index, name)

    def put(self: Surface, value: Any) -> None:
        setattr(self._native.pq_index, name, value)
        if both:
            setattr(self._native.chain, name, value)

    return property(get, put, doc=f"As in IndexPQ: {name}.")


def _method(name: str, part: str) -> Callable[..., Any]:
    @wraps(getattr(IndexPQ, name))
    def call(self: Surface, *args: Any, **kwargs: Any) -> Any:
        return getattr(getattr(self._native, part), name)(*args, **kwargs)

    return call


def _encoded_method(name: str) -> Callable[..., Any]:
    @wraps(getattr(IndexPQ, name))
    def call(self: Surface, n: int, x: Any, *args: Any, **kwargs: Any) -> Any:
        z = self._native.read_encoder().encode(faiss.rev_swig_ptr(x, n * self.d).reshape(n, self.d))
        return getattr(self._native.pq_index, name)(n, faiss.swig_ptr(z), *args, **kwargs)

    return call


def _complete() -> None:
    """Give `Surface` what the tables above list, as far as this version of faiss has it."""
    for name in _INNER + _BOTH:
        setattr(Surface, name, _attribute(name, both=name in _BOTH))
    for names, make in (
        (_CHAIN_METHODS, lambda name: _method(name, "chain")),
        (_INNER_METHODS, lambda name: _method(name, "pq_index")),
        (_ENCODED_METHODS, _encoded_method),
    ):
        for name in names:
            if hasattr(IndexPQ, name):
                method = make(name)
                method.__doc__ = method.__doc__ or f"As in IndexPQ: {name}; it checks nothing."
                setattr(Surface, name, method)


_complete()
