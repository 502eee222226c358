"""An IndexPQ over codes that are not its own: the C++ part of `mapped`, which explains it.

Addresses are trusted. Nothing here may be used before `mapped` has compared faiss with what
`_views.h` declares, except `fields` and `prepare`, which do that.
"""
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

cdef extern from "_mapped.h" nogil:
    cdef cppclass Codes "faiss::Codes":
        cbool is_owned
        vector[uint8_t] owned_data
        uint8_t *view_data
        size_t view_size
        uint8_t *c_ptr
        size_t c_size

    cbool _prepare "deepq::prepare"(const void *, size_t)
    void _place "deepq::place"(void *, uint8_t *, size_t, PyObject *) except +


def fields(size_t address):
    """Read a vector of codes as it is declared here: addresses and sizes of what is in it."""
    cdef Codes *codes = <Codes *>address
    return (
        codes.is_owned,
        <size_t>&codes.owned_data,
        <size_t>codes.view_data,
        codes.view_size,
        <size_t>codes.c_ptr,
        codes.c_size,
    )


def prepare(size_t index, size_t codes):
    """Whether an IndexPQ, with its codes at an address, has the virtual functions we replace."""
    return _prepare(<const void *>index, codes - index)


def place(size_t index, size_t memory, size_t size, owner):
    """Make `size` bytes at `memory` the codes of an empty IndexPQ, which keeps `owner` alive."""
    _place(<void *>index, <uint8_t *>memory, size, <PyObject *>owner)
