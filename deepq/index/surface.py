"""What a class of faiss has besides its array methods, handed to the C++ objects underneath.

The SWIG wrappers of a class refuse a handle of another C++ class, so nothing of it may stay as it
is: attributes are delegated, and the raw methods (``*_c``, ``*_ex`` and their like, which take
pointers and check nothing) go to the chain, or to the index inside with encoded queries. What goes
where is a table for each class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import faiss

from deepq._common.checks import as_metric
from deepq.index.native.chain import NativeChain


class Table(NamedTuple):
    """Where the attributes and raw methods of a class of faiss's go.

    Attributes
    ----------
    inner : tuple of str
        Attributes that only the index inside has.
    both : tuple of str
        Attributes that both C++ objects have and that must agree.
    of_vectors : tuple of str
        Methods of the chain: vectors are those of the input space.
    of_codes : tuple of str
        Methods of the index inside, for which the encoder plays no part.
    of_queries : tuple of str
        Methods of the index inside whose first arguments are (n, pointer to n queries).
    """

    inner: tuple[str, ...]
    both: tuple[str, ...]
    of_vectors: tuple[str, ...]
    of_codes: tuple[str, ...]
    of_queries: tuple[str, ...] = ()


# Of any index behind a chain.
_OF_VECTORS = (
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

FLAT = Table(
    inner=(
        "codes",
        "do_polysemous_training",
        "encode_signs",
        "polysemous_ht",
        "polysemous_training",
        "pq",
    ),
    both=(
        "metric_arg",
        "ntotal",
        "verbose",
    ),
    of_vectors=(*_OF_VECTORS, "sa_code_size"),
    of_codes=(
        "get_CodePacker",
        "permute_entries_c",
    ),
    of_queries=(
        "hamming_distance_histogram",
        "hamming_distance_table",
        "search_core_polysemous",
    ),
)


CELLS = Table(
    inner=(
        "PARALLEL_MODE_NO_HEAP_INIT",
        "by_residual",
        "clustering_index",
        "cp",
        "do_polysemous_training",
        "max_codes",
        "nprobe",
        "own_invlists",
        "parallel_mode",
        "polysemous_ht",
        "polysemous_training",
        "precomputed_table",
        "quantizer_trains_alone",
        "scan_table_threshold",
        "use_precomputed_table",
    ),
    both=(
        "metric_arg",
        "ntotal",
        "verbose",
    ),
    of_vectors=_OF_VECTORS,
    of_codes=(
        "add_core",
        "add_core_o",
        "check_ids_sorted",
        "coarse_code_size",
        "decode_listno",
        "decode_multiple",
        "decode_vectors",
        "encode",
        "encode_listno",
        "encode_multiple",
        "encode_vectors",
        "find_duplicates",
        "get_CodePacker",
        "get_InvertedListScanner",
        "precompute_table",
        "range_search_preassigned_c",
        "reconstruct_from_offset",
        "search_and_return_codes_c",
        "search_preassigned_c",
        "train_encoder",
        "train_encoder_num_vectors",
        "train_q1",
        "update_vectors_c",
    ),
)


class Surface:
    """Delegation alone; `surface` makes the class for one of faiss's."""

    _native: NativeChain

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

    def get_FlatCodesDistanceComputer(self) -> Any:  # noqa: N802
        """Return a distance computer for queries of the input space, as `get_distance_computer`."""
        return self._native.chain.get_distance_computer()

    def add_sa_codes_c(self, n: int, x: Any, xids: Any) -> None:
        """Append `n` packed codes at a pointer."""
        self._native.pq_index.add_sa_codes_c(n, x, xids)
        self._native.chain.ntotal = self._native.pq_index.ntotal


def surface(base: type, table: Table) -> type:
    """Make the class that delegates what a class of faiss has, as far as this faiss has it."""
    members: dict[str, Any] = {
        name: _attribute(name, base, both=name in table.both) for name in table.inner + table.both
    }
    for names, make in (
        (table.of_vectors, lambda name, method: _method(name, method, "chain")),
        (table.of_codes, lambda name, method: _method(name, method, "pq_index")),
        (table.of_queries, _method_of_queries),
    ):
        for name in names:
            if hasattr(base, name):
                call = make(name, getattr(base, name))
                call.__doc__ = call.__doc__ or f"As in {base.__name__}: {name}; it checks nothing."
                members[name] = call
    return type(f"Surface of {base.__name__}", (Surface, base), members)


def _attribute(name: str, base: type, *, both: bool) -> property:
    def get(self: Surface) -> Any:
        return getattr(self._native.pq_index, name)

    def put(self: Surface, value: Any) -> None:
        setattr(self._native.pq_index, name, value)
        if hasattr(value, "this"):  # C++ code may keep no more than its address
            vars(self).setdefault("_held", {})[name] = value
        if both:
            setattr(self._native.chain, name, value)

    return property(get, put, doc=f"As in {base.__name__}: {name}.")


def _method(name: str, method: Callable[..., Any], part: str) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Surface, *args: Any, **kwargs: Any) -> Any:
        result = getattr(getattr(self._native, part), name)(*args, **kwargs)
        self._native.chain.ntotal = self._native.pq_index.ntotal
        return result

    return call


def _method_of_queries(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, n: int, x: Any, *args: Any, **kwargs: Any) -> Any:
        queries = faiss.rev_swig_ptr(x, n * self.d).reshape(n, self.d)
        z = faiss.swig_ptr(self._native.read_encoder().encode(queries))
        return getattr(self._native.pq_index, name)(n, z, *args, **kwargs)

    return call
