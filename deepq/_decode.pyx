# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Decoding of words, and re-ranking by decoded vectors: the compiled part of decoders.

As in `_scan`, that arguments fit together is the caller's duty, and long work runs without the GIL.
"""
import numpy as np

from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, fabsf
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from deepq import _scan

cdef extern from "_kernels/networks.h" nogil:
    enum: SIMD_PORTABLE
    enum: SIMD_AVX2
    enum: SIMD_AVX512
    enum: DECODE_PANEL
    enum: DECODE_ROWS

    ctypedef struct decode_network:
        int M
        int ksub
        int h
        int inside
        int d
        const float *tables
        const float *features
        const float *entered
        const float *bias
        const float *outer
        const float *output
        const int32_t *cells
        const float *cell_features
        const float *cell_entered

    ctypedef void (*decode_fn)(const decode_network *, const int32_t *words, int n, float *inside,
                               float *hidden, float *z) noexcept nogil
    decode_fn decode_kernel(int simd)
    ctypedef void (*multiply_fn)(const float *a, int n, int wide, const float *weights, int columns,
                                 float *c) noexcept nogil
    multiply_fn multiply_kernel(int simd)

    ctypedef struct beam_job:
        int M
        int ksub
        int width
        const float *cross
        int32_t *words
        float *errors
        float *next
        int32_t *places
        int32_t *spare

    ctypedef void (*beam_fn)(const beam_job *, const float *costs, int64_t n, int32_t *words) noexcept nogil
    beam_fn beam_kernel(int simd)

    ctypedef struct choose_slot:
        pass

    ctypedef struct choose_job:
        decode_network network
        const int8_t *summands
        float scale
        int candidates
        int trials
        float hope
        float *inside
        float *hidden
        float *z
        float *aim
        float *rest

    int64_t choose_room(const choose_job *)
    void choose_place(const choose_job *, choose_slot *slots, float *numbers, int32_t *words)
    ctypedef void (*choose_fn)(const choose_job *, choose_slot *, const float *z, const int32_t *candidates,
                               int64_t n, int32_t *words) noexcept nogil
    choose_fn choosing_kernel(int simd)
    ctypedef void (*rank_fn)(const float *query, const float *vectors, int64_t d, const int64_t *ids,
                             const int64_t *places, int64_t found, int inner_product, float *D, int64_t *I,
                             int64_t k) noexcept nogil
    rank_fn rank_kernel(int simd)
    void rank_pick(const int64_t *ids, const float *costs, int64_t n, int64_t count, float *spare,
                   int64_t *picked)
    ctypedef void (*rough_fn)(const int8_t *summands, int M, int ksub, int d, const uint8_t *words,
                              int64_t found, const float *query, int inner_product, float *whole, float *costs) noexcept nogil
    rough_fn rough_kernel(int simd)

cdef extern from "_kernels/least.h" nogil:
    void _least "least"(const float *numbers, int n, int count, int32_t *spare, float *kept, int32_t *places)

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
    cdef const float[:, ::1] cell_features, cell_entered
    cdef const int32_t[::1] cells

    def __cinit__(self, arrays):
        self.tables, self.features, self.entered = arrays["tables"], arrays["features"], arrays["entered"]
        self.bias, self.outer, self.output = arrays["bias"], arrays["outer"], arrays["output"]
        self.c.M, self.c.ksub, self.c.d = self.tables.shape[0], self.tables.shape[1], self.tables.shape[2]
        self.c.h, self.c.inside = self.features.shape[2], self.entered.shape[2]
        self.c.tables, self.c.features = &self.tables[0, 0, 0], &self.features[0, 0, 0]
        self.c.entered, self.c.bias = &self.entered[0, 0, 0], &self.bias[0]
        self.c.outer, self.c.output = &self.outer[0, 0, 0], &self.output[0, 0, 0]
        if "cells" in arrays and len(arrays["cells"]):
            self.cells = arrays["cells"]
            self.cell_features, self.cell_entered = arrays["cell_features"], arrays["cell_entered"]
            self.c.cells = &self.cells[0]
            self.c.cell_features, self.c.cell_entered = &self.cell_features[0, 0], &self.cell_entered[0, 0]


def decode(words, arrays):
    """Vectors (n, d) float32 of words (n, M) uint8 or uint16, below ksub.

    Parameters
    ----------
    words : (n, M) uint8 or uint16
    arrays : dict of float32 arrays, of widths h, w and d that are multiples of PANEL: "tables" (M, ksub, d),
        "features" (M, ksub, h), "entered" (M, ksub, w), "bias" (w,), "outer" (h / PANEL, w, PANEL), "output"
        (d / PANEL, h, PANEL); where the network is told cells, too, "cells" (n,) int32, that of each
        vector, and of them "cell_features" (.., h) and "cell_entered" (.., w)
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
    cdef decode_network c = network.c
    cdef decode_fn kernel = decode_kernel(_LEVELS[_scan.simd()])
    cdef int64_t n = words.shape[0], first = 0, i
    cdef int M = c.M, count, m
    cdef int32_t *own = <int32_t *>malloc(DECODE_ROWS * M * sizeof(int32_t))
    cdef float *scratch = <float *>malloc(<int64_t>DECODE_ROWS * (c.h + c.inside) * sizeof(float))
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
            kernel(&c, own, count, scratch, scratch + <int64_t>DECODE_ROWS * c.inside, &z[first, 0])
            first += count
            if c.cells is not NULL:
                c.cells += count
    free(own)
    free(scratch)


