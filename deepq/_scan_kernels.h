/* Scans of product-quantizer codes: memory, tables of one query, and the choice of the kernel.
 *
 * Where queries are many a lane of a register holds a query (_scan_block.h), where they are few it
 * holds a code (_scan_columns.h). Nothing here validates its arguments: _scan.pyx does.
 */
#ifndef DEEPQ_SCAN_KERNELS_H
#define DEEPQ_SCAN_KERNELS_H

#include "_scan_job.h"

enum { MAX_LANES = 64, LANE_BITS = 6, TILE = 512, SURVIVORS_MIN = 4096 };

/* What decides between the kernels of AVX-512: up to COLUMN_QUERIES the columns are faster, and for
 * codes so long that the bounds of 64 queries exceed the cache. */
enum { COLUMN_BYTES_MIN = 4, COLUMN_QUERIES = 40, BLOCK_BYTES = 32, COLUMN_BOUNDS = 1 << 19 };

/* ---- memory of one thread ---------------------------------------------------------------------- */

typedef struct {
    void *memory;
    float *fields;    /* (M, ksub, lanes), only where bytes hold several sub-quantizers */
    float *tables;    /* (bytes, width, lanes), or (queries, bytes, width) */
    uint8_t *bounds;  /* the same, rounded down to 8 bits */
    float *queries;   /* (M * dsub, lanes), or (dsub, 16): sixteen codewords on their side */
    float *lowest;    /* (bytes, lanes): the tables' minima */
    float *minima;    /* (groups, lanes), or the scores of the sample */
    float *column;    /* (groups,) */
    uint64_t *found;  /* survivors: row << LANE_BITS | lane */
    uint8_t *columns; /* (bytes, TILE): a tile of codes on its side */
    uint8_t *rest;    /* (TILE, bytes): the last codes */
    uint8_t *sample;  /* (drawn, bytes): codes for a first bound */
    int64_t drawn;
} scan_scratch;

enum { FOUND_MAX = 2048 };

static int scratch_new(scan_scratch *s, const scan_job *job, int lanes) {
    size_t bytes = (size_t)job->bytes, padded = (bytes + 15) / 16 * 16, groups = (size_t)group_count(job);
    size_t sample = job->hits ? 0 : (size_t)sample_count(job);
    size_t sizes[] = {
        job->fields > 1 ? sizeof(float) * job->M * job->ksub * lanes : 0,
        sizeof(float) * bytes * job->width * lanes,
        bytes * 256 * lanes,
        sizeof(float) * job->dsub * (job->M > 1 ? job->M : 1) * (lanes > 16 ? lanes : 16),
        sizeof(float) * bytes * lanes,
        sizeof(float) * (groups * lanes > sample ? groups * lanes : sample),
        sizeof(float) * groups,
        sizeof(uint64_t) * FOUND_MAX,
        padded * TILE,
        bytes * TILE + 16,
        sample * bytes,
    };
    void **fields[] = {(void **)&s->fields, (void **)&s->tables, (void **)&s->bounds, (void **)&s->queries,
                       (void **)&s->lowest, (void **)&s->minima, (void **)&s->column, (void **)&s->found,
                       (void **)&s->columns, (void **)&s->rest, (void **)&s->sample};
    size_t total = 64, count = sizeof(sizes) / sizeof(sizes[0]);
    for (size_t i = 0; i < count; i++) total += (sizes[i] + 63) / 64 * 64;
    s->memory = malloc(total);
    if (!s->memory) return -1;
    char *at = (char *)(((uintptr_t)s->memory + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) {
        *fields[i] = at;
        at += (sizes[i] + 63) / 64 * 64;
    }
    s->drawn = job->hits ? 0 : sample_draw(job, s->sample);
    return 0;
}

static void scratch_free(scan_scratch *s) { free(s->memory); }

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

/* The scores of four codes: four sums in flight hide the latency of each. */
static inline __attribute__((always_inline)) void score_four(
        const float *tables, int width, int bytes, const uint8_t *code, float *sums) {
    float sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    for (int b = 0; b < bytes; b++, tables += width) {
        sum0 += tables[code[b]];
        sum1 += tables[code[bytes + b]];
        sum2 += tables[code[2 * bytes + b]];
        sum3 += tables[code[3 * bytes + b]];
    }
    sums[0] = sum0, sums[1] = sum1, sums[2] = sum2, sums[3] = sum3;
}

static inline __attribute__((always_inline)) void score_rows_fixed(
        const float *tables, int width, int bytes, const uint8_t *codes, int64_t n, float *scores) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) score_four(tables, width, bytes, codes + i * bytes, scores + i);
    for (; i < n; i++) scores[i] = code_score(tables, width, bytes, codes + i * bytes);
}

/* The scores of n codes. */
static void score_rows(const scan_job *job, const float *tables, const uint8_t *codes, int64_t n, float *scores) {
    if (job->width == 256 && job->bytes == 4) score_rows_fixed(tables, 256, 4, codes, n, scores);
    else if (job->width == 256 && job->bytes == 8) score_rows_fixed(tables, 256, 8, codes, n, scores);
    else if (job->width == 256 && job->bytes == 16) score_rows_fixed(tables, 256, 16, codes, n, scores);
    else score_rows_fixed(tables, job->width, job->bytes, codes, n, scores);
}

