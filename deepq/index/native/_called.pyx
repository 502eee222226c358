"""An IndexPreTransform whose functions call Python: the C++ part of `called`, which explains them.

Addresses are trusted. Nothing here may be used before `called` has called `prepare`, and has tried
whether faiss's classes are as `_called.h` declares them.
"""
import numpy as np

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector

from deepq._common.errors import StateError, described

cdef extern from "_called.h" nogil:
    cdef cppclass IDSelector "faiss::IDSelector":
        pass

    cdef cppclass SearchParameters "faiss::SearchParameters":
        IDSelector *sel

    cdef cppclass SearchParametersPQ "faiss::SearchParametersPQ"(SearchParameters):
        int search_type
        int polysemous_ht

    cdef cppclass SearchParametersPreTransform "faiss::SearchParametersPreTransform"(SearchParameters):
        SearchParameters *index_params

    cdef cppclass RangeSearchResult "faiss::RangeSearchResult":
        size_t *lims
        int64_t *labels
        float *distances
        void do_allocation() except +

    ctypedef enum Answer "deepq::Answer":
        DONE "deepq::DONE"
        NOBODY "deepq::NOBODY"
        FAILED "deepq::FAILED"

    ctypedef enum Kind "deepq::Kind":
        CHAIN "deepq::CHAIN"
        PQ "deepq::PQ"
        IVF "deepq::IVF"
        ANY "deepq::ANY"
        OTHER "deepq::OTHER"

    ctypedef struct Python "deepq::Python":
        Answer (*train)(const void *, int64_t, const float *, string &) noexcept
        Answer (*add)(const void *, int64_t, const float *, string &) noexcept
        Answer (*add_with_ids)(const void *, int64_t, const float *, const int64_t *, string &) noexcept
        Answer (*search)(
            const void *, int64_t, const float *, int64_t, float *, int64_t *, const SearchParameters *, string &
        ) noexcept
        Answer (*range_search)(
            const void *, int64_t, const float *, float, RangeSearchResult *, const SearchParameters *, string &
        ) noexcept
        Answer (*reconstruct)(const void *, int64_t, int64_t, float *, string &) noexcept
        Answer (*remove_ids)(const void *, const IDSelector *, size_t &, string &) noexcept
        Answer (*merge_from)(const void *, const void *, int64_t, string &) noexcept
        Answer (*reset)(const void *, string &) noexcept
        cbool (*take_back)(const void *) noexcept

    Python _python "deepq::python"
    Kind _kind_of "deepq::kind_of"(const SearchParameters *)
    void _copy_parameters "deepq::copy_parameters"(const SearchParameters *, SearchParameters *, cbool)
    const vector[int64_t] *_map_of "deepq::map_of"(const IDSelector *)
    cbool _is_of_none "deepq::is_of_none"(const IDSelector *)
    void _mark_members "deepq::mark_members"(const IDSelector *, int64_t, int64_t, uint8_t *)
    void _mark_listed "deepq::mark_listed"(const IDSelector *, const int64_t *, int64_t, uint8_t *)
    cbool _prepare "deepq::prepare"(const void *)
    void _place "deepq::place"(void *)

_find = _params_at = _params_like = _give_back = None
cdef bint _has_first_parameters = False


cdef Answer _train(const void *chain, int64_t n, const float *x, string &fault) noexcept with gil:
    try:
        index = _index_of(chain, False)
        if index is None:
            return NOBODY
        index.train(_rows(index, n, x))
        return DONE
    except BaseException as error:  # C++ cannot hold it
        return _failed(error, fault)