def multiply(const float[:, ::1] rows, const float[:, :, ::1] panels):
    """Rows (n, columns) times weights that are laid out as panels (columns / PANEL, wide, PANEL).

    The bits of a row do not depend on the rows beside it.
    """
    cdef int64_t n = rows.shape[0]
    product = np.empty((n, panels.shape[0] * DECODE_PANEL), np.float32)
    cdef float[:, ::1] out = product
    cdef multiply_fn kernel = multiply_kernel(_LEVELS[_scan.simd()])
    if n:
        with nogil:
            kernel(&rows[0, 0], <int>n, <int>panels.shape[1], &panels[0, 0, 0], <int>out.shape[1], &out[0, 0])
    return product


def choose(const float[:, ::1] z, const int32_t[:, :, ::1] candidates, arrays,
           const int8_t[:, :, ::1] summands, float scale, int trials, float hope):
    """Words (n, M) int32 that decode to near vectors: see `_kernels/choose.h`.

    Parameters
    ----------
    z : (n, d) float32
    candidates : (n, M, A) int32, below ksub; the first are the start
    arrays : dict, as in `decode`
    summands : (M, ksub, d) int8, in units of which a number of z has `scale`
    trials : most changes that are tried for a vector
    hope : part of the squared error that the prediction of a change must be less than
    """
    cdef _Network network = _Network(arrays)
    cdef choose_job job
    cdef choose_fn kernel = choosing_kernel(_LEVELS[_scan.simd()])
    cdef int64_t n = z.shape[0]
    found = np.empty((n, candidates.shape[1]), np.int32)
    cdef int32_t[:, ::1] words = found
    job.network, job.summands, job.candidates = network.c, &summands[0, 0, 0], candidates.shape[2]
    job.trials, job.hope, job.scale = trials, hope, scale
    cdef float[:, ::1] through = np.empty((DECODE_ROWS, job.network.inside + job.network.h + job.network.d), np.float32)
    cdef float[:, ::1] numbers = np.empty((DECODE_ROWS, choose_room(&job)), np.float32)
    cdef int32_t[:, ::1] own = np.empty((DECODE_ROWS, 2 * job.network.M), np.int32)
    cdef float[:, ::1] aims = np.empty((2, job.network.d), np.float32)
    job.inside, job.aim, job.rest = &through[0, 0], &aims[0, 0], &aims[1, 0]
    job.hidden = job.inside + DECODE_ROWS * job.network.inside
    job.z = job.hidden + DECODE_ROWS * job.network.h
    cdef choose_slot slots[DECODE_ROWS]
    choose_place(&job, slots, &numbers[0, 0], &own[0, 0])
    if n:
        with nogil:
            kernel(&job, slots, &z[0, 0], &candidates[0, 0, 0], n, &words[0, 0])
    return found


