/* Scans of product-quantizer codes: what the instruction sets share, and the choice between them.
 *
 * Words used here
 *   table   ksub (or 256) partial scores of one query, one for every value a code byte can take;
 *           the score of a code is the sum of one entry per byte, always added up in byte order,
 *           so that every kernel below returns the same bits
 *   score   what is minimised: squared L2 distance, or the negated inner product
 *   lane    one of the W queries that a block of the kernel in _scan_block.h handles at once
 *
 * Nothing here validates its arguments: _scan.pyx does.
 */
#ifndef DEEPQ_SCAN_KERNELS_H
#define DEEPQ_SCAN_KERNELS_H

#include "_simd.h"

enum { MAX_LANES = 64, LANE_BITS = 6 };
#define NO_ID INT64_MAX
#define WORST_SCORE 0x1.fffffcp127f /* the largest that may be returned; FLT_MAX marks an empty place */

/* ---- what is searched ---------------------------------------------------------------------- */

typedef struct {
    const uint8_t *codes; /* n rows of `bytes` bytes */
    int64_t n;
    int bytes;            /* bytes of one code = number of tables */
    int width;            /* entries of one table */
    const float *queries; /* nq rows of M * dsub, or NULL when luts is given */
    const float *codebooks; /* (M, ksub, dsub) */
    const float *luts;      /* nq rows of (M, ksub), or NULL */
    int M, ksub, dsub;
    int fields;           /* sub-quantizers in one byte: 8 / nbits for 1, 2, 4 and 8 bits, else 1 */
    int inner_product;    /* scores are negated inner products */
    int64_t k;
    float *D;             /* (nq, k) scores; a heap while scanning */
    int64_t *I;           /* (nq, k) ids */
} scan_job;

/* ---- the k best of one query: a max-heap over (score, id) in its rows of D and I ------------- */

static inline int ranks_before(float d1, int64_t i1, float d2, int64_t i2) {
    return d1 < d2 || (d1 == d2 && i1 < i2);
}

static void heap_sift_down(float *D, int64_t *I, int64_t k, int64_t at, float d, int64_t id) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && ranks_before(D[child], I[child], D[child + 1], I[child + 1])) child++;
        if (!ranks_before(d, id, D[child], I[child])) break;
        D[at] = D[child];
        I[at] = I[child];
        at = child;
    }
    D[at] = d;
    I[at] = id;
}

/* Sort a heap into ascending (score, id), mark the empty places as faiss does, and turn scores
 * back into inner products. */
static void heap_finish(float *D, int64_t *I, int64_t k, int inner_product) {
    for (int64_t last = k - 1; last > 0; last--) {
        float d = D[last];
        int64_t id = I[last];
        D[last] = D[0];
        I[last] = I[0];
        heap_sift_down(D, I, last, 0, d, id);
    }
    for (int64_t j = 0; j < k; j++) {
        if (I[j] == NO_ID) {
            I[j] = -1;
            D[j] = FLT_MAX;
        }
        if (inner_product) D[j] = -D[j];
    }
}

/* Start with k places that any code scoring at most `bound` may take. */
static void heap_fill(float *D, int64_t *I, int64_t k, float bound) {
    for (int64_t j = 0; j < k; j++) {
        D[j] = bound;
        I[j] = NO_ID;
    }
}

/* The largest score that can still enter, NaN if none can; ids come in ascending order, so a tie
 * is too late once every place is taken. */
static inline float heap_limit(const float *D, const int64_t *I) {
    if (I[0] == NO_ID) return D[0];
    return D[0] > -INFINITY ? nextafterf(D[0], -INFINITY) : NAN;
}

/* ---- the k-th smallest of v[0..n) (k counts from 0); reorders v -------------------------------- */

static float kth_smallest(float *v, int64_t n, int64_t k) {
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float pivot = v[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i <= j) {
                float t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (k <= j) hi = j;
        else if (k >= i) lo = i;
        else break;
    }
    return v[k];
}

/* ---- memory of one thread ---------------------------------------------------------------------- */

typedef struct {
    void *memory;
    float *fields;   /* (M, ksub, lanes), only where bytes hold several sub-quantizers */
    float *tables;   /* (bytes, width, lanes) */
    uint8_t *bounds; /* (bytes, width, lanes): tables rounded down to 8 bits */
    float *queries;  /* (M * dsub, lanes) */
    float *lowest;   /* (bytes, lanes): the tables' minima */
    float *minima;   /* (groups, lanes) */
    float *column;   /* (groups,) */
    uint64_t *found; /* survivors: row << LANE_BITS | lane */
} scan_scratch;

