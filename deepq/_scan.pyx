# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Scans of product-quantizer codes, nearest codewords, cell sums: the compiled part of deepq.

Shapes and dtypes are checked by the typed arguments; that they fit together, and that values are
finite, is the caller's duty. Long work runs without the GIL and can be interrupted between blocks.
"""
import os

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, NAN, fabsf, nextafterf
from libc.stdint cimport UINT32_MAX, int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from deepq._common import threads

cdef extern from "_kernels/kernels.h" nogil:
    enum: SIMD_PORTABLE
    enum: SIMD_AVX2
    enum: SIMD_AVX512

    ctypedef struct scan_hits:
        int64_t count
        int64_t room
        float *scores
        int64_t *ids

    ctypedef struct scan_job:
        const uint8_t *codes
        int64_t n
        int bytes
        int width
        const uint8_t *allowed
        double allowed_share
        const float *queries
        const float *codebooks
        const float *luts
        int M
        int ksub
        int dsub
        int fields
        int inner_product
        int64_t k
        float *D
        int64_t *I
        scan_hits *hits
        float radius

    ctypedef struct scan_scratch:
        pass

    ctypedef struct scan_kernel:
        void (*search)(const scan_job *, int64_t first, int count, const scan_scratch *) noexcept nogil
        int queries
        int lanes
        int prunes

    int simd_supported()
    int64_t count_bits(const uint8_t *, int64_t n)
    bint _all_finite "all_finite"(const float *, int64_t n)
    int scratch_new(scan_scratch *, const scan_job *, int lanes, int prunes, int lists)
    void scratch_free(scan_scratch *)
    scan_kernel choose_kernel(const scan_job *, int simd, int64_t left)
    void rank_keys(const scan_job *, int64_t q, const scan_scratch *, uint64_t *keys)
    void rank_results(const scan_job *, int64_t q, const uint64_t *keys, int64_t k)

cdef extern from "_kernels/assign.h" nogil:
    ctypedef struct assign_codebook:
        int ksub
        int dsub
    int assign_book_new(assign_codebook *, const float *given, int ksub, int dsub, int distinct)
    void assign_book_free(assign_codebook *)
    ctypedef void (*assign_fn)(const assign_codebook *, const float *z, int64_t n, int64_t stride,
                               float *centred, int32_t *words) noexcept nogil
    assign_fn assign_kernel(int simd)

cdef extern from "_kernels/assign_few.h" nogil:
    ctypedef void (*distances_fn)(const float *, const float *, int, int, float *) noexcept nogil
    distances_fn distances_kernel(int simd)
    int distances_room(int ksub)
    int32_t nearest_word(distances_fn, const float *x, const float *codewords, int ksub, int dsub,
                         float *distances)

cdef extern from "_kernels/cell_sums.h" nogil:
    ctypedef struct cell_sums:
        void (*floats)(float *sums, const float *x, int64_t n) noexcept nogil
        void (*doubles)(double *sums, const float *x, int64_t n) noexcept nogil
        double (*squares)(const float *x, int64_t n) noexcept nogil
    const cell_sums *cell_sums_of(int simd)

ctypedef fused word_t:
    uint8_t
    uint16_t

cdef enum:
    ROWS_AT_ONCE = 256  # of a block that stays in the cache
    FEW_ROWS = 32  # for which it takes longer to prepare the codebooks than to do without

cdef float TINY = 1e-10  # below, some squared distances are not exact in float32

_LEVELS = {"portable": SIMD_PORTABLE, "avx2": SIMD_AVX2, "avx512": SIMD_AVX512}
cdef int _simd = simd_supported()


def simd_levels():
    """Names of the instruction sets that this processor can run, the fastest last."""
    return [name for name, level in _LEVELS.items() if level <= simd_supported()]


def simd():
    """Name of the instruction set in use."""
    return next(name for name, level in _LEVELS.items() if level == _simd)


def set_simd(name):
    """Use the instruction set of this name from now on (the environment's DEEPQ_SIMD at import)."""
    global _simd
    if name not in simd_levels():
        raise ValueError(f"expected an instruction set out of {simd_levels()}, got {name!r}")
    _simd = _LEVELS[name]


if os.environ.get("DEEPQ_SIMD"):
    set_simd(os.environ["DEEPQ_SIMD"])


# ---- scanning ------------------------------------------------------------------------------------

cdef enum:
    # Above these a heap or its sample no longer pays: score all codes and sort.
    RANKED_K = 4096
    RANKED_FRACTION = 8


cdef class _Scan:
    """One search: the job, and the stock of queries its threads take blocks from."""

    cdef scan_job job
    cdef int64_t nq, next, share
    cdef bint ranked
    # What the job points to.
    cdef const uint8_t[:, ::1] codes
    cdef const float[:, ::1] queries
    cdef const float[:, :, ::1] codebooks, luts
    cdef const uint8_t[::1] allowed
    cdef float[:, ::1] D
    cdef int64_t[:, ::1] I

    def __cinit__(self, const uint8_t[:, ::1] codes, int M, int nbits, const float[:, ::1] queries=None,
                  const float[:, :, ::1] codebooks=None, const float[:, :, ::1] luts=None,
                  bint inner_product=False, const uint8_t[::1] allowed=None, int num_threads=1):
        cdef scan_job *job = &self.job
        job.n, job.M, job.ksub, job.fields = codes.shape[0], M, 1 << nbits, 1
        if 8 % nbits == 0:
            job.bytes, job.width, job.fields = codes.shape[1], 256, 8 // nbits
        else:
            codes = unpack(codes, M, nbits)
            job.bytes, job.width = M, job.ksub
        self.codes, self.queries, self.codebooks = codes, queries, codebooks
        self.luts, self.allowed = luts, allowed
        job.inner_product = inner_product
        job.codes = &codes[0, 0] if job.n else NULL
        if luts is not None:
            self.nq, job.luts = luts.shape[0], &luts[0, 0, 0]
        else:
            self.nq, job.queries = queries.shape[0], &queries[0, 0]
            job.codebooks, job.dsub = &codebooks[0, 0, 0], codebooks.shape[2]
        if allowed is not None and job.n:
            job.allowed, job.allowed_share = &allowed[0], count_ids(allowed, job.n) / <double>job.n
        self.share = (self.nq + num_threads - 1) // num_threads

    def __dealloc__(self):
        if self.job.hits:
            for q in range(self.nq):
                free(self.job.hits[q].scores)
                free(self.job.hits[q].ids)
            free(self.job.hits)

    def nearest(self, float[:, ::1] D, int64_t[:, ::1] I):
        """Search for the best that D and I have room for."""
        cdef scan_job *job = &self.job
        self.D, self.I = D, I
        job.k, job.D, job.I = D.shape[1], &D[0, 0], &I[0, 0]
        self.ranked = (job.k > RANKED_K or job.k * RANKED_FRACTION > job.n) and job.n <= UINT32_MAX
        return self

    def within(self, float radius):
        """Search for all that score at most `radius`."""
        self.job.radius = radius
        self.job.hits = <scan_hits *>calloc(self.nq, sizeof(scan_hits))
        if not self.job.hits:
            raise MemoryError("no memory for the results of a range search")
        return self

    def work(self):
        """Search queries until none is left."""
        cdef scan_scratch scratch
        cdef int simd = _simd
        cdef scan_kernel kernel = choose_kernel(&self.job, simd, self.share)
        cdef int64_t first
        if self.ranked:
            kernel.lanes, kernel.prunes = 1, False
        if scratch_new(&scratch, &self.job, kernel.lanes, kernel.prunes, not self.ranked):
            raise MemoryError("no memory for the look-up tables of a search")
        try:
            while self.next < self.nq:
                first = self.next
                if self.ranked:
                    self.next += 1
                    self.rank_all(first, &scratch)
                else:
                    kernel = choose_kernel(&self.job, simd, min(self.nq - first, self.share))
                    self.next += kernel.queries
                    with nogil:
                        kernel.search(&self.job, first, kernel.queries, &scratch)
                PyErr_CheckSignals()
        except BaseException:
            self.next = self.nq
            raise
        finally:
            scratch_free(&scratch)

    cdef rank_all(self, int64_t q, scan_scratch *scratch):
        """Fill row q by sorting the scores of all codes."""
        keys = np.empty(self.job.n, np.uint64)
        cdef uint64_t[::1] view = keys
        cdef int64_t k = min(self.job.k, self.job.n)
        if k:
            with nogil:
                rank_keys(&self.job, q, scratch, &view[0])
            if k < self.job.n:
                keys.partition(k)
            keys[:k].sort()
        rank_results(&self.job, q, &view[0] if k else NULL, k)

    def found(self):
        """lims, D, I of a range search."""
        cdef const scan_hits *hits = self.job.hits
        lims = np.zeros(self.nq + 1, np.uint64)
        for q in range(self.nq):
            if hits[q].room < 0:
                raise MemoryError("no memory for the results of a range search")
            lims[q + 1] = lims[q] + <uint64_t>hits[q].count
        scores, ids = np.empty(lims[self.nq], np.float32), np.empty(lims[self.nq], np.int64)
        for q in range(self.nq):
            if hits[q].count:
                scores[lims[q]:lims[q + 1]] = <float[:hits[q].count]>hits[q].scores
                ids[lims[q]:lims[q + 1]] = <int64_t[:hits[q].count]>hits[q].ids
        return lims, -scores if self.job.inner_product else scores, ids


def search(codes, int M, int nbits, D, I, *, queries=None, codebooks=None, luts=None, bint inner_product=False,
           allowed=None, int num_threads=1):
    """Fill D and I with the k best codes of every query, ordered by (better score, ascending id).

    Parameters
    ----------
    codes : (n, code_size) uint8, packed; nbits at most 8
    D, I : (nq, k) float32 and int64, filled; -1 and +-FLT_MAX where there is no k-th code
    num_threads : threads to share the queries or, where those are fewer, ranges of the codes
    queries, codebooks : (nq, M * dsub) and (M, ksub, dsub) float32, finite; the tables are squared
        L2 distances, or inner products
    luts : (nq, M, ksub) float32 instead of both: any additive tables
    inner_product : larger is better
    allowed : (ceil(n / 8),) uint8, of little-endian bits, 0 for a code that must not be found
    """
    nq, k = D.shape
    if nq == 0 or k == 0:
        return
    if queries is not None and _is_tiny(queries):
        queries, codebooks, unit = _in_units(queries, codebooks)
        if unit != 1:
            search(codes, M, nbits, D, I, queries=queries, codebooks=codebooks, inner_product=inner_product,
                   allowed=allowed, num_threads=num_threads)
            found = I >= 0
            D[found] = D[found] / unit / unit
            return
    ranges = _ranges(codes, nq, k, num_threads) if num_threads > nq else ()
    if len(ranges) <= 1:
        scan = _Scan(codes, M, nbits, queries, codebooks, luts, inner_product, allowed, num_threads)
        scan.nearest(D, I)
        if num_threads > 1:
            threads.run(scan.work, min(num_threads, nq))
        else:
            scan.work()
        return
    tables = {"queries": queries, "codebooks": codebooks, "luts": luts, "inner_product": inner_product,
              "allowed": allowed}
    scores = np.empty((len(ranges), nq, k), np.float32)
    ids = np.empty((len(ranges), nq, k), np.int64)
    scans = [_part(codes, M, nbits, part, tables).nearest(*out) for part, *out in zip(ranges, scores, ids)]
    _run_all(scans)
    for part, own in zip(ranges, ids):
        own[own >= 0] += part.start
    scores, ids = (np.concatenate(list(part), axis=1) for part in (scores, ids))
    order = np.lexsort((ids, -scores if inner_product else scores))[:, :k]
    D[:] = np.take_along_axis(scores, order, 1)
    I[:] = np.take_along_axis(ids, order, 1)


def range_search(codes, int M, int nbits, float radius, *, int num_threads=1, **tables):
    """All codes that score better than `radius`: lims (nq + 1,) uint64, D float32, I int64.

    Arguments as in `search`; the results of a query come in ascending order of id.
    """
    if tables.get("queries") is not None and _is_tiny(tables["queries"]):
        tables["queries"], tables["codebooks"], unit = _in_units(tables["queries"], tables["codebooks"])
        if unit != 1:
            lims, D, I = range_search(codes, M, nbits, radius * float(unit) ** 2, num_threads=num_threads, **tables)
            return lims, D / unit / unit, I
    cdef float most = -radius if tables.get("inner_product") else radius
    most = nextafterf(most, -INFINITY) if most > -INFINITY else NAN
    nq = len(tables["queries"] if tables.get("luts") is None else tables["luts"])
    if nq == 0:
        return np.zeros(1, np.uint64), np.empty(0, np.float32), np.empty(0, np.int64)
    ranges = _ranges(codes, nq, 0, num_threads)
    if len(ranges) == 1:
        scan = _Scan(codes, M, nbits, num_threads=num_threads, **tables).within(most)
        threads.run(scan.work, min(num_threads, nq))
        return scan.found()
    scans = [_part(codes, M, nbits, part, tables).within(most) for part in ranges]
    _run_all(scans)
    lims, scores, ids = zip(*(scan.found() for scan in scans))
    rows = np.concatenate([np.repeat(np.arange(nq), np.diff(own).astype(np.int64)) for own in lims])
    order = np.argsort(rows, kind="stable")
    ids = np.concatenate([own + part.start for part, own in zip(ranges, ids)])[order]
    return sum(lims), np.concatenate(scores)[order], ids


cdef bint _is_tiny(const float[:, ::1] queries):
    """Whether there are queries, and no number is as large as the least that ordinary ones have."""
    cdef int64_t i, j
    with nogil:
        for i in range(queries.shape[0]):
            for j in range(queries.shape[1]):
                if fabsf(queries[i, j]) >= TINY:
                    with gil:
                        return False
    return queries.shape[0] > 0


def _in_units(queries, codebooks):
    """Queries and codebooks times a power of two, and that: float32 has no squares of tiny numbers."""
    largest = max(np.abs(queries).max(), np.abs(codebooks).max())
    if not 0 < largest < TINY:
        return queries, codebooks, np.float32(1)
    unit = np.float32(np.exp2(min(-np.floor(np.log2(largest)), 126.0)))
    return queries * unit, codebooks * unit, unit


def _ranges(codes, nq, k, num_threads):
    """Slices of the codes, from multiples of 8 on, for threads where there are fewer queries."""
    count = max(1, min(num_threads // nq, len(codes) // (RANKED_FRACTION * max(k, 64))))
    starts = [len(codes) * r // count // 8 * 8 for r in range(count)]
    return [slice(begin, end) for begin, end in zip(starts, [*starts[1:], len(codes)])]


def _part(codes, M, nbits, part, tables):
    """The scan of a slice of the codes."""
    allowed = tables.get("allowed")
    if allowed is not None:
        tables = {**tables, "allowed": allowed[part.start // 8:]}
    return _Scan(codes[part], M, nbits, **tables)


def _run_all(scans):
    """Run whole scans, one a thread."""
    stock = iter(scans)

    def work():
        for scan in stock:
            scan.work()

    threads.run(work, len(scans))


def mark_ids(const int64_t[::1] ids, int64_t n):
    """Bits (ceil(n / 8),) uint8, little-endian, that are 1 for the ids from 0 to n - 1 in `ids`."""
    bits = np.zeros((n + 7) // 8, np.uint8)
    cdef uint8_t[::1] out = bits
    cdef int64_t i, id
    with nogil:
        for i in range(ids.shape[0]):
            id = ids[i]
            if 0 <= id < n:
                out[id >> 3] |= 1 << (id & 7)
    return bits


def all_finite(const float[:, ::1] x):
    """Whether no number in x is NaN or infinite."""
    cdef bint finite = True
    if x.shape[0] and x.shape[1]:
        with nogil:
            finite = _all_finite(&x[0, 0], x.shape[0] * x.shape[1])
    return finite


def count_ids(const uint8_t[::1] bits, int64_t n):
    """How many of the first n bits are 1."""
    return count_bits(&bits[0], n) if n else 0


def unpack(const uint8_t[:, ::1] codes, int M, int nbits):
    """Words (n, M) uint8 of packed codes (n, code_size) uint8 of at most 8 bits."""
    cdef int64_t n = codes.shape[0], first, last = 0, i
    cdef int m, at, shift, mask = (1 << nbits) - 1
    words = np.empty((n, M), np.uint8)
    cdef uint8_t[:, ::1] out = words
    with nogil:
        while last < n:
            first, last = last, min(last + ROWS_AT_ONCE, n)
            for m in range(M):
                at, shift = m * nbits >> 3, m * nbits & 7
                if shift + nbits <= 8:
                    for i in range(first, last):
                        out[i, m] = <uint8_t>(codes[i, at] >> shift & mask)
                else:
                    for i in range(first, last):
                        out[i, m] = <uint8_t>((codes[i, at] | codes[i, at + 1] << 8) >> shift & mask)
    return words


# ---- encoding and training -----------------------------------------------------------------------


cdef class _Assignment:
    """One assignment of rows to codewords, and the stock of rows its threads take blocks from."""

    cdef const float[:, ::1] z
    cdef const float[:, :, ::1] codebooks
    cdef assign_codebook *books
    cdef object words
    cdef int64_t next

    def __cinit__(self, const float[:, ::1] z, const float[:, :, ::1] codebooks, words):
        cdef int m, M = codebooks.shape[0]
        self.z, self.codebooks, self.words = z, codebooks, words
        self.books = <assign_codebook *>calloc(M, sizeof(assign_codebook))
        if not self.books:
            raise MemoryError("no memory for codebooks")
        for m in range(M):
            if assign_book_new(&self.books[m], &codebooks[m, 0, 0], codebooks.shape[1], codebooks.shape[2], 1):
                raise MemoryError("no memory for codebooks")

    def __dealloc__(self):
        if self.books:
            for m in range(self.codebooks.shape[0]):
                assign_book_free(&self.books[m])
            free(self.books)

    def work(self):
        """Assign rows until none is left."""
        if self.words.dtype == np.uint8:
            self._work[uint8_t](self.words)
        else:
            self._work[uint16_t](self.words)

    cdef _work(self, word_t[:, ::1] words):
        cdef int64_t n = self.z.shape[0], d = self.z.shape[1], first, count, i
        cdef int M = self.codebooks.shape[0], m
        cdef int32_t best[ROWS_AT_ONCE]
        cdef assign_fn kernel = assign_kernel(_simd)
        cdef float[::1] centred = np.empty(ROWS_AT_ONCE * self.codebooks.shape[2], np.float32)
        while self.next < n:
            first = self.next
            count = min(<int64_t>ROWS_AT_ONCE, n - first)
            self.next += count
            with nogil:
                for m in range(M):
                    kernel(&self.books[m], &self.z[first, m * self.books[m].dsub], count, d, &centred[0], best)
                    for i in range(count):
                        words[first + i, m] = <word_t>best[i]
            PyErr_CheckSignals()


def assign(z, codebooks, *, int num_threads=1):
    """Words (n, M) of the nearest codewords (squared L2), ties to the lower index.

    Parameters
    ----------
    z : (n, M * dsub) float32, finite
    codebooks : (M, ksub, dsub) float32, finite
    num_threads : threads to share the rows

    Returns
    -------
    words : (n, M), uint8 for at most 256 codewords, else uint16
    """
    words = np.empty((len(z), len(codebooks)), np.uint8 if codebooks.shape[1] <= 256 else np.uint16)
    codebooks = np.ascontiguousarray(codebooks)
    if len(z) <= FEW_ROWS:
        _assign_few(z, codebooks, words)
    else:
        work = _Assignment(z, codebooks, words).work
        threads.run(work, min(num_threads, 1 + len(z) // (4 * ROWS_AT_ONCE)))
    return words


def _assign_few(const float[:, ::1] z, const float[:, :, ::1] codebooks, words):
    if words.dtype == np.uint8:
        _nearest_words[uint8_t](z, codebooks, words)
    else:
        _nearest_words[uint16_t](z, codebooks, words)


cdef _nearest_words(const float[:, ::1] z, const float[:, :, ::1] codebooks, word_t[:, ::1] words):
    cdef int64_t n = z.shape[0], i
    cdef int M = codebooks.shape[0], ksub = codebooks.shape[1], dsub = codebooks.shape[2], m
    cdef distances_fn kernel = distances_kernel(_simd)
    cdef float *distances = <float *>malloc(distances_room(ksub) * sizeof(float))
    if distances is NULL:
        raise MemoryError
    with nogil:
        for i in range(n):
            for m in range(M):
                words[i, m] = <word_t>nearest_word(
                    kernel, &z[i, m * dsub], &codebooks[m, 0, 0], ksub, dsub, distances
                )
    free(distances)


cdef double _accumulate(const float[:, ::1] z, const word_t[:, ::1] words, double[:, :, ::1] sums,
                        int64_t[:, ::1] counts):
    cdef int64_t i
    cdef int m, M = sums.shape[0], dsub = sums.shape[2]
    cdef double energy = 0
    cdef const cell_sums *add = cell_sums_of(_simd)
    with nogil:
        for i in range(z.shape[0]):
            for m in range(M):
                counts[m, words[i, m]] += 1
                add.doubles(&sums[m, words[i, m], 0], &z[i, m * dsub], dsub)
            energy += add.squares(&z[i, 0], z.shape[1])
    return energy


def accumulate(z, words, int ksub):
    """Sums and sizes of the cells that words make.

    Parameters
    ----------
    z : (n, M * dsub) float32
    words : (n, M) uint8 or uint16, below ksub

    Returns
    -------
    sums : (M, ksub, dsub) float64
    counts : (M, ksub) int64
    energy : float, the sum of the squares of z
    """
    M = words.shape[1]
    sums = np.zeros((M, ksub, z.shape[1] // M))
    counts = np.zeros((M, ksub), np.int64)
    if words.dtype == np.uint8:
        return sums, counts, _accumulate[uint8_t](z, words, sums, counts)
    return sums, counts, _accumulate[uint16_t](z, words, sums, counts)


cdef void _sum_cells(const float[:, ::1] x, const word_t[:] words, float[:, ::1] sums,
                     int64_t[::1] counts) noexcept nogil:
    cdef int64_t i
    cdef const cell_sums *add = cell_sums_of(_simd)
    for i in range(x.shape[0]):
        counts[words[i]] += 1
        add.floats(&sums[words[i], 0], &x[i, 0], x.shape[1])


def sum_cells(x, words, int ksub):
    """Sums and sizes of the cells that the words of one sub-space make, in single precision.

    Parameters
    ----------
    x : (n, d) float32
    words : (n,) uint8 or uint16, below ksub

    Returns
    -------
    sums : (ksub, d) float32
    counts : (ksub,) int64
    """
    sums = np.zeros((ksub, x.shape[1]), np.float32)
    counts = np.zeros(ksub, np.int64)
    if x.size and words.dtype == np.uint8:
        _sum_cells[uint8_t](x, words, sums, counts)
    elif x.size:
        _sum_cells[uint16_t](x, words, sums, counts)
    return sums, counts


cdef void _add_up(
    const float[:, :, ::1] tables, const word_t[:, ::1] words, float[:, ::1] out
) noexcept nogil:
    cdef Py_ssize_t n = words.shape[0], M = words.shape[1], d = tables.shape[2], i, m, j
    cdef const float *row
    cdef float *total
    for i in range(n):
        total = &out[i, 0]
        for m in range(M):
            row = &tables[m, words[i, m], 0]
            for j in range(d):
                total[j] += row[j]


def add_up(tables, words):
    """Sum for every vector the rows that its words point to.

    Parameters
    ----------
    tables : (M, ksub, d) float32
    words : (n, M) uint8 or uint16, below ksub

    Returns
    -------
    (n, d) float32
    """
    out = np.zeros((len(words), tables.shape[2]), np.float32)
    words = np.ascontiguousarray(words)
    if out.size and words.dtype == np.uint8:
        _add_up[uint8_t](tables, words, out)
    elif out.size:
        _add_up[uint16_t](tables, words, out)
    return out