def beam(const float[:, :, ::1] costs, const float[:, :, ::1] cross, int width):
    """Words (n, M) int32 of additive codes: see `_kernels/beam.h`. Of equal errors the first word.

    Parameters
    ----------
    costs : (n, M, ksub) float32
        |c|^2 / 2 - x.c of vectors x and codewords c.
    cross : (M (M - 1) / 2, ksub, ksub) float32
        Inner products of the codewords of j with those of m, for all j < m; j comes first.
    width : beginnings that are kept, at least 1
    """
    cdef beam_job job
    cdef beam_fn kernel = beam_kernel(_LEVELS[_scan.simd()])
    cdef int64_t n = costs.shape[0]
    cdef int M = costs.shape[1], ksub = costs.shape[2]
    found = np.empty((n, M), np.int32)
    cdef int32_t[:, ::1] out = found
    cdef int32_t[::1] words = np.empty(2 * width * M, np.int32), places = np.empty(width, np.int32)
    cdef int32_t[::1] spare = np.empty(width * ksub, np.int32)
    cdef float[::1] errors = np.empty(width, np.float32), longer = np.empty(width * ksub, np.float32)
    job.M, job.ksub, job.width = M, ksub, width
    job.cross = &cross[0, 0, 0] if M > 1 else NULL
    job.words, job.places, job.spare = &words[0], &places[0], &spare[0]
    job.errors, job.next = &errors[0], &longer[0]
    if n:
        with nogil:
            kernel(&job, &costs[0, 0, 0], n, &out[0, 0])
    return found


def least(const float[:, :, ::1] numbers, int count):
    """Places of the least numbers of each row, ascending, and how near to each other these are.

    Parameters
    ----------
    numbers : (M, n, ksub) float32
    count : at most ksub

    Returns
    -------
    places : (n, M, count) int32
        The first of equal numbers.
    gaps : (n, M) float32
        The least difference from one to the next, that to the first that is left out among them.
    """
    cdef int64_t M = numbers.shape[0], n = numbers.shape[1], m, i
    cdef int ksub = numbers.shape[2], more = min(count + 1, ksub), t
    cdef float gap
    places, differences = np.empty((n, M, count), np.int32), np.empty((n, M), np.float32)
    cdef int32_t[:, :, ::1] found = places
    cdef float[:, ::1] gaps = differences
    cdef int32_t[::1] at = np.empty(more, np.int32)
    cdef float[::1] kept = np.empty(more, np.float32)
    cdef int32_t[::1] spare = np.empty(ksub, np.int32)
    with nogil:
        for m in range(M):
            for i in range(n):
                _least(&numbers[m, i, 0], ksub, more, &spare[0], &kept[0], &at[0])
                gap = INFINITY
                for t in range(1, more):
                    gap = min(gap, kept[t] - kept[t - 1])
                for t in range(count):
                    found[i, m, t] = at[t]
                gaps[i, m] = gap
    return places, differences


# ---- ranking -------------------------------------------------------------------------------------