enum { FOUND_MAX = 2048, GROUPS_MIN = 64, GROUPS_PER_K = 4 };
enum { SAMPLE_MIN = 1024, SAMPLE_MAX = 4096, CODES_PER_SAMPLE = 32, SAMPLE_PER_K = 80 };

static int64_t group_count(const scan_job *job) {
    int64_t groups = GROUPS_PER_K * job->k > GROUPS_MIN ? GROUPS_PER_K * job->k : GROUPS_MIN;
    return groups < job->n ? groups : job->n;
}

/* How many codes give a first bound: a small part of all, but no less than k needs. */
static int64_t sample_count(const scan_job *job, int64_t groups) {
    int64_t sample = job->n / CODES_PER_SAMPLE;
    if (sample > SAMPLE_MAX) sample = SAMPLE_MAX;
    if (sample < SAMPLE_MIN) sample = SAMPLE_MIN;
    if (sample < SAMPLE_PER_K * job->k) sample = SAMPLE_PER_K * job->k;
    if (sample < groups) sample = groups;
    return sample < job->n ? sample : job->n;
}

static int scratch_new(scan_scratch *s, const scan_job *job, int lanes) {
    size_t entries = (size_t)job->bytes * job->width * lanes, groups = (size_t)group_count(job);
    size_t sizes[] = {
        job->fields > 1 ? sizeof(float) * job->M * job->ksub * lanes : 0,
        sizeof(float) * entries,
        entries,
        sizeof(float) * job->M * job->dsub * lanes,
        sizeof(float) * job->bytes * lanes,
        sizeof(float) * groups * lanes,
        sizeof(float) * groups,
        sizeof(uint64_t) * FOUND_MAX,
    };
    void **fields[] = {(void **)&s->fields, (void **)&s->tables, (void **)&s->bounds, (void **)&s->queries,
                       (void **)&s->lowest, (void **)&s->minima, (void **)&s->column, (void **)&s->found};
    size_t total = 64, count = sizeof(sizes) / sizeof(sizes[0]);
    for (size_t i = 0; i < count; i++) total += (sizes[i] + 63) / 64 * 64;
    s->memory = malloc(total);
    if (!s->memory) return -1;
    char *at = (char *)(((uintptr_t)s->memory + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) {
        *fields[i] = at;
        at += (sizes[i] + 63) / 64 * 64;
    }
    return 0;
}

static void scratch_free(scan_scratch *s) { free(s->memory); }

/* Codes of up to SHORT_BYTES are bounded by sums in 8 bits, longer ones in 16 bits by groups. */
enum { SHORT_BYTES = 64, GROUP_BYTES = 16 };

/* The span from the sum of minima to the first bound, in units of the bounds. A group that is alone
 * in exceeding its share by a third saturates, which costs survivors, not exactness. */
static float bound_units(int bytes) {
    if (bytes <= SHORT_BYTES) return 252;
    float units = 252 * 0.75f * (float)((bytes + GROUP_BYTES - 1) / GROUP_BYTES);
    return units < 60000 ? units : 60000;
}

/* ---- one query at a time -------------------------------------------------------------------------- */

/* The tables of one query, (bytes, width): the same sums in the same order as in a block. */
static void query_tables(const scan_job *job, int64_t q, float *fields, float *tables) {
    float *out = job->fields > 1 ? fields : tables;
    for (int m = 0; m < job->M; m++)
        for (int j = 0; j < job->ksub; j++) {
            int64_t entry = (int64_t)m * job->ksub + j;
            float sum = 0;
            if (job->luts) {
                sum = job->luts[q * job->M * job->ksub + entry];
            } else {
                const float *x = job->queries + (q * job->M + m) * job->dsub;
                const float *c = job->codebooks + entry * job->dsub;
                for (int t = 0; t < job->dsub; t++)
                    sum += job->inner_product ? x[t] * c[t] : (x[t] - c[t]) * (x[t] - c[t]);
            }
            out[entry] = job->inner_product ? -sum : sum;
        }
    if (job->fields == 1) return;
    int nbits = 8 / job->fields;
    for (int b = 0; b < job->bytes; b++)
        for (int v = 0; v < 256; v++) {
            float sum = 0;
            for (int f = 0; f < job->fields && b * job->fields + f < job->M; f++)
                sum += fields[(b * job->fields + f) * job->ksub + ((v >> (f * nbits)) & (job->ksub - 1))];
            tables[b * 256 + v] = sum;
        }
}

static inline float code_score(const float *tables, int width, int bytes, const uint8_t *code) {
    float sum = 0;
    for (int b = 0; b < bytes; b++) sum += tables[(size_t)b * width + code[b]];
    return sum;
}

/* All n scores of query q. */
static void score_all(const scan_job *job, int64_t q, const scan_scratch *s, float *scores) {
    query_tables(job, q, s->fields, s->tables);
    for (int64_t i = 0; i < job->n; i++)
        scores[i] = code_score(s->tables, job->width, job->bytes, job->codes + i * job->bytes);
}

static inline __attribute__((always_inline)) void scan_one_fixed(
        const scan_job *job, const float *tables, float *D, int64_t *I, int bytes, int width) {
    const uint8_t *code = job->codes;
    float limit = heap_limit(D, I);
    for (int64_t i = 0; i < job->n; i += 4, code += 4 * bytes) { /* four codes in flight hide the sums' latency */
        int rows = job->n - i < 4 ? (int)(job->n - i) : 4;
        float sums[4] = {0, 0, 0, 0};
        if (rows == 4) {
            for (int b = 0; b < bytes; b++) {
                const float *table = tables + (size_t)b * width;
                sums[0] += table[code[b]];
                sums[1] += table[code[bytes + b]];
                sums[2] += table[code[2 * bytes + b]];
                sums[3] += table[code[3 * bytes + b]];
            }
        } else {
            for (int r = 0; r < rows; r++) sums[r] = code_score(tables, width, bytes, code + r * bytes);
        }
        for (int r = 0; r < rows; r++)
            if (sums[r] <= limit) {
                heap_sift_down(D, I, job->k, 0, sums[r], i + r);
                limit = heap_limit(D, I);
            }
    }
}

/* The k best of query q, exactly, without pruning. */
static void scan_one(const scan_job *job, int64_t q, const scan_scratch *s) {
    float *D = job->D + q * job->k;
    int64_t *I = job->I + q * job->k;
    query_tables(job, q, s->fields, s->tables);
    heap_fill(D, I, job->k, WORST_SCORE);
    if (job->width == 256 && job->bytes == 4) scan_one_fixed(job, s->tables, D, I, 4, 256);
    else if (job->width == 256 && job->bytes == 8) scan_one_fixed(job, s->tables, D, I, 8, 256);
    else if (job->width == 256 && job->bytes == 16) scan_one_fixed(job, s->tables, D, I, 16, 256);
    else scan_one_fixed(job, s->tables, D, I, job->bytes, job->width);
    heap_finish(D, I, job->k, job->inner_product);
}

/* ---- blocks of 16, 32 or 64 queries ------------------------------------------------------------------- */

typedef void (*scan_block_fn)(const scan_job *, int64_t, int, const scan_scratch *);

#define LANES 16
#define FLOAT_BYTES 16
#define NAME(x) x##_portable
#define PORTABLE 1
#include "_scan_block.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define LANES 16
#define FLOAT_BYTES 32
#define NAME(x) x##_16
#define MINIMUM(a, b) ((FLOATS)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define BYTES __m128i
#define ADD_SATURATED _mm_adds_epu8
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(a, b), a)))
#include "_scan_block.h"

