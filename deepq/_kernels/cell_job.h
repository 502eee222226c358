/* Scans of codes in cells: what one is given, the k best of a query, and what both need to know of a cell.
 *
 * Words used here and in cell_scan.h, besides those of job.h
 *   cell     what a list of codes has in common: the nearest centre of a coarse quantizer
 *   pair     a query and a cell that it looks into
 *   offset   of a pair: what all codes of the cell cost the query, whatever they are
 *   term     of a stored code: what it costs every query alike
 *
 * A code of a cell with the centre c says that a vector is c + r. Its squared distance to a query q is
 *
 *     |q - c - r|^2 = |q - c|^2 - 2 <q, r> + (|r|^2 + 2 <c, r>),
 *
 * an offset, look-up tables that are the query's alone, and a term. From these a lower bound is made, as in
 * columns.h; q and c are both taken from a middle, so that they are small. What a bound does not rule out is
 * scored from |(q - c) - r|^2 itself, which loses nothing to cancellation. A term is rounded down to one of
 * 256 levels, whose costs are multiples of each other.
 */
#ifndef DEEPQ_CELL_JOB_H
#define DEEPQ_CELL_JOB_H

#include "heap.h"
#include "query.h"

typedef struct {
    const uint8_t *codes; /* n rows of `bytes` bytes */
    const int64_t *ids;
    int64_t n;
    const uint8_t *terms;   /* levels of the terms, in the order of a turned tile; NULL: there are none */
    float least, step;      /* a term is at least least + level * step */
} cell_list;

typedef struct {
    float score;
    int64_t place; /* cell << 32 | row; negative where there is none */
} cell_hit;

typedef struct {
    scan_job job;           /* codes of one cell, and the tables; its n, queries and results are not used */
    const float *queries;   /* (nq, d) */
    int64_t nq;
    const int64_t *cells;   /* (nq, nprobe), nearest first; negative for none */
    int64_t nprobe;
    const cell_list *lists; /* of every cell */
    const uint8_t *const *allowed; /* of every cell n bits, 0 for a code that must not be found; or NULL: all may */
    const float *centres;   /* (parts, per_part, d / parts): a centre is one row of each part, side by side */
    int64_t per_part;
    int parts;
    const float *middle;    /* (d,) */
    int residual;           /* codes are of vectors less their centre */
    double reach;           /* no code's vector is longer */
    int64_t k;
    float *D;               /* (nq, k) */
    int64_t *I, *places;    /* (nq, k) */
    scan_hits *hits;        /* (nq,), instead of k, D, I and places: all codes that score at most `radius` */
    float radius;
} cells_job;

/* Whether the codes have terms: those of inner products are 0. */
static inline int has_terms(const cells_job *c) { return c->residual && !c->job.inner_product; }

static inline int dimensions(const cells_job *c) { return c->job.M * c->job.dsub; }

static inline const float *centre_part(const cells_job *c, int64_t cell, int part) {
    for (int p = 0; p < part; p++) cell /= c->per_part;
    return c->centres + (part * c->per_part + cell % c->per_part) * (dimensions(c) / c->parts);
}

/* The centre of a cell less the middle. */
static void centre_from_middle(const cells_job *c, int64_t cell, float *out) {
    int length = dimensions(c) / c->parts;
    for (int p = 0; p < c->parts; p++) {
        const float *centre = centre_part(c, cell, p);
        for (int t = 0; t < length; t++) out[p * length + t] = centre[t] - c->middle[p * length + t];
    }
}

/* What codes of the cell are compared with: q - c, or the query itself. */
static void pair_query(const cells_job *c, int64_t q, int64_t cell, float *out) {
    int d = dimensions(c), length = d / c->parts;
    const float *x = c->queries + q * d;
    if (!c->residual || c->job.inner_product) {
        memcpy(out, x, sizeof(float) * d);
        return;
    }
    for (int p = 0; p < c->parts; p++) {
        const float *centre = centre_part(c, cell, p);
        for (int t = 0; t < length; t++) out[p * length + t] = x[p * length + t] - centre[t];
    }
}

static inline int is_found(const cells_job *c, int64_t cell, int64_t row) {
    return !c->allowed || (c->allowed[cell][row >> 3] >> (row & 7) & 1);
}

/* ---- the k best: a max-heap over (score, id, place); ids are read where scores are equal, and of results ---- */

static inline int64_t id_at(const cells_job *c, int64_t place) {
    return place < 0 ? NO_ID : c->lists[place >> 32].ids[place & UINT32_MAX];
}

static inline int hit_before(const cells_job *c, cell_hit a, cell_hit b) {
    if (a.score != b.score) return a.score < b.score;
    int64_t id = id_at(c, a.place), other = id_at(c, b.place);
    return id != other ? id < other : a.place < b.place;
}

static void hits_sift_down(const cells_job *c, cell_hit *heap, int64_t k, int64_t at, cell_hit hit) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && hit_before(c, heap[child], heap[child + 1])) child++;
        if (!hit_before(c, hit, heap[child])) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = hit;
}

