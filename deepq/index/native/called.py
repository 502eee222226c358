"""What is done through a composite is done by the index inside: training, adding, searching.

A composite is C++ code, and calls the native chain by its virtual functions: that would be faiss's
own rotation, codebooks and scan, without a decoder. So the chain of an index gets a table of
virtual functions in which `train`, `add`, `add_with_ids`, `search`, `range_search`, `reconstruct`,
`remove_ids`, `merge_from` and `reset` call the methods of the index (`_called`). What faiss makes
of the object without us, by files or clones, is faiss's own; so are searches with parameters of a
class that no index takes, and training where that is over.

An index may also be given to a composite, which then owns its chain: `hand_over`. Deleting such a
chain gives it back to its index, which lives as long as somebody has it.

This takes knowledge of faiss's classes that no header checks: `fault` does.
"""

from __future__ import annotations

import logging
import weakref
from functools import cache
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import StateError
from deepq._common.types import Codes, Floats, Ids
from deepq.index.native import _called
from deepq.index.native.known_faiss import fault_of

# Kept at import: a program may put classes of ours in their places.
_IndexPreTransform = faiss.IndexPreTransform
_PARAMETERS = {
    _called.KINDS["any"]: faiss.SearchParameters,
    _called.KINDS["pq"]: faiss.SearchParametersPQ,
    _called.KINDS["ivf"]: faiss.SearchParametersIVF,
}
_Parameters, _ParametersPQ, _ParametersIVF = _PARAMETERS.values()

_log = logging.getLogger("deepq.index")

# By the address of the C++ object: the indexes of chains, and parameters with more than faiss
# knows. An index keeps its chain; nothing here keeps the index.
_indexes: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_parameters: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


# By the address of the C++ object: indexes that C++ code owns, which keeps them alive.
_handed_over: dict[int, Any] = {}


def place(chain: Any, index: Any) -> None:
    """Let methods of `index` be called where C++ code calls the chain, if this faiss can.

    It has `d` and `is_trained`, and must keep the chain as long as it lives.
    """
    _indexes[int(chain.this)] = index
    if not fault():
        _called.place(int(chain.this))


def living(index: Any) -> Any:
    """Return the index whose chain a faiss.Index is; None if it is nobody's."""
    return _indexes.get(int(index.this))


def hand_over(index: Any) -> None:
    """Let a composite, into which it has been put, own an index: deleting the chain releases it.

    Only where there is no `fault`.
    """
    _handed_over[int(index.this)] = index
    index.this.disown()


def _give_back(address: int) -> bool:
    """Give the chain that C++ code deletes back to its index, if that has been handed over."""
    index = _handed_over.pop(address, None)
    if index is not None:
        index.this.acquire()  # what ends with the index, maybe at once
    return index is not None


def remember(params: Any) -> None:
    """Hand this object, and not one like it, to an index whose chain is called with it."""
    _parameters[int(params.this)] = params


def members(sel: Any, first: int, last: int) -> Codes | None:
    """Little-endian bits of the ids from `first`, a multiple of 8, to `last` - 1 in a selector.

    None if nobody can say with this faiss.
    """
    return None if fault() else _called.members(int(sel.this), first, last)


def members_of(sel: Any, ids: Ids) -> Codes:
    """Little-endian bits of the ids (n,) that a selector picks.

    Raises StateError if nobody can say with this faiss.
    """
    if fault():
        raise StateError(f"expected a faiss whose selectors can be asked, got another: {fault()}")
    return _called.members_of(int(sel.this), ids)


def warn_of_another(rerank: int) -> None:
    """Log what is missing where encoder and codebooks come from somebody else than `train`."""
    if fault():
        _log.warning(
            "expected train() of the index itself, got what faiss made of its encoder and "
            "codebooks, without a decoder: composites cannot call us here, since %s",
            fault(),
        )
    elif rerank:
        _log.warning("expected train() for rerank=%s, got no decoder", rerank)


@cache
def fault() -> str:
    """Say why C++ code cannot call an index here, if so; found out once, at the first need."""
    return fault_of(_prepared, _works)


def _prepared() -> bool:
    """Make the table of functions, if the class has them."""
    chain = _IndexPreTransform(faiss.IndexFlatL2(2))
    first = not hasattr(_ParametersIVF, "max_lists_num")
    return _called.prepare(int(chain.this), _indexes.get, _parameters.get, _like, _give_back, first)


def _like(kind: int) -> Any:
    return _PARAMETERS[kind]()


class _Trial:
    """Keeps what it is given, and finds vector 1 for every query that may find it."""

    d = 2

    def __init__(self) -> None:
        self.is_trained = False
        self.given: list[Any] = []
        self.this: Any = None

    def train(self, x: Floats) -> None:
        self.given.append(x)
        self.is_trained = True

    def add(self, x: Floats) -> None:
        self.given.append(x)

    def add_with_ids(self, x: Floats, ids: Ids) -> None:
        self.given.append((x, ids.tolist()))

    def search(self, x: Floats, k: int, *, params: Any, D: Floats, I: Ids) -> None:
        self.given.append((x, k, _read(params)))
        D[:], I[:] = 7, 1

    def range_search(self, x: Floats, thresh: float, *, params: Any) -> tuple[Any, Any, Any]:
        self.given.append((x, thresh, _read(params)))
        ends = np.arange(len(x) + 1).astype(np.uint64)
        return ends, np.full(len(x), 5, np.float32), np.ones(len(x), np.int64)

    def reconstruct_n(self, n0: int, ni: int, x: Floats) -> None:
        x[:] = [[n0, ni]]

    def reset(self) -> None:
        self.given.append("reset")

    def _remove_through(self, sel: Any, mapped: int | None) -> int:
        self.given.append((_called.members(int(sel.this), 0, 3).tolist(), mapped))
        return 0

    def _merge_through(self, other: Any, add_id: int) -> bool:
        self.given.append((other is self, add_id))
        return True


