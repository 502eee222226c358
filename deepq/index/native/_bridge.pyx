"""faiss transforms that call a Python encoder: the C++ part of `bridge`, which explains them.

Addresses are trusted. Nothing here may be used before `bridge` has compared faiss with what
`_bridge.h` declares, except `fields` and `has_functions`, which do that.
"""
import numpy as np

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "_bridge.h" nogil:
    cdef cppclass VectorTransform "faiss::VectorTransform":
        int d_in
        int d_out
        cbool is_trained

    cdef cppclass LinearTransform "faiss::LinearTransform"(VectorTransform):
        cbool have_bias
        cbool is_orthonormal
        vector[float] A
        vector[float] b
        cbool verbose

    cdef cppclass Bridge "deepq::Bridge"(LinearTransform):
        Bridge(PyObject *encoder, int d_in, int d_out) except +
        PyObject *encoder

    ctypedef cbool (*Run "deepq::Run")(
        const Bridge &, cbool, int64_t, const float *, float *, string &
    ) noexcept
    Run _run "deepq::run"
    Bridge *_as_bridge "dynamic_cast<deepq::Bridge *>"(VectorTransform *)
    bint _has_functions "deepq::has_functions"(const void *)

_BLOCK = 1 << 16


cdef cbool _call(
    const Bridge &bridge,
    cbool encodes,
    int64_t n,
    const float *source,
    float *target,
    string &fault,
) noexcept with gil:
    try:
        encoder = <object>bridge.encoder
        _apply(
            encoder.encode if encodes else encoder.decode,
            np.asarray(<float[:n, :bridge.d_in if encodes else bridge.d_out]><float *>source),
            np.asarray(<float[:n, :bridge.d_out if encodes else bridge.d_in]>target),
        )
        return True
    except BaseException as error:  # C++ cannot hold it
        fault.assign(_describe(error))
        return False


cdef string _describe(error):
    name = type(error).__name__
    try:
        return f"{name}: {error}".encode(errors="replace")
    except BaseException:
        return name.encode(errors="replace")


def _apply(function, source, target):
    """Fill `target` with what a function makes of the rows of `source`, in blocks as `add` does."""
    for i in range(0, len(source), _BLOCK):
        part = target[i : i + _BLOCK]
        # A copy: an encoder may keep or change what it is given.
        found = np.asarray(function(source[i : i + _BLOCK].copy()))
        if found.shape != part.shape:
            raise ValueError(f"expected an array {part.shape} of the encoder, got {found.shape}")
        np.copyto(part, found, casting="same_kind")


_run = _call


def fields(size_t address):
    """Read a LinearTransform as it is declared here: five numbers, and the addresses of A and b."""
    cdef LinearTransform *linear = <LinearTransform *>address
    return (
        linear.d_in,
        linear.d_out,
        linear.is_trained,
        linear.have_bias,
        linear.verbose,
        <size_t>&linear.A,
        <size_t>&linear.b,
    )


def has_functions(size_t address):
    """Whether a native LinearTransform has the virtual functions that are declared here."""
    return _has_functions(<const void *>address)


def place(size_t slot, encoder, int d_in, int d_out):
    """Write a pointer to a new transform into `slot`, whose owner is to delete it."""
    (<VectorTransform **>slot)[0] = new Bridge(<PyObject *>encoder, d_in, d_out)


def get_encoder(size_t address):
    """Return the encoder that a transform calls; None if it is one of faiss's."""
    bridge = _as_bridge(<VectorTransform *>address)
    return None if bridge is NULL else <object>bridge.encoder


def set_encoder(size_t address, encoder):
    """Let a transform that `place` made call another encoder; one of faiss's stays as it is."""
    bridge = _as_bridge(<VectorTransform *>address)
    if bridge is not NULL:
        old = <object>bridge.encoder  # freed last, as that may run any code
        Py_INCREF(encoder)
        bridge.encoder = <PyObject *>encoder
        Py_DECREF(old)