/* Full rankings sort keys: the score, its bits mapped so that they ascend as integers, and the row. */
static void rank_keys(const scan_job *job, int64_t q, const scan_scratch *s, uint64_t *keys) {
    enum { ROWS = 256 };
    float scores[ROWS];
    query_tables(job, q, s->fields, s->tables);
    for (int64_t i = 0; i < job->n; i += ROWS) {
        int64_t rows = job->n - i < ROWS ? job->n - i : ROWS;
        score_rows(job, s->tables, job->codes + i * job->bytes, rows, scores);
        for (int64_t r = 0; r < rows; r++) {
            uint32_t bits;
            memcpy(&bits, scores + r, sizeof(bits));
            bits ^= bits >> 31 ? UINT32_MAX : (uint32_t)1 << 31;
            if (!(scores[r] <= WORST_SCORE) || !is_allowed(job, i + r)) bits = UINT32_MAX;
            keys[i + r] = (uint64_t)bits << 32 | (uint64_t)(i + r);
        }
    }
}

static void rank_results(const scan_job *job, int64_t q, const uint64_t *keys, int64_t k) {
    float *D = job->D + q * job->k;
    int64_t *I = job->I + q * job->k;
    for (int64_t j = 0; j < job->k; j++) {
        uint32_t bits = j < k ? (uint32_t)(keys[j] >> 32) : UINT32_MAX;
        I[j] = bits == UINT32_MAX ? -1 : (int64_t)(keys[j] & UINT32_MAX);
        bits ^= bits >> 31 ? (uint32_t)1 << 31 : UINT32_MAX;
        memcpy(D + j, &bits, sizeof(bits));
        if (I[j] < 0) D[j] = FLT_MAX;
        if (job->inner_product) D[j] = -D[j];
    }
}

/* A score that at least k codes reach. */
static float bound_score(const scan_job *job, const scan_scratch *s, const float *tables) {
    if (job->hits) return job->radius;
    int64_t groups = group_count(job);
    for (int64_t g = 0; g < groups; g++) s->column[g] = WORST_SCORE;
    score_rows(job, tables, s->sample, s->drawn, s->minima);
    for (int64_t j = 0; j < s->drawn; j += groups) {
        int64_t count = s->drawn - j < groups ? s->drawn - j : groups;
        const float *scores = s->minima + j;
        for (int64_t g = 0; g < count; g++) s->column[g] = scores[g] < s->column[g] ? scores[g] : s->column[g];
    }
    return kth_smallest(s->column, groups, job->k - 1);
}

/* Score every code from row `begin` on, without pruning. */
static void scan_rows(const scan_job *job, int64_t q, const float *tables, scan_limit *limit, int64_t begin) {
    enum { ROWS = 256 };
    float scores[ROWS];
    for (int64_t i = begin; i < job->n; i += ROWS) {
        int64_t rows = job->n - i < ROWS ? job->n - i : ROWS;
        score_rows(job, tables, job->codes + i * job->bytes, rows, scores);
        for (int64_t r = 0; r < rows; r++)
            if (scores[r] <= limit->limit) query_offer(job, q, limit, scores[r], i + r);
    }
}

/* Search for one query. */
static void scan_one(const scan_job *job, int64_t q, int count, const scan_scratch *s) {
    scan_limit limit = {0};
    (void)count;
    query_tables(job, q, s->fields, s->tables);
    limit_set(&limit, job->hits ? job->radius : WORST_SCORE);
    query_begin(job, q, limit.limit);
    scan_rows(job, q, s->tables, &limit, 0);
    query_end(job, q);
}

/* ---- the kernels, and the choice among them --------------------------------------------------------- */

typedef void (*scan_fn)(const scan_job *, int64_t first, int count, const scan_scratch *);

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

static inline __attribute__((always_inline)) __m256i load_pieces_avx2(const uint8_t *p, int64_t stride) {
    if (stride == 16) return _mm256_loadu_si256((const __m256i *)p);
    __m128i low = _mm_loadu_si128((const __m128i *)p), high = _mm_loadu_si128((const __m128i *)(p + stride));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* A byte shuffle looks up 16 entries, and gives 0 where the index has its highest bit set. Four of
 * them, each for indices with its own bits 4 and 5, make 64 entries; bits 6 and 7 choose among four
 * of those. Two registers of bytes share the loads of the table. */
static inline __attribute__((always_inline)) void add_bounds_avx2(__m256i *sums, const uint8_t *table, const __m256i *x) {
    __m256i index[2][4], found[2], low[2], high[2];
    for (int k = 0; k < 2; k++) {
        __m256i lower = _mm256_and_si256(x[k], _mm256_set1_epi8(0x3f));
        for (int r = 0; r < 4; r++)
            index[k][r] = _mm256_adds_epu8(_mm256_xor_si256(lower, _mm256_set1_epi8((char)(r << 4))), _mm256_set1_epi8(0x70));
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            __m256i part = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table + 64 * g + 16 * r)));
            for (int k = 0; k < 2; k++) {
                __m256i entries = _mm256_shuffle_epi8(part, index[k][r]);
                found[k] = r ? _mm256_or_si256(found[k], entries) : entries;
            }
        }
        for (int k = 0; k < 2; k++) {
            if (g == 0) low[k] = found[k];
            if (g == 1) low[k] = _mm256_blendv_epi8(low[k], found[k], _mm256_slli_epi16(x[k], 1));
            if (g == 2) high[k] = found[k];
            if (g == 3) high[k] = _mm256_blendv_epi8(high[k], found[k], _mm256_slli_epi16(x[k], 1));
        }
    }
    for (int k = 0; k < 2; k++) sums[k] = _mm256_adds_epu8(sums[k], _mm256_blendv_epi8(low[k], high[k], x[k]));
}

