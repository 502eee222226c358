/* Scans of product-quantizer codes: the kernels of every instruction set, and the choice among them.
 *
 * Where queries are many a lane of a register holds a query (block.h), where they are few it
 * holds a code (columns.h). Nothing here validates its arguments: _scan.pyx does.
 */
#ifndef DEEPQ_SCAN_KERNELS_H
#define DEEPQ_SCAN_KERNELS_H

#include "cell_job.h"

typedef void (*scan_fn)(const scan_job *, int64_t first, int count, const scan_scratch *);

#define LANES 16
#define FLOAT_BYTES 16
#define NAME(x) x##_portable
#define PORTABLE 1
#include "block.h"
#include "plain_columns.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define LANES 16
#define FLOAT_BYTES 32
#define NAME(x) x##_16
#define MINIMUM(a, b) ((FLOATS)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define BYTES __m128i
#define ADD_SATURATED _mm_adds_epu8
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(a, b), a)))
#include "block.h"

#define LANES 32
#define FLOAT_BYTES 32
#define NAME(x) x##_32
#define MINIMUM(a, b) ((FLOATS)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define BYTES __m256i
#define ADD_SATURATED _mm256_adds_epu8
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, b), a)))
#include "block.h"

#define LANES 16
#define NAME(x) x##_16
#define BYTES __m128i
#define LOAD_PIECES(p, q) ((void)(q), _mm_load_si128((const __m128i *)(p)))
#define UNPACK_LOW _mm_unpacklo_epi8
#define UNPACK_HIGH _mm_unpackhi_epi8
#define ADD_SATURATED _mm_adds_epu8
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(a, b), a)))
#include "cell_lanes.h"

#define LANES 32
#define NAME(x) x##_32
#define BYTES __m256i
#define LOAD_PIECES(p, q) _mm256_set_m128i(_mm_load_si128((const __m128i *)(q)), _mm_load_si128((const __m128i *)(p)))
#define UNPACK_LOW _mm256_unpacklo_epi8
#define UNPACK_HIGH _mm256_unpackhi_epi8
#define ADD_SATURATED _mm256_adds_epu8
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, b), a)))
#include "cell_lanes.h"

static inline __attribute__((always_inline)) __m256i load_pieces_avx2(const uint8_t *p, int64_t stride) {
    if (stride == 16) return _mm256_loadu_si256((const __m256i *)p);
    __m128i low = _mm_loadu_si128((const __m128i *)p), high = _mm_loadu_si128((const __m128i *)(p + stride));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

/* Add to sums what a table of 1 << bits entries, 16 to 256, has for the lower `bits` bits of x. A byte
 * shuffle looks up 16 entries, and gives 0 where the index has its highest bit set: two of them make 32
 * entries, for indices whose highest bit is bit 4, or is not. Bits 5 to 7 choose among those. Two
 * registers of bytes share the loads of the table. */
static inline __attribute__((always_inline)) void add_bounds_avx2(
        __m256i *sums, const uint8_t *table, const __m256i *x, int bits) {
    __m256i clear[2], set[2], found[2][8];
    int parts = bits > 5 ? 1 << (bits - 5) : 1;
    for (int k = 0; k < 2; k++) {
        if (bits == 4) clear[k] = _mm256_and_si256(x[k], _mm256_set1_epi8(0x0f));
        else clear[k] = _mm256_add_epi8(_mm256_and_si256(x[k], _mm256_set1_epi8(0x1f)), _mm256_set1_epi8(0x70));
        set[k] = _mm256_xor_si256(clear[k], _mm256_set1_epi8((char)0x80));
    }
#pragma GCC unroll 8
    for (int p = 0; p < parts; p++) {
        __m256i part = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table + 32 * p)));
        for (int k = 0; k < 2; k++) found[k][p] = _mm256_shuffle_epi8(part, clear[k]);
        if (bits == 4) break;
        part = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table + 32 * p + 16)));
        for (int k = 0; k < 2; k++) found[k][p] = _mm256_or_si256(found[k][p], _mm256_shuffle_epi8(part, set[k]));
    }
    for (int k = 0; k < 2; k++) {
#pragma GCC unroll 4
        for (int p = 0; p + 1 < parts; p += 2) found[k][p] = _mm256_blendv_epi8(found[k][p], found[k][p + 1], _mm256_slli_epi16(x[k], 2));
#pragma GCC unroll 2
        for (int p = 0; p + 2 < parts; p += 4) found[k][p] = _mm256_blendv_epi8(found[k][p], found[k][p + 2], _mm256_slli_epi16(x[k], 1));
        if (parts == 8) found[k][0] = _mm256_blendv_epi8(found[k][0], found[k][4], x[k]);
        sums[k] = _mm256_adds_epu8(sums[k], found[k][0]);
    }
}

