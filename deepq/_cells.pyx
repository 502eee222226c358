# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Scans of codes in cells: the compiled part of cell indexes.

Shapes and dtypes are checked by the typed arguments; that they fit together, that cells are cells of
the table and values finite, is the caller's duty, as is that the lists of a table do not change
meanwhile. Long work runs without the GIL and can be interrupted between blocks.
"""
import threading

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, NAN, nextafterf
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from deepq import _scan
from deepq._common import threads

cdef extern from "_kernels/kernels.h" nogil:
    ctypedef struct scan_hits:
        int64_t count
        int64_t room
        float *scores
        int64_t *ids

    ctypedef struct scan_job:
        int bytes
        int width
        const float *codebooks
        int M
        int ksub
        int dsub
        int fields
        int inner_product

    ctypedef struct cell_list:
        const uint8_t *codes
        const int64_t *ids
        int64_t n
        const uint8_t *terms
        float least
        float step

    ctypedef struct cells_job:
        scan_job job
        const float *queries
        int64_t nq
        const int64_t *cells
        int64_t nprobe
        const cell_list *lists
        const uint8_t *const *allowed
        const float *centres
        int64_t per_part
        int parts
        const float *middle
        int residual
        double reach
        int64_t k
        float *D
        int64_t *I
        int64_t *places
        scan_hits *hits
        float radius

    ctypedef struct cell_scratch:
        pass

    enum: TILE

    int cell_scratch_new(cell_scratch *, const cells_job *, int64_t block, int64_t sample)
    void cell_scratch_free(cell_scratch *)
    int64_t cell_groups(int64_t k)
    ctypedef void (*cells_fn)(const cells_job *, int64_t first, int64_t count, cell_scratch *) noexcept nogil
    ctypedef int (*terms_fn)(const cells_job *, const cell_scratch *, const float *squares, int64_t cell,
                             const uint8_t *codes, int64_t n, uint8_t *levels, float *least, float *step) noexcept nogil
    cells_fn cells_kernel(int simd)
    terms_fn terms_kernel(int simd)

cdef extern from "_kernels/assign.h" nogil:
    ctypedef struct assign_codebook:
        pass

    ctypedef struct near_scratch:
        pass

    ctypedef int (*near_fn)(const assign_codebook *, const float *z, int64_t n, near_scratch *, int64_t count,
                            int64_t *found) noexcept nogil
    int assign_book_new(assign_codebook *, const float *given, int ksub, int dsub, int distinct)
    void assign_book_free(assign_codebook *)
    int near_scratch_new(near_scratch *, const assign_codebook *)
    void near_scratch_free(near_scratch *)
    near_fn near_kernel(int simd)

cdef enum:
    BLOCK = 1024  # queries that look into cells together
    NEAR_BLOCK = 256  # queries whose cells are looked up at a time
    MOST_WORDS = 1 << 16  # of which one nearest is found as a word

_LEVELS = {"portable": 0, "avx2": 1, "avx512": 2}


cdef class Cells:
    """The lists of an index by cell, as they lie, and what is known of their codes.

    Parameters
    ----------
    nlist : number of cells
    codebooks : (M, ksub, dsub) float32, finite
    centres : (parts, per_part, d / parts) float32: the centre of cell i is row i of the one part, or, side by
        side, row i % per_part of the first, i // per_part % per_part of the second and so on
    by_residual : codes are of vectors less their centre
    inner_product : larger is better
    """

    cdef cell_list *lists
    cdef int64_t *counted  # codes whose terms are known
    cdef int64_t nlist
    cdef cells_job base
    cdef readonly object codebooks, centres, middle
    cdef object squares, lock
    cdef int simd
    cdef bint has_terms
    cdef assign_codebook book  # of the centres
    cdef bint has_book
    # Where vectors of codes and of ids are, one behind the other, and in one the pointer and the size.
    cdef const char *first_codes
    cdef const char *first_ids
    cdef int64_t stride
    cdef int pointer_at, size_at, code_size

    def __cinit__(self, int64_t nlist, const float[:, :, ::1] codebooks, const float[:, :, ::1] centres,
                  int nbits, bint by_residual, bint inner_product):
        cdef scan_job *job = &self.base.job
        cdef const float[::1] middle
        self.nlist, self.lock = nlist, threading.Lock()
        self.codebooks, self.centres = np.asarray(codebooks), np.asarray(centres)
        self.lists = <cell_list *>calloc(nlist, sizeof(cell_list))
        self.counted = <int64_t *>calloc(nlist, sizeof(int64_t))
        if not self.lists or not self.counted:
            raise MemoryError("no memory for a table of cells")
        job.M, job.ksub, job.dsub = codebooks.shape[0], codebooks.shape[1], codebooks.shape[2]
        job.fields, job.width = 0 if 8 % nbits else 8 // nbits, 256  # words of other widths are not scanned
        self.code_size = job.bytes = (job.M * nbits + 7) // 8
        job.codebooks, job.inner_product = &codebooks[0, 0, 0], inner_product
        self.base.centres = &centres[0, 0, 0]
        self.base.parts, self.base.per_part = centres.shape[0], centres.shape[1]
        self.base.residual, self.base.lists = by_residual, self.lists
        self.middle = np.asarray(centres).mean(axis=1, dtype=np.float64).astype(np.float32).ravel()
        middle = self.middle
        self.base.middle = &middle[0]
        self.has_terms = by_residual and not inner_product
        books = np.asarray(codebooks, np.float64)
        squares = np.square(books).sum(axis=2)
        self.base.reach = float(np.sqrt(squares.max(axis=1).sum())) * (1 + 1e-6)
        self.squares = _by_bytes(squares, job.fields, job.bytes) if job.fields else None
        self.simd = -1

    def __dealloc__(self):
        if self.lists:
            for cell in range(self.nlist):
                free(<void *>self.lists[cell].terms)
        free(self.lists)
        free(self.counted)
        if self.has_book:
            assign_book_free(&self.book)

    def nearest(self, const float[:, ::1] queries, int64_t[:, ::1] cells, int num_threads):
        """Fill cells (nq, nprobe) with the nearest ones of every query (nq, d), the nearest first.

        Distances that differ by less than rounding in float32 are compared in double precision; equally near cells
        come in ascending order. There must be one part of centres, and at least nprobe cells. Returns whether scores
        are within the range of float32; otherwise cells are not filled.
        """
        cdef const float[:, :, ::1] centres = self.centres
        if cells.shape[1] == 1 and self.nlist <= MOST_WORDS:
            np.asarray(cells)[:] = _scan.assign(np.asarray(queries), self.centres, num_threads=num_threads)
            return True
        with self.lock:
            if not self.has_book:
                if assign_book_new(&self.book, &centres[0, 0, 0], centres.shape[1], centres.shape[2], 0):
                    raise MemoryError("no memory for centres of cells")
                self.has_book = True
        search = _NearestCells(self, queries, cells)
        threads.run(search.work, min(num_threads, queries.shape[0] // NEAR_BLOCK + 1))
        return search.suits

    def place(self, uint64_t codes_at, uint64_t ids_at, int64_t stride, int pointer_at, int size_at):
        """Say where the vectors of codes and ids of cell 0 are, how far apart, and what is where in one.

        Sizes of vectors are in bytes for codes.
        """
        self.first_codes, self.first_ids, self.stride = <const char *>codes_at, <const char *>ids_at, stride
        self.pointer_at, self.size_at = pointer_at, size_at

    def forget(self):
        """Take codes for others than those that were here before."""
        for cell in range(self.nlist):
            self.counted[cell] = 0

    cdef int64_t look(self, int64_t cell) noexcept:
        """Read where the list of a cell is now; return its size."""
        cdef cell_list *known = &self.lists[cell]
        cdef const char *codes = self.first_codes + cell * self.stride
        known.n = <int64_t>(<const size_t *>(codes + self.size_at))[0] // self.code_size
        known.codes = (<const uint8_t **>(codes + self.pointer_at))[0]
        known.ids = (<const int64_t **>(self.first_ids + cell * self.stride + self.pointer_at))[0]
        return known.n

    def sizes(self):
        """Sizes of all lists, (nlist,) int64."""
        return np.array([self.look(cell) for cell in range(self.nlist)], np.int64)

    def entries(self):
        """Ids and places (n,) int64 of all stored codes, cell by cell."""
        cdef int64_t cell, row, at = 0
        sizes = self.sizes()
        ids, places = np.empty(sizes.sum(), np.int64), np.empty(sizes.sum(), np.int64)
        cdef int64_t[::1] all_ids = ids, all_places = places
        for cell in range(self.nlist):
            for row in range(self.lists[cell].n):
                all_ids[at], all_places[at] = self.lists[cell].ids[row], cell << 32 | row
                at += 1
        return ids, places

    def codes_at(self, const int64_t[::1] places):
        """Codes (n, code_size) uint8 of places: cell << 32 | row."""
        cdef int64_t i, size = self.code_size
        codes = np.empty((places.shape[0], size), np.uint8)
        cdef uint8_t[:, ::1] out = codes
        for i in range(places.shape[0]):
            self.look(places[i] >> 32)
            memcpy(&out[i, 0], self.lists[places[i] >> 32].codes + (places[i] & UINT32_MAX) * size, size)
        return codes

    def ids_at(self, const int64_t[::1] places):
        """Ids (n,) int64 of places."""
        cdef int64_t i
        ids = np.empty(places.shape[0], np.int64)
        cdef int64_t[::1] out = ids
        for i in range(places.shape[0]):
            self.look(places[i] >> 32)
            out[i] = self.lists[places[i] >> 32].ids[places[i] & UINT32_MAX]
        return ids

    def list_of(self, int64_t cell):
        """Copies of the codes (n, code_size) and ids (n,) of a cell."""
        cdef int64_t n = self.look(cell)
        codes, ids = np.empty((n, self.code_size), np.uint8), np.empty(n, np.int64)
        cdef uint8_t[:, ::1] out = codes
        cdef int64_t[::1] numbers = ids
        if n:
            memcpy(&out[0, 0], self.lists[cell].codes, n * self.code_size)
            memcpy(&numbers[0], self.lists[cell].ids, n * sizeof(int64_t))
        return codes, ids

    cdef prepare(self, const int64_t[:, ::1] cells):
        """Look where the lists of cells are, and make the terms of their codes."""
        cdef int64_t i, j, cell, n, stale = 0
        cdef int simd = _LEVELS[_scan.simd()]
        if simd != self.simd:  # the order of terms is that of its tiles
            self.forget()
            self.simd = simd
        for i in range(cells.shape[0]):
            for j in range(cells.shape[1]):
                cell = cells[i, j]
                if cell < 0:
                    continue
                n = self.look(cell)
                stale += self.has_terms and self.counted[cell] != n
        if stale:
            with self.lock:
                self.make_terms(cells)

    cdef make_terms(self, const int64_t[:, ::1] cells):
        cdef cell_scratch scratch
        cdef cells_job job = self.base
        cdef terms_fn kernel = terms_kernel(self.simd)
        cdef const float[:, ::1] squares = self.squares
        cdef int64_t i, j, cell
        cdef cell_list *known
        cdef uint8_t *levels
        cdef int done = 1
        job.k, job.nprobe = 1, 1
        if cell_scratch_new(&scratch, &job, 1, 1):
            raise MemoryError("no memory for the terms of codes")
        try:
            for i in range(cells.shape[0]):
                for j in range(cells.shape[1]):
                    cell = cells[i, j]
                    if cell < 0 or self.counted[cell] == self.lists[cell].n:
                        continue
                    known = &self.lists[cell]
                    levels = <uint8_t *>malloc((known.n + TILE - 1) // TILE * TILE + 1)
                    if not levels:
                        raise MemoryError("no memory for the terms of codes")
                    with nogil:
                        done = kernel(&job, &scratch, &squares[0, 0], cell, known.codes, known.n, levels,
                                      &known.least, &known.step)
                    if not done:
                        free(levels)
                        raise MemoryError("no memory for the terms of codes")
                    free(<void *>known.terms)
                    known.terms = levels
                    self.counted[cell] = known.n
                    PyErr_CheckSignals()
        finally:
            cell_scratch_free(&scratch)


def _by_bytes(squares, int fields, int bytes):
    """Sums (bytes, 256) float32 of what the words in a byte have in squares (M, ksub)."""
    M, ksub = squares.shape
    out = np.zeros((bytes, 256))
    values = np.arange(256)
    for m in range(M):
        out[m // fields] += squares[m][values >> (m % fields * (8 // fields)) & (ksub - 1)]
    return np.ascontiguousarray(out, np.float32)


cdef class _NearestCells:
    """One search for cells, and the stock of queries its threads take blocks from."""

    cdef const float[:, ::1] queries
    cdef int64_t[:, ::1] cells
    cdef int64_t next
    cdef Cells table
    cdef readonly bint suits

    def __cinit__(self, Cells table, const float[:, ::1] queries, int64_t[:, ::1] cells):
        self.table, self.queries, self.cells, self.suits = table, queries, cells, True

    def work(self):
        """Search for the cells of queries until none is left."""
        cdef near_scratch scratch
        cdef near_fn kernel = near_kernel(_LEVELS[_scan.simd()])
        cdef int64_t first, count, n = self.queries.shape[0]
        cdef bint suits = True
        if near_scratch_new(&scratch, &self.table.book):
            raise MemoryError("no memory for the scores of cells")
        try:
            while self.next < n and self.suits:
                first = self.next
                count = min(<int64_t>NEAR_BLOCK, n - first)
                self.next += count
                with nogil:
                    suits = kernel(&self.table.book, &self.queries[first, 0], count, &scratch, self.cells.shape[1],
                                   &self.cells[first, 0])
                if not suits:
                    self.suits = False
                PyErr_CheckSignals()
        finally:
            near_scratch_free(&scratch)


cdef class _CellScan:
    """One search: the job, and the stock of queries its threads take blocks from."""

    cdef cells_job job
    cdef int64_t next, block
    cdef Cells table
    cdef object kept
    cdef const uint8_t **allowed

    def __cinit__(self, Cells table, const float[:, ::1] queries, const int64_t[:, ::1] cells, allowed, int num_threads):
        cdef const uint8_t[::1] bits
        self.table = table
        table.prepare(cells)
        self.job = table.base
        self.kept = queries, cells, allowed
        self.job.queries, self.job.nq = &queries[0, 0], queries.shape[0]
        self.job.cells, self.job.nprobe = &cells[0, 0], cells.shape[1]
        if allowed is not None:
            self.allowed = <const uint8_t **>calloc(table.nlist, sizeof(uint8_t *))
            if not self.allowed:
                raise MemoryError("no memory for a selection among cells")
            for cell, marks in allowed.items():
                bits = marks
                self.allowed[cell] = &bits[0] if bits.shape[0] else NULL
            self.job.allowed = self.allowed
        self.block = max(1, min(<int64_t>BLOCK, (self.job.nq + num_threads - 1) // num_threads))

    def __dealloc__(self):
        free(self.allowed)
        if self.job.hits:
            for q in range(self.job.nq):
                free(self.job.hits[q].scores)
                free(self.job.hits[q].ids)
            free(self.job.hits)

    def nearest(self, float[:, ::1] D, int64_t[:, ::1] I, int64_t[:, ::1] places):
        """Search for the best that D, I and places have room for."""
        self.kept = self.kept, D, I, places
        self.job.k, self.job.D, self.job.I, self.job.places = D.shape[1], &D[0, 0], &I[0, 0], &places[0, 0]
        return self

    def within(self, float radius):
        """Search for all that score at most `radius`."""
        self.job.radius, self.job.k = radius, 1
        self.job.hits = <scan_hits *>calloc(self.job.nq, sizeof(scan_hits))
        if not self.job.hits:
            raise MemoryError("no memory for the results of a range search")
        return self

    def work(self):
        """Search queries until none is left."""
        cdef cell_scratch scratch
        cdef cells_fn kernel = cells_kernel(self.table.simd)
        cdef int64_t first, count
        if cell_scratch_new(&scratch, &self.job, self.block, cell_groups(self.job.k)):
            raise MemoryError("no memory for the look-up tables of a search")
        try:
            while self.next < self.job.nq:
                first = self.next
                count = min(self.block, self.job.nq - first)
                self.next += count
                with nogil:
                    kernel(&self.job, first, count, &scratch)
                PyErr_CheckSignals()
        except BaseException:
            self.next = self.job.nq
            raise
        finally:
            cell_scratch_free(&scratch)

    def found(self):
        """lims, D, I of a range search, in ascending order of id."""
        cdef const scan_hits *hits = self.job.hits
        lims = np.zeros(self.job.nq + 1, np.uint64)
        for q in range(self.job.nq):
            if hits[q].room < 0:
                raise MemoryError("no memory for the results of a range search")
            lims[q + 1] = lims[q] + <uint64_t>hits[q].count
        scores, ids = np.empty(lims[self.job.nq], np.float32), np.empty(lims[self.job.nq], np.int64)
        for q in range(self.job.nq):
            if hits[q].count:
                part = slice(lims[q], lims[q + 1])
                own = np.array(<int64_t[:hits[q].count]>hits[q].ids)
                order = np.argsort(own, kind="stable")
                scores[part] = np.array(<float[:hits[q].count]>hits[q].scores)[order]
                ids[part] = own[order]
        return lims, -scores if self.job.job.inner_product else scores, ids


def search(Cells table, queries, cells, D, I, places, *, allowed=None, int num_threads=1):
    """Fill D and I with the k best codes in the cells of every query, by (better score, ascending id).

    Parameters
    ----------
    queries : (nq, d) float32, finite
    cells : (nq, nprobe) int64, nearest first; -1 for none; no cell twice in a row
    D, I, places : (nq, k) float32, int64, int64, filled; places are cell << 32 | row in its list; -1 and
        +-FLT_MAX where there is no k-th code
    allowed : dict from each cell that is looked into to bits (ceil(n / 8),) uint8, 0 for a code that must
        not be found
    num_threads : threads to share the queries
    """
    if not D.size:
        return
    scan = _CellScan(table, queries, cells, allowed, num_threads).nearest(D, I, places)
    threads.run(scan.work, min(num_threads, len(queries)))


def range_search(Cells table, queries, cells, float radius, *, allowed=None, int num_threads=1):
    """All codes in the cells of every query that score better than `radius`: lims, D, I.

    Arguments as in `search`; the results of a query come in ascending order of id.
    """
    if not len(queries):
        return np.zeros(1, np.uint64), np.empty(0, np.float32), np.empty(0, np.int64)
    cdef float most = -radius if table.base.job.inner_product else radius
    most = nextafterf(most, -INFINITY) if most > -INFINITY else NAN
    scan = _CellScan(table, queries, cells, allowed, num_threads).within(most)
    threads.run(scan.work, min(num_threads, len(queries)))
    return scan.found()
