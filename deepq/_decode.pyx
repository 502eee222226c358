# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decoding of words, and re-ranking by decoded vectors: the compiled part of decoders.

As in `_scan`, that arguments fit together is the caller's duty, and long work runs without the GIL.
"""
import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc

from deepq import _scan

cdef extern from "_kernels/decode.h" nogil:
    enum: SIMD_PORTABLE
    enum: SIMD_AVX2
    enum: SIMD_AVX512
    enum: DECODE_PANEL
    enum: DECODE_ROWS

    ctypedef struct decode_network:
        int M
        int ksub
        int h
        int d
        const float *tables
        const float *features
        const float *entered
        const float *bias
        const float *outer
        const float *output

    ctypedef void (*decode_fn)(const decode_network *, const int32_t *words, int n, float *inside,
                               float *hidden, float *z) noexcept nogil
    decode_fn decode_kernel(int simd)

ctypedef fused word_t:
    uint8_t
    uint16_t

PANEL = DECODE_PANEL

_LEVELS = {"portable": SIMD_PORTABLE, "avx2": SIMD_AVX2, "avx512": SIMD_AVX512}


cdef class _Network:
    """The arrays of a decoder's network, and where they are."""

    cdef decode_network c
    cdef const float[:, :, ::1] tables, features, entered, outer, output
    cdef const float[::1] bias

    def __cinit__(self, arrays):
        self.tables, self.features, self.entered = arrays["tables"], arrays["features"], arrays["entered"]
        self.bias, self.outer, self.output = arrays["bias"], arrays["outer"], arrays["output"]
        self.c.M, self.c.ksub, self.c.d = self.tables.shape[0], self.tables.shape[1], self.tables.shape[2]
        self.c.h = self.features.shape[2]
        self.c.tables, self.c.features = &self.tables[0, 0, 0], &self.features[0, 0, 0]
        self.c.entered, self.c.bias = &self.entered[0, 0, 0], &self.bias[0]
        self.c.outer, self.c.output = &self.outer[0, 0, 0], &self.output[0, 0, 0]


def decode(words, arrays):
    """Vectors (n, d) float32 of words (n, M) uint8 or uint16, below ksub.

    Parameters
    ----------
    words : (n, M) uint8 or uint16
    arrays : dict of float32 arrays, of widths h and d that are multiples of PANEL: "tables" (M, ksub, d),
        "features" and "entered" (M, ksub, h), "bias" (h,), "outer" (h / PANEL, h, PANEL), "output"
        (d / PANEL, h, PANEL)
    """
    network = _Network(arrays)
    z = np.empty((len(words), network.tables.shape[2]), np.float32)
    words = np.ascontiguousarray(words)
    if len(words) and words.dtype == np.uint8:
        _decode[uint8_t](network, words, z)
    elif len(words):
        _decode[uint16_t](network, words, z)
    return z


cdef _decode(_Network network, const word_t[:, ::1] words, float[:, ::1] z):
    cdef const decode_network *c = &network.c
    cdef decode_fn kernel = decode_kernel(_LEVELS[_scan.simd()])
    cdef int64_t n = words.shape[0], first = 0, i
    cdef int M = c.M, count, m
    cdef int32_t *own = <int32_t *>malloc(DECODE_ROWS * M * sizeof(int32_t))
    cdef float *scratch = <float *>malloc(2 * DECODE_ROWS * c.h * sizeof(float))
    if own is NULL or scratch is NULL:
        free(own)
        free(scratch)
        raise MemoryError("no memory to decode")
    with nogil:
        while first < n:
            count = <int>min(<int64_t>DECODE_ROWS, n - first)
            for i in range(count):
                for m in range(M):
                    own[i * M + m] = words[first + i, m]
            kernel(c, own, count, scratch, scratch + <int64_t>DECODE_ROWS * c.h, &z[first, 0])
            first += count
    free(own)
    free(scratch)