/* Write a heap in ascending order. */
static void hits_finish(const cells_job *c, int64_t q, cell_hit *heap) {
    for (int64_t last = c->k - 1; last > 0; last--) {
        cell_hit hit = heap[last];
        heap[last] = heap[0];
        hits_sift_down(c, heap, last, 0, hit);
    }
    for (int64_t j = 0; j < c->k; j++) {
        int none = heap[j].place < 0;
        float score = none ? FLT_MAX : heap[j].score;
        c->D[q * c->k + j] = c->job.inner_product ? -score : score;
        c->I[q * c->k + j] = none ? -1 : id_at(c, heap[j].place);
        c->places[q * c->k + j] = none ? -1 : heap[j].place;
    }
}

/* ---- what is known of a query while its cells are scanned ------------------------------------------ */

typedef struct {
    scan_limit limit;
    cell_hit *heap;
    uint8_t *bounds; /* (bytes, 256) */
    double base;     /* the sum of the tables' minima, less what rounding may lose */
    int plain;       /* bounds do not suit: all codes are scored */
    int settled;     /* the bits that bounds are taken by have been chosen */
} cell_query;

typedef struct {
    int64_t cell;
    int32_t row; /* of the query in its block */
    float offset;
} cell_pair;

/* A pair whose cell is being scanned. */
typedef struct {
    cell_pair pair;
    int64_t query, place; /* place: among those of the cell */
    int units;            /* that a code may cost; negative: none may be found any more */
    int factor;           /* of the cell's terms: see scan_terms */
    float *compared;      /* q - c, once it is needed */
} cell_open;

/* Offer a code to a query, if it is allowed and near enough. */
static inline void pair_offer(const cells_job *c, cell_query *query, int64_t q, int64_t cell,
                              int64_t row, float score) {
    if (!(score <= query->limit.limit)) return;
    if (c->hits) {
        scan_hits *hits = c->hits + q;
        if (hits->count == hits->room) hits_grow(hits);
        if (hits->room < 0) return;
        hits->scores[hits->count] = score;
        hits->ids[hits->count++] = c->lists[cell].ids[row];
        return;
    }
    cell_hit hit = {score, cell << 32 | row};
    if (!hit_before(c, hit, query->heap[0])) return;
    hits_sift_down(c, query->heap, c->k, 0, hit);
    query->limit.limit = query->heap[0].score;
}

/* Units that a code may cost where the rest of a pair's score is at least `offset`; negative: none may be found. */
static inline int pair_units(const cell_query *query, double offset) {
    double units = floor((query->limit.limit - (offset + query->base)) * query->limit.scale + query->limit.slack);
    return units >= 0 ? (units < 65534 ? (int)units : 65534) : -1;
}

/* A limit that is higher by a margin. */
static float raised(float limit, double margin) {
    double higher = limit + margin;
    return higher < WORST_SCORE ? nextafterf((float)higher, INFINITY) : (float)WORST_SCORE;
}

/* Sort pairs by cell: a radix sort, 8 bits at a time. */
static void sort_pairs(cell_pair *pairs, cell_pair *other, int64_t n) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) most = pairs[i].cell > most ? pairs[i].cell : most;
    cell_pair *from = pairs, *to = other;
    for (int shift = 0; most >> shift; shift += 8) {
        int64_t starts[257] = {0};
        for (int64_t i = 0; i < n; i++) starts[(from[i].cell >> shift & 255) + 1]++;
        for (int v = 0; v < 256; v++) starts[v + 1] += starts[v];
        for (int64_t i = 0; i < n; i++) to[starts[from[i].cell >> shift & 255]++] = from[i];
        cell_pair *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != pairs) memcpy(pairs, from, sizeof(cell_pair) * n);
}

/* Codes of 4 and of 8 bytes share a piece of 16 bytes of a turned tile, which so many blocks follow on. */
static inline int row_step(int bytes) { return bytes == 4 ? 4 : bytes == 8 ? 2 : 1; }

/* The row of a tile that block h has in a lane. */
static inline int64_t row_of(int h, int64_t piece, int lanes, int per) {
    return (int64_t)(h & -per) * lanes + piece * per + (h & (per - 1));
}

/* The place of a row among the codes of a list whose tiles are turned; `per` and `lanes` are powers of 2. */
static inline int64_t turned_row(int64_t row, int lanes, int64_t per) {
    int64_t piece = (row & (per * lanes - 1)) >> __builtin_ctzll((uint64_t)per);
    return (row & -(per * lanes)) + (row & (per - 1)) * lanes + piece % (lanes / 16) * 16 + piece / (lanes / 16);
}

/* ---- memory of one thread --------------------------------------------------------------------------- */