#define LANES 32
#define FLOAT_BYTES 32
#define NAME(x) x##_32
#define MINIMUM(a, b) ((FLOATS)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define BYTES __m256i
#define ADD_SATURATED _mm256_adds_epu8
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, b), a)))
#include "_scan_block.h"
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define LANES 64
#define FLOAT_BYTES 64
#define NAME(x) x##_64
#define MINIMUM(a, b) ((FLOATS)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define BYTES __m512i
#define ADD_SATURATED _mm512_adds_epu8
#define AT_MOST(a, b) ((uint64_t)_mm512_cmple_epu8_mask(a, b))
#include "_scan_block.h"
DEEPQ_END_TARGET
#endif

/* How many of the `left` queries the next block takes, and the kernel that takes them;
 * no kernel: one query, by scan_one. */
static int next_block(int simd, int64_t left, scan_block_fn *kernel) {
    *kernel = NULL;
    if (left <= (simd == SIMD_PORTABLE ? 2 : 1)) return 1;
    *kernel = scan_block_portable;
#ifdef DEEPQ_X86
    if (simd != SIMD_PORTABLE) *kernel = scan_block_16;
    if (simd >= SIMD_AVX2 && left > 16) *kernel = scan_block_32;
    if (simd == SIMD_AVX512 && left > 32) *kernel = scan_block_64;
    if (*kernel == scan_block_64) return left < 64 ? (int)left : 64;
    if (*kernel == scan_block_32) return left < 32 ? (int)left : 32;
#endif
    (void)simd;
    return left < 16 ? (int)left : 16;
}

#endif