def rank(const float[:, ::1] queries, const float[:, ::1] vectors, const int64_t[:, ::1] ids,
         const int64_t[:, ::1] places, bint inner_product, float[:, ::1] D, int64_t[:, ::1] I):
    """Fill D and I (nq, k) with the best of some ids, by (better score, ascending id).

    Parameters
    ----------
    queries : (nq, d) float32
    vectors : (m, d) float32
    ids : (nq, n) int64; below 0 where there is none
    places : (nq, n) int64, rows of `vectors`
    inner_product : larger is better
    """
    cdef int64_t q, n = ids.shape[1], d = queries.shape[1], k = D.shape[1]
    cdef rank_fn kernel = rank_kernel(_LEVELS[_scan.simd()])
    if k == 0:
        return
    if n == 0 or d == 0:
        raise ValueError("expected something to rank")
    with nogil:
        for q in range(queries.shape[0]):
            kernel(&queries[q, 0], &vectors[0, 0], d, &ids[q, 0], &places[q, 0], n, inner_product,
                   &D[q, 0], &I[q, 0], k)


def roughly_first(const float[:, ::1] queries, const int64_t[:, ::1] ids, const uint8_t[:, ::1] words,
                  const int8_t[:, :, ::1] summands, int count, bint inner_product):
    """Ids (nq, count) int64 that sums of summands rank first, in their order; the earlier of equal ones.

    Parameters
    ----------
    queries : (nq, d) float32, in units of the summands
    ids : (nq, n) int64; those below 0 come last
    words : (nq * n, M) uint8, of the codes of the ids
    summands : (M, ksub, d) int8, M at most 258, d a multiple of PANEL
    count : from 1 to n
    inner_product : larger is better
    """
    cdef int64_t q, i, n = ids.shape[1]
    cdef int M = summands.shape[0], ksub = summands.shape[1], d = summands.shape[2]
    cdef rough_fn kernel = rough_kernel(_LEVELS[_scan.simd()])
    chosen = np.empty((queries.shape[0], count), np.int64)
    cdef int64_t[:, ::1] out = chosen
    cdef float[::1] costs = np.empty(n, np.float32), spare = np.empty(n, np.float32)
    cdef float[::1] whole = np.empty(d, np.float32)
    with nogil:
        for q in range(queries.shape[0]):
            kernel(&summands[0, 0, 0], M, ksub, d, &words[q * n, 0], n, &queries[q, 0], inner_product,
                   &whole[0], &costs[0])
            for i in range(n):
                if ids[q, i] < 0 or not costs[i] < FLT_MAX:
                    costs[i] = FLT_MAX
            rank_pick(&ids[q, 0], &costs[0], n, count, &spare[0], &out[q, 0])
    return chosen


def reaches(const float[:, ::1] numbers, float least):
    """Whether a number's absolute value is at least so large."""
    cdef int64_t i, j
    for i in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            if fabsf(numbers[i, j]) >= least:
                return True
    return False


def unknown(const int64_t[:, ::1] ids, const uint8_t[:, ::1] codes, const uint8_t[:, ::1] kept,
            const uint8_t[::1] known):
    """Those of the ids that are not known, or whose code is not the one that is kept.

    Parameters
    ----------
    ids : (nq, n) int64; below 0 where there is none
    codes, kept : (ntotal, code_size) and (at least ntotal, code_size) uint8
    known : uint8, as many as `kept`
    """
    cdef int64_t q, i, id, size = codes.shape[1], count = 0
    new = np.empty(ids.shape[0] * ids.shape[1], np.int64)
    cdef int64_t[::1] out = new
    with nogil:
        for q in range(ids.shape[0]):
            for i in range(ids.shape[1]):
                id = ids[q, i]
                if id >= 0 and not (known[id] and memcmp(&codes[id, 0], &kept[id, 0], size) == 0):
                    out[count] = id
                    count += 1
    return new[:count]


def same(const float[:, :, ::1] a, const float[:, :, ::1] b):
    """Whether two arrays of one shape (.., .., ..) have the same bits."""
    if a.shape[0] != b.shape[0] or a.shape[1] != b.shape[1] or a.shape[2] != b.shape[2]:
        return False
    return memcmp(&a[0, 0, 0], &b[0, 0, 0], a.shape[0] * a.shape[1] * a.shape[2] * sizeof(float)) == 0