static inline __attribute__((always_inline)) void add_halves_avx2(__m256i *sums, const uint8_t *table, const __m256i *x) {
    __m256i lower = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
    __m256i upper = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table + 16))), mask = _mm256_set1_epi8(0x0f);
    for (int k = 0; k < 2; k++) {
        sums[k] = _mm256_adds_epu8(sums[k], _mm256_shuffle_epi8(lower, _mm256_and_si256(x[k], mask)));
        sums[k] = _mm256_adds_epu8(sums[k], _mm256_shuffle_epi8(upper, _mm256_and_si256(_mm256_srli_epi16(x[k], 4), mask)));
    }
}

/* Turn 16 codewords on their side, four numbers of eight of them at a time: number t of all goes to
 * turned + 16 t. */
static inline __attribute__((always_inline)) void turn_codewords(const float *codewords, int dsub, float *turned) {
    int t = 0;
    for (; t + 4 <= dsub; t += 4)
        for (int first = 0; first < 16; first += 8) {
            const float *from = codewords + first * dsub + t;
            float *to = turned + 16 * t + first;
            __m256 x[4];
            for (int i = 0; i < 4; i++) {
                __m256 low = _mm256_castps128_ps256(_mm_loadu_ps(from + i * dsub));
                x[i] = _mm256_insertf128_ps(low, _mm_loadu_ps(from + (i + 4) * dsub), 1);
            }
            __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(x[0], x[1])), b = _mm256_castps_pd(_mm256_unpacklo_ps(x[2], x[3]));
            __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(x[0], x[1])), d = _mm256_castps_pd(_mm256_unpackhi_ps(x[2], x[3]));
            _mm256_storeu_ps(to, _mm256_castpd_ps(_mm256_unpacklo_pd(a, b)));
            _mm256_storeu_ps(to + 16, _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
            _mm256_storeu_ps(to + 32, _mm256_castpd_ps(_mm256_unpacklo_pd(c, d)));
            _mm256_storeu_ps(to + 48, _mm256_castpd_ps(_mm256_unpackhi_pd(c, d)));
        }
    for (; t < dsub; t++)
        for (int i = 0; i < 16; i++) turned[16 * t + i] = codewords[i * dsub + t];
}

#define LANES 32
#define NAME(x) x##_avx2
#define CELL_LANES
#define ADD_HALVES add_halves_avx2
#define BYTES __m256i
#define LOAD_PIECES load_pieces_avx2
#define UNPACK_LOW _mm256_unpacklo_epi8
#define UNPACK_HIGH _mm256_unpackhi_epi8
#define AT_ONCE 4
#define TOGETHER 2
#define ADD_BOUNDS add_bounds_avx2
#define LEAST_BITS 4
#define LOOKUP_COST(bits) ((const int[]){4, 9, 15, 27, 46}[(bits) - 4])
#define LESS _mm256_min_epu8
#define ADD_WORDS _mm256_adds_epu16
#define SUBTRACT_WORDS _mm256_subs_epu16
#define MULTIPLY_WORDS _mm256_mulhi_epu16
#define PACK_WORDS _mm256_packus_epi16
#define AT_MOST(a, b) ((uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, b), a)))
#include "columns.h"
#undef CELL_LANES
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define LANES 64
#define FLOAT_BYTES 64
#define NAME(x) x##_64
#define MINIMUM(a, b) ((FLOATS)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define BYTES __m512i
#define ADD_SATURATED _mm512_adds_epu8
#define AT_MOST(a, b) ((uint64_t)_mm512_cmple_epu8_mask(a, b))
#include "block.h"

static inline __attribute__((always_inline)) __m512i load_pieces_avx512(const uint8_t *p, int64_t stride) {
    if (stride == 16) return _mm512_loadu_si512(p);
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + stride)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 2 * stride)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + 3 * stride)), 3);
}

/* The same for 64 to 256 entries. A permutation of one register looks up 64 by the lower six bits, one
 * of two registers 128 by seven. */