cdef Answer _add(const void *chain, int64_t n, const float *x, string &fault) noexcept with gil:
    try:
        index = _index_of(chain, True)
        if index is None:
            return NOBODY
        index.add(_rows(index, n, x))
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _add_with_ids(
    const void *chain, int64_t n, const float *x, const int64_t *ids, string &fault
) noexcept with gil:
    try:
        index = _index_of(chain, True)
        if index is None:
            return NOBODY
        if ids is NULL:
            index.add(_rows(index, n, x))
        else:
            index.add_with_ids(_rows(index, n, x), np.array(<int64_t[:n]><int64_t *>ids) if n else np.empty(0, np.int64))
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _search(
    const void *chain,
    int64_t n,
    const float *x,
    int64_t k,
    float *D,
    int64_t *I,
    const SearchParameters *params,
    string &fault,
) noexcept with gil:
    try:
        index = _index_of(chain, True)
        params = _inside(params)
        if index is None or not _is_known(params):
            return NOBODY
        if n and k > 0:
            ids = np.asarray(<int64_t[:n, :k]>I).view(np.int64)  # not "long long", which faiss does not know
            index.search(_rows(index, n, x), k, params=_params(params), D=np.asarray(<float[:n, :k]>D), I=ids)
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _range_search(
    const void *chain,
    int64_t n,
    const float *x,
    float radius,
    RangeSearchResult *result,
    const SearchParameters *params,
    string &fault,
) noexcept with gil:
    cdef size_t i
    try:
        index = _index_of(chain, True)
        params = _inside(params)
        if index is None or not _is_known(params):
            return NOBODY
        lims, D, I = index.range_search(_rows(index, n, x), radius, params=_params(params))
        for i in range(<size_t>n):
            result.lims[i] = lims[i + 1] - lims[i]
        result.do_allocation()
        _copy(D, result.distances)
        _copy(I, result.labels)
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _reconstruct(
    const void *chain, int64_t first, int64_t n, float *x, string &fault
) noexcept with gil:
    try:
        index = _index_of(chain, True)
        if index is None:
            return NOBODY
        if n > 0:
            index.reconstruct_n(first, n, np.asarray(<float[:n, :index.d]>x))
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _remove_ids(const void *chain, const IDSelector *sel, size_t &count, string &fault) noexcept with gil:
    cdef const vector[int64_t] *ids = _map_of(sel)
    cdef SearchParameters *holder
    try:
        index = _index_of(chain, True)
        if index is None:
            return NOBODY
        like = _params_like(<int>ANY)  # which hands out a selector in Python
        holder = <SearchParameters *><size_t>int(like.this)
        holder.sel = <IDSelector *>sel
        try:
            (&count)[0] = index._remove_through(like.sel, None if ids is NULL else ids.size())
        finally:
            holder.sel = NULL
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _merge_from(const void *chain, const void *other, int64_t add_id, string &fault) noexcept with gil:
    try:
        index = _index_of(chain, True)
        if index is None:
            return NOBODY
        return DONE if index._merge_through(_find(<size_t>other), add_id) else NOBODY
    except BaseException as error:
        return _failed(error, fault)


cdef Answer _reset(const void *chain, string &fault) noexcept with gil:
    try:
        index = _index_of(chain, True)
        if index is None:
            return NOBODY
        index.reset()
        return DONE
    except BaseException as error:
        return _failed(error, fault)


cdef cbool _take_back(const void *chain) noexcept with gil:
    try:
        return _give_back(<size_t>chain)
    except BaseException:  # nobody could be told: it lives on, as it may be in use
        return True


_python.take_back = _take_back
_python.train, _python.add, _python.add_with_ids, _python.search = _train, _add, _add_with_ids, _search
_python.range_search, _python.reconstruct = _range_search, _reconstruct
_python.remove_ids, _python.merge_from, _python.reset = _remove_ids, _merge_from, _reset


cdef Answer _failed(error, string &fault) noexcept:
    fault.assign(<bytes>described(error))
    return FAILED


cdef _index_of(const void *chain, bint is_trained):
    """The index whose chain it is, if it is trained, or is not, as asked; else None."""
    index = _find(<size_t>chain)
    return index if index is not None and <bint>index.is_trained == is_trained else None