typedef struct {
    void *memory;
    scan_scratch scan;  /* tables of one query, a tile, the turned codewords */
    cell_query *queries;
    cell_hit *heaps;
    uint8_t *bounds;
    cell_pair *pairs, *sorted;
    int32_t *order;     /* (block,): rows of queries */
    cell_open *open;
    uint8_t *lanes;     /* (bytes + 1, 256, 32): tables of many queries side by side, with those of terms */
    uint16_t *turned;   /* (TILE,): where a row is in a turned tile */
    int32_t *found, *of_lane; /* (LANES_ROWS, 32): what bounds leave */
    float *compared;    /* (block, d): q - c of the pairs of a cell */
    int opened;         /* all queries of the block have begun */
    float *tabled;      /* (OPENED_AT_ONCE, d): what tables are made of */
    float *sample;
    float *vector, *centre; /* (d,) */
} cell_scratch;

/* Queries whose tables are made together; codes that are scored together, at most; sampled codes that follow on each other. */
enum { OPENED_AT_ONCE = 16, FOUND_AT_ONCE = 512, SAMPLE_RUN = 8 };

/* Of queries in lanes: rows between two looks at the limits, and the longest codes. */
enum { LANES_ROWS = 128, LANES_BYTES = 32 };

/* What scoring a code takes, in instructions that wait for nothing. */
#define CELL_SCORE_COST(d) (200 + 2 * (d))

/* Above it sums might overflow: no bounds then. */
#define LARGEST 1e37

/* Sums of units stay in 8 bits, so a margin must not add more to the span than these. */
#define MARGIN_UNITS 1.5

static int cell_scratch_new(cell_scratch *s, const cells_job *c, int64_t block, int64_t sample) {
    size_t bytes = (size_t)c->job.bytes, padded = (bytes + 15) / 16 * 16, d = (size_t)dimensions(c), n = (size_t)block;
    size_t pairs = n * (size_t)c->nprobe, opened = n < OPENED_AT_ONCE ? n : OPENED_AT_ONCE;
    struct { void **field; size_t size; } parts[] = {
        {(void **)&s->scan.fields, c->job.fields > 1 ? sizeof(float) * c->job.M * c->job.ksub : 0},
        {(void **)&s->scan.tables, sizeof(float) * opened * bytes * 256},
        {(void **)&s->scan.lowest, sizeof(float) * bytes},
        {(void **)&s->scan.queries, sizeof(float) * (c->job.dsub + 1) * 16},
        {(void **)&s->scan.columns, padded * TILE},
        {(void **)&s->scan.rest, bytes * TILE + 16},
        {(void **)&s->scan.folded, bytes * 256},
        {(void **)&s->queries, sizeof(cell_query) * n},
        {(void **)&s->heaps, c->hits ? 0 : sizeof(cell_hit) * n * (size_t)c->k},
        {(void **)&s->bounds, n * bytes * 256},
        {(void **)&s->pairs, sizeof(cell_pair) * pairs},
        {(void **)&s->sorted, sizeof(cell_pair) * pairs},
        {(void **)&s->order, sizeof(int32_t) * n},
        {(void **)&s->open, sizeof(cell_open) * n},
        {(void **)&s->lanes, n < 2 || bytes > LANES_BYTES ? 0 : (bytes + 1) * 256 * 32},
        {(void **)&s->turned, sizeof(uint16_t) * TILE},
        {(void **)&s->found, n < 2 ? 0 : sizeof(int32_t) * LANES_ROWS * 32},
        {(void **)&s->of_lane, n < 2 ? 0 : sizeof(int32_t) * LANES_ROWS * 32},
        {(void **)&s->compared, sizeof(float) * n * d},
        {(void **)&s->tabled, sizeof(float) * opened * d},
        {(void **)&s->sample, sizeof(float) * (size_t)sample},
        {(void **)&s->vector, sizeof(float) * d},
        {(void **)&s->centre, sizeof(float) * d},
    };
    size_t total = 64, count = sizeof(parts) / sizeof(parts[0]);
    for (size_t i = 0; i < count; i++) total += (parts[i].size + 63) / 64 * 64;
    s->memory = malloc(total);
    if (!s->memory) return -1;
    char *at = (char *)(((uintptr_t)s->memory + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) {
        *parts[i].field = at;
        at += (parts[i].size + 63) / 64 * 64;
    }
    return 0;
}

static void cell_scratch_free(cell_scratch *s) { free(s->memory); }

/* How many codes of the nearest cells are scored for a first limit, the k-th of the best of so many groups. */
static int64_t cell_sample(int64_t k) { return 4 * k > 256 ? 4 * k : 256; }

/* How far apart runs of SAMPLE_RUN rows are, of a list of n, that have about `wanted` in all, none of them twice. */
static inline int64_t sample_gap(int64_t n, int64_t wanted) {
    int64_t runs = (wanted + SAMPLE_RUN - 1) / SAMPLE_RUN, gap = n / (runs ? runs : 1);
    return gap > SAMPLE_RUN ? gap : SAMPLE_RUN;
}

static int64_t cell_groups(int64_t k) { return 4 * k > 64 ? 4 * k : 64; }

#endif