#define LANES 32
#define NAME(x) x##_avx2
#define BYTES __m256i
#define LOAD_PIECES load_pieces_avx2
#define UNPACK_LOW _mm256_unpacklo_epi8
#define UNPACK_HIGH _mm256_unpackhi_epi8
#define AT_ONCE 4
#define TOGETHER 2
#define ADD_BOUNDS add_bounds_avx2
#define LESS _mm256_min_epu8
#define ADD_WORDS _mm256_adds_epu16
#define SUBTRACT_WORDS _mm256_subs_epu16
#define PACK_WORDS _mm256_packus_epi16
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, b), a)))
#include "_scan_columns.h"
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

static inline __attribute__((always_inline)) __m512i load_pieces_avx512(const uint8_t *p, int64_t stride) {
    if (stride == 16) return _mm512_loadu_si512(p);
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + stride)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 2 * stride)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 3 * stride)), 3);
}

/* A permutation of two registers looks up 128 entries by the lower seven bits. */
static inline __attribute__((always_inline)) void add_bounds_avx512(__m512i *sums, const uint8_t *table, const __m512i *x) {
    __m512i part[4];
    for (int r = 0; r < 4; r++) part[r] = _mm512_load_si512((const __m512i *)(table + 64 * r));
    for (int i = 0; i < 8; i++) {
        __m512i low = _mm512_permutex2var_epi8(part[0], x[i], part[1]), high = _mm512_permutex2var_epi8(part[2], x[i], part[3]);
        sums[i] = _mm512_adds_epu8(sums[i], _mm512_mask_blend_epi8(_mm512_movepi8_mask(x[i]), low, high));
    }
}

#define LANES 64
#define NAME(x) x##_avx512
#define BYTES __m512i
#define LOAD_PIECES load_pieces_avx512
#define UNPACK_LOW _mm512_unpacklo_epi8
#define UNPACK_HIGH _mm512_unpackhi_epi8
#define AT_ONCE 8
#define TOGETHER 8
#define ADD_BOUNDS add_bounds_avx512
#define LESS _mm512_min_epu8
#define ADD_WORDS _mm512_adds_epu16
#define SUBTRACT_WORDS _mm512_subs_epu16
#define PACK_WORDS _mm512_packus_epi16
#define AT_MOST(a, b) ((uint64_t)_mm512_cmple_epu8_mask(a, b))
#include "_scan_columns.h"
DEEPQ_END_TARGET
#endif

/* The queries that a scan by columns takes at once: as many as have bounds that stay in the cache. */
static int column_queries(const scan_job *job) {
    int most = COLUMN_BOUNDS / 256 / job->bytes;
    return most < 1 ? 1 : most < MAX_LANES ? most : MAX_LANES;
}

typedef struct {
    scan_fn search;
    int queries; /* how many of those that are left the next call takes */
    int lanes;   /* the memory it needs, never more for fewer queries left */
} scan_kernel;

static scan_kernel choose_kernel(const scan_job *job, int simd, int64_t left) {
    scan_kernel kernel = {scan_block_portable, 16, 16};
    if (left <= (simd == SIMD_PORTABLE ? 2 : 1)) kernel = (scan_kernel){scan_one, 1, 1};
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX2) {
        if (left > 16) kernel = (scan_kernel){scan_block_32, 32, 32};
        else if (left > 1) kernel = (scan_kernel){scan_block_16, 16, 16};
        else if (job->bytes >= COLUMN_BYTES_MIN) kernel = (scan_kernel){scan_columns_avx2, 1, 1};
    }
    if (simd == SIMD_AVX512) {
        if (job->bytes >= COLUMN_BYTES_MIN && (left <= COLUMN_QUERIES || job->bytes > BLOCK_BYTES))
            kernel = (scan_kernel){scan_columns_avx512, column_queries(job), 0};
        else if (left > 1) kernel = (scan_kernel){scan_block_64, 64, 64};
    }
#endif
    if (left < kernel.queries) kernel.queries = (int)left;
    if (!kernel.lanes) kernel.lanes = kernel.queries;
    return kernel;
}

#endif
