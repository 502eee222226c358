"""An IndexIVFPQ over lists that are not its own: the C++ part of `mapped_lists`, which explains it.

Addresses are trusted. Nothing here may be used before `mapped_lists` has compared faiss with what
`_views.h` and `_mapped_lists.h` declare, except `fields`, `word` and `prepare`, which do that.
"""
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

cdef extern from "_mapped_lists.h" nogil:
    cdef cppclass Codes "faiss::Codes":
        cbool is_owned
        vector[uint8_t] owned_data
        uint8_t *view_data
        size_t view_size
        uint8_t *c_ptr
        size_t c_size

    cppclass Ids "faiss::Ids":
        pass

    void _make_room "deepq::make_room"(Codes *, size_t) except +
    void _make_room "deepq::make_room"(Ids *, size_t) except +
    cbool _prepare "deepq::prepare"(const void *, const void *, size_t, size_t, size_t)
    cbool _is_mapped "deepq::is_mapped"(const void *)
    void _place "deepq::place"(void *, uint8_t *, const int64_t *, const int64_t *, const int64_t *, size_t,
                               PyObject *) except +


def fields(size_t address, size_t number):
    """Read vector `number` of a C++ vector of vectors, of codes or ids: what is in it."""
    cdef vector[Codes] *vectors = <vector[Codes] *>address
    cdef Codes *one = &vectors[0][number]
    return (
        vectors.size(),
        one.is_owned,
        <size_t>one.owned_data.data(),
        <size_t>one.view_data,
        one.view_size,
        <size_t>one.c_ptr,
        one.c_size,
    )


def word(size_t address):
    """Read 8 bytes of an object."""
    return (<const uint64_t *>address)[0]


def make_room(size_t codes, size_t ids, const int64_t[::1] cells, const int64_t[::1] more, size_t code_size):
    """Let lists of cells, whose vectors of vectors are at `codes` and `ids`, take more rows."""
    for i in range(len(cells)):
        _make_room(&(<vector[Codes] *>codes).at(cells[i]), more[i] * code_size)
        _make_room(&(<vector[Ids] *>ids).at(cells[i]), more[i])


def prepare(size_t index, size_t lists, size_t codes, size_t ids, size_t lists_at):
    """Whether an IndexIVFPQ and its lists have the virtual functions we replace.

    `codes` and `ids` are the addresses of the members of the lists, `lists_at` where in the index the
    pointer to them is.
    """
    return _prepare(<const void *>index, <const void *>lists, codes - lists, ids - lists, lists_at)


def is_mapped(size_t index):
    """Whether a list of an IndexIVFPQ is a view."""
    return _is_mapped(<const void *>index)


def place(size_t index, size_t memory, const int64_t[::1] ids_at, const int64_t[::1] codes_at,
          const int64_t[::1] sizes, size_t code_size, owner):
    """Make the lists of an empty IndexIVFPQ views of memory, which it keeps alive with `owner`."""
    _place(<void *>index, <uint8_t *>memory, &ids_at[0], &codes_at[0], &sizes[0], code_size, <PyObject *>owner)