static inline __attribute__((always_inline)) void add_bounds_avx512(
        __m512i *sums, const uint8_t *table, const __m512i *x, int bits) {
    __m512i part[4];
    for (int r = 0; r < 1 << (bits - 6); r++) part[r] = _mm512_load_si512((const __m512i *)(table + 64 * r));
    for (int i = 0; i < 8; i++) {
        __m512i found = bits == 6 ? _mm512_permutexvar_epi8(x[i], part[0]) : _mm512_permutex2var_epi8(part[0], x[i], part[1]);
        if (bits == 8) {
            __m512i high = _mm512_permutex2var_epi8(part[2], x[i], part[3]);
            found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x[i]), found, high);
        }
        sums[i] = _mm512_adds_epu8(sums[i], found);
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
#define LEAST_BITS 6
#define LOOKUP_COST(bits) ((const int[]){3, 4, 8}[(bits) - 6])
#define LESS _mm512_min_epu8
#define ADD_WORDS _mm512_adds_epu16
#define SUBTRACT_WORDS _mm512_subs_epu16
#define MULTIPLY_WORDS _mm512_mulhi_epu16
#define PACK_WORDS _mm512_packus_epi16
#define AT_MOST(a, b) ((uint64_t)_mm512_cmple_epu8_mask(a, b))
#include "columns.h"
DEEPQ_END_TARGET
#endif

/* ---- the choice ------------------------------------------------------------------------------------- */

/* One query among so few codes is not worth pruning. Between the kernels of AVX-512: up to COLUMN_QUERIES the columns are faster, and for
 * codes so long that the bounds of 64 queries exceed the cache. */
enum { FEW_CODES = 2048, COLUMN_BYTES_MIN = 4, COLUMN_QUERIES = 40, BLOCK_BYTES = 24, COLUMN_BOUNDS = 1 << 19 };

/* The queries that a scan by columns takes at once: as many as have bounds that stay in the cache. */
static int column_queries(const scan_job *job) {
    int most = COLUMN_BOUNDS / 256 / job->bytes;
    return most < 1 ? 1 : most < MAX_LANES ? most : MAX_LANES;
}

typedef struct {
    scan_fn search;
    int queries; /* how many of those that are left the next call takes */
    int lanes;   /* the memory it needs, never more for fewer queries left */
    int prunes;  /* whether it takes a first bound; never the first to do so as queries become fewer */
} scan_kernel;

static scan_kernel choose_kernel(const scan_job *job, int simd, int64_t left) {
    scan_kernel kernel = {scan_block_portable, 16, 16, 1};
    if (left <= (simd == SIMD_PORTABLE ? 2 : 1)) kernel = (scan_kernel){scan_one, 1, 1, 0};
#ifdef DEEPQ_X86
    int alone = left <= 1 && (job->bytes < COLUMN_BYTES_MIN || job->n <= FEW_CODES);
    if (simd == SIMD_AVX2) {
        if (left > 16) kernel = (scan_kernel){scan_block_32, 32, 32, 1};
        else if (left > 1) kernel = (scan_kernel){scan_block_16, 16, 16, 1};
        else if (alone) kernel = (scan_kernel){scan_one_avx2, 1, 1, 0};
        else kernel = (scan_kernel){scan_columns_avx2, 1, 1, 1};
    }
    if (simd == SIMD_AVX512) {
        if (alone) kernel = (scan_kernel){scan_one_avx512, 1, 1, 0};
        else if (job->bytes >= COLUMN_BYTES_MIN && (left <= COLUMN_QUERIES || job->bytes >= BLOCK_BYTES))
            kernel = (scan_kernel){scan_columns_avx512, column_queries(job), 0, 1};
        else kernel = (scan_kernel){scan_block_64, 64, 64, 1};
    }
#endif
    (void)job;
    if (left < kernel.queries) kernel.queries = (int)left;
    if (!kernel.lanes) kernel.lanes = kernel.queries;
    return kernel;
}

typedef void (*cells_fn)(const cells_job *, int64_t first, int64_t count, cell_scratch *);
typedef int (*terms_fn)(const cells_job *, const cell_scratch *, const float *squares, int64_t cell, const uint8_t *codes,
                        int64_t n, uint8_t *levels, float *least, float *step);

static cells_fn cells_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return search_cells_avx512;
    if (simd == SIMD_AVX2) return search_cells_avx2;
#endif
    (void)simd;
    return search_cells_portable;
}

static terms_fn terms_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return make_terms_avx512;
    if (simd == SIMD_AVX2) return make_terms_avx2;
#endif
    (void)simd;
    return make_terms_portable;
}

#endif