def _read(params: Any) -> Any:
    """Return the members of what is in parameters, and what an IDMap has not changed."""
    if params is None:
        return None
    names = ("polysemous_ht", "nprobe", "max_codes", "max_lists_num", "max_empty_result_buckets")
    inner = getattr(params, "quantizer_params", None)
    bits = None if params.sel is None else _called.members(int(params.sel.this), 0, 3).tolist()
    return (
        bits,
        [getattr(params, name) for name in names if hasattr(params, name)],
        None if inner is None else int(inner.this),
    )


def _works() -> bool:
    """Use a chain through a composite, with an index and without."""
    x, ids = np.array([[1, 2], [3, 5], [4, 4]], np.float32), np.array([30, 20, 10])
    rows, numbers = faiss.swig_ptr(x), faiss.swig_ptr(ids)
    flat = faiss.IndexFlatL2(2)
    chain, trial = _IndexPreTransform(flat), _Trial()
    chain.is_trained = False
    _indexes[int(chain.this)] = trial
    _called.place(int(chain.this))
    outer = faiss.IndexIDMap(chain)
    outer.train_c(3, rows)
    chain.is_trained = True
    outer.add_with_ids_c(3, rows, numbers)
    chain.add_with_ids_c(3, rows, numbers)
    back = np.empty((2, 2), np.float32)
    chain.reconstruct_n_c(1, 2, faiss.swig_ptr(back))
    chain.reconstruct_c(1, faiss.swig_ptr(back))
    added, (named, given_ids) = trial.given[:2], trial.given[2]
    right = (
        all(np.array_equal(each, x) for each in (*added, named))
        and given_ids == ids.tolist()
        and back.tolist() == [[1, 1], [1, 2]]
        and _searches_right(outer, trial, x)
        and _changes_right(outer, chain, trial)
    )
    right = right and _is_given_back(chain, trial)
    del trial
    outer.add_with_ids_c(3, rows, numbers)  # by faiss
    return right and flat.ntotal == 3


def _searches_right(outer: Any, trial: _Trial, x: Floats) -> bool:
    """Search through an IDMap with parameters of all kinds."""
    rows, before = faiss.swig_ptr(x), len(trial.given)
    D, I = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.int64)
    params, other, cells = _ParametersPQ(), _Parameters(), _ParametersIVF()
    params.polysemous_ht = 9
    wanted = _fill(cells)
    params.sel = other.sel = cells.sel = chosen = faiss.IDSelectorRange(15, 40)
    cells.quantizer_params = params
    whole, found = faiss.SearchParametersPreTransform(), faiss.RangeSearchResult(3)
    whole.index_params = params
    for each in (None, params, other, whole, cells):  # of `whole` it translates no ids
        outer.search_c(3, rows, 2, faiss.swig_ptr(D), faiss.swig_ptr(I), each)
    outer.range_search_c(3, rows, 2.5, found, other)
    other.sel = None
    outer.range_search_c(3, rows, 2.5, faiss.RangeSearchResult(3), other)
    searches = trial.given[before:]
    lims, labels, distances = (
        faiss.rev_swig_ptr(part, n).tolist()
        for part, n in ((found.lims, 4), (found.labels, 3), (found.distances, 3))
    )
    return (
        all(np.array_equal(each[0], x) for each in searches)
        and [each[1] for each in searches] == [2, 2, 2, 2, 2, 2.5, 2.5]
        and [each[2] for each in searches]
        == [
            None,
            ([3], [9], None),
            ([3], [], None),
            ([0], [9], None),
            ([3], wanted, int(params.this)),
            ([3], [], None),
            (None, [], None),
        ]
        and bool((D == 7).all() and (I == 20).all())
        and (lims, labels, distances) == ([0, 1, 2, 3], [20] * 3, [5] * 3)
        and int(chosen.imin) == 15
    )


def _changes_right(outer: Any, chain: Any, trial: _Trial) -> bool:
    """Remove, merge and empty; of the 3 that were added the trial knows none."""
    chosen = faiss.IDSelectorRange(15, 40)
    outer.remove_ids_c(faiss.IDSelectorBatch(np.empty(0, np.int64)))
    chain.remove_ids_c(chosen)
    chain.merge_from(chain, 4)
    chain.reset()
    return trial.given[-4:] == [([0], 3), ([0], None), (True, 4), "reset"]


def _is_given_back(chain: Any, trial: _Trial) -> bool:
    """Let a composite own the chain, and delete it."""
    trial.this = chain.this
    hand_over(trial)
    owner = faiss.IndexIDMap(chain)
    owner.own_fields = True
    del owner
    return bool(chain.this.own())


def _fill(cells: Any) -> list[int]:
    """Put numbers into parameters of an IndexIVF, and return what `_read` is to find."""
    names = ("nprobe", "max_codes", "max_lists_num", "max_empty_result_buckets")
    there = [name for name in names if hasattr(cells, name)]
    for value, name in enumerate(there, 11):
        setattr(cells, name, value)
    return list(range(11, 11 + len(there)))