cdef _rows(index, int64_t n, const float *x):
    """A copy (n, d) of vectors of C++: an encoder, or a user's class, may keep or change what it is given."""
    if not n:
        return np.empty((0, index.d), np.float32)
    return np.array(<float[:n, :index.d]><float *>x)


cdef _copy(source, void *target):
    """Copy an array of the right dtype into memory that is large enough."""
    cdef const uint8_t[::1] given = source.view(np.uint8)
    if given.shape[0]:
        memcpy(target, &given[0], given.shape[0])


cdef const SearchParameters *_inside(const SearchParameters *params) noexcept:
    """The parameters for the index inside the chain."""
    while params is not NULL and _kind_of(params) == CHAIN:
        params = (<const SearchParametersPreTransform *>params).index_params
    return params


cdef bint _is_known(const SearchParameters *params) noexcept:
    """Whether an index takes parameters of this class, or there are none."""
    return params is NULL or _kind_of(params) != OTHER


cdef _params(const SearchParameters *params):
    """The Python object of parameters for the index inside the chain, or one that is like them."""
    if params is NULL:
        return None
    known = _params_at(<size_t>params)
    if known is not None:
        return known
    kind = _kind_of(params)
    like = _params_like(<int>kind)
    target = <SearchParametersPQ *><size_t>int(like.this)
    if kind == IVF:
        _copy_parameters(params, target, _has_first_parameters)
    target.sel = <IDSelector *>params.sel
    if target.sel is not NULL and _is_of_none(target.sel):
        target.sel = NULL
    if kind == PQ:
        target.search_type = (<const SearchParametersPQ *>params).search_type
        target.polysemous_ht = (<const SearchParametersPQ *>params).polysemous_ht
    return like


KINDS = {"pq": <int>PQ, "ivf": <int>IVF, "any": <int>ANY}


def prepare(size_t chain, find, params_at, params_like, give_back, bint has_first_parameters):
    """Whether an IndexPreTransform of faiss's has the functions that we replace.

    `find` is to return the index for the address of such an object, or None; `params_at` a Python object for the
    address of parameters, or None; `params_like` new parameters of one of `KINDS`. `give_back` is called with the
    address of an object that C++ code deletes: True if that is Python's to do. `has_first_parameters` says that
    those of an IndexIVF are as in faiss 1.14.
    """
    global _find, _params_at, _params_like, _give_back, _has_first_parameters
    _find, _params_at, _params_like, _give_back = find, params_at, params_like, give_back
    _has_first_parameters = has_first_parameters
    return _prepare(<const void *>chain)


def place(size_t chain):
    """Let an IndexPreTransform call Python."""
    _place(<void *>chain)


def members(size_t sel, int64_t first, int64_t last):
    """Little-endian bits of the ids from `first`, a multiple of 8, to `last` - 1 that a selector picks."""
    bits = np.empty((last - first + 7) // 8, np.uint8)
    cdef uint8_t[::1] out = bits
    if last > first:
        _require_map(<const IDSelector *>sel, last)
        with nogil:
            _mark_members(<const IDSelector *>sel, first, last, &out[0])
    return bits


def members_of(size_t sel, const int64_t[::1] ids):
    """Little-endian bits of the ids (n,) that a selector picks."""
    bits = np.zeros((ids.shape[0] + 7) // 8, np.uint8)
    cdef uint8_t[::1] out = bits
    if ids.shape[0]:
        _require_map(<const IDSelector *>sel, np.max(ids) + 1)
        with nogil:
            _mark_listed(<const IDSelector *>sel, &ids[0], ids.shape[0], &out[0])
    return bits


cdef _require_map(const IDSelector *sel, int64_t count):
    """Raise StateError for the selector of an IDMap that has fewer ids than that: it would read beyond them."""
    cdef const vector[int64_t] *ids = _map_of(sel)
    if ids is not NULL and <size_t>count > ids.size():
        raise StateError(
            f"expected an IDMap with ids for {count} vectors, got {ids.size()}: somebody has added to the index inside"
        )
