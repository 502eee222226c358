"""An IndexPreTransform whose `train` calls Python: the C++ part of `trained`, which explains it.

Addresses are trusted. Nothing here may be used before `trained` has called `prepare`.
"""
import numpy as np

from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string

cdef extern from "_trained.h" nogil:
    ctypedef enum Answer "deepq::Answer":
        TRAINED "deepq::TRAINED"
        NOBODY "deepq::NOBODY"
        FAILED "deepq::FAILED"
    ctypedef Answer (*Train "deepq::Train")(void *, int64_t, const float *, string &) noexcept
    Train _train "deepq::train_in_python"
    cbool _prepare "deepq::prepare"(const void *)
    void _place "deepq::place"(void *)

_trainer_of = None


cdef Answer _call(void *chain, int64_t n, const float *x, string &fault) noexcept with gil:
    try:
        trainer = _trainer_of(<size_t>chain)
        if trainer is None:
            return NOBODY
        rows = np.empty((0, trainer.d), np.float32)
        if n:  # a copy: Python code may keep or change what it is given
            rows = np.array(<float[:n, :trainer.d]><float *>x)
        trainer.train(rows)
        return TRAINED
    except BaseException as error:  # C++ cannot hold it
        fault.assign(_describe(error))
        return FAILED


cdef string _describe(error):
    name = type(error).__name__
    try:
        return f"{name}: {error}".encode(errors="replace")
    except BaseException:
        return name.encode(errors="replace")


_train = _call


def prepare(size_t chain, trainer_of):
    """Whether an IndexPreTransform of faiss's has the function that we replace.

    `trainer_of` is to return what has `d` and `train(x)` for the address of such an object, or None.
    """
    global _trainer_of
    _trainer_of = trainer_of
    return _prepare(<const void *>chain)


def place(size_t chain):
    """Let an IndexPreTransform call Python where it is trained."""
    _place(<void *>chain)
