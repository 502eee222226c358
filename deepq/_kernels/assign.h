/* Nearest codewords for encoding and k-means: the choice between instruction sets. */
#ifndef DEEPQ_ASSIGN_KERNELS_H
#define DEEPQ_ASSIGN_KERNELS_H

#include "assign_book.h"
#include "near.h"

/* Scores are rounded, and their error has a bound. With u = FLT_EPSILON / 2, codewords bring errors of
 * 3 u c.c / 2 and u |x|.|c|, x brings u |x|.|c|, and the sum at most (dsub + 1) u (c.c / 2 + |x|.|c|): Higham,
 * "Accuracy and stability of numerical algorithms", 2002, chapter 3. Where scores are nearer to each other
 * than twice all that, squared distances in double precision decide. */

enum { ASSIGN_STRETCH = 256 }; /* so many scores are kept at a time */

typedef void (*assign_fn)(const assign_codebook *, const float *z, int64_t n, int64_t stride, float *centred,
                          int32_t *words);

typedef float four_floats __attribute__((vector_size(16), may_alias));
typedef int32_t four_ints __attribute__((vector_size(16), may_alias));

/* The best codewords so far of a tile of up to four sub-vectors. */
enum { ASSIGN_TILE = 4 };
typedef struct {
    const float *z;     /* the sub-vectors as they are */
    int64_t stride;     /* between them */
    four_floats slack;  /* by which scores must differ to tell which is less */
    four_floats scores; /* the least that were seen */
    int32_t words[ASSIGN_TILE];
    double distances[ASSIGN_TILE]; /* of these words; -1 where they were not needed */
} assign_best;

/* ---- four lanes ---------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) four_floats load_four(const float *from) {
    four_floats four;
    memcpy(&four, from, sizeof(four));
    return four;
}

/* The lesser in every lane, b where a is NaN. */
static inline __attribute__((always_inline)) four_floats less_of_four(four_floats a, four_floats b) {
#ifdef __SSE2__
    return (four_floats)_mm_min_ps((__m128)a, (__m128)b);
#else
    four_ints less = (four_ints)(a < b);
    return (four_floats)((less & (four_ints)a) | (~less & (four_ints)b));
#endif
}

/* A bit for each lane, 1 where it is above the limit. */
static inline __attribute__((always_inline)) uint32_t above_of_four(four_floats a, float limit) {
#ifdef __SSE2__
    return (uint32_t)_mm_movemask_ps(_mm_cmpgt_ps((__m128)a, _mm_set1_ps(limit)));
#else
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++) bits |= (uint32_t)(a[i] > limit) << i;
    return bits;
#endif
}

/* The lanes of a and b with these numbers, those of b from 4 on. */
#ifdef __clang__
#define PICK_FOUR(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK_FOUR(a, b, ...) __builtin_shuffle(a, b, (four_ints){__VA_ARGS__})
#endif

/* For four vectors a = v[0], ...: a0 b0 a1 b1, a2 b2 a3 b3, and the same of c and d. */
static inline __attribute__((always_inline)) void interleave(const four_floats *v, four_floats *out) {
    for (int i = 0; i < 4; i += 2) {
        out[i] = PICK_FOUR(v[i], v[i + 1], 0, 4, 1, 5);
        out[i + 1] = PICK_FOUR(v[i], v[i + 1], 2, 6, 3, 7);
    }
}

/* Of a0 b0 a1 b1 and c0 d0 c1 d1: a0 b0 c0 d0, a1 b1 c1 d1. */
static inline __attribute__((always_inline)) void deal(four_floats ab, four_floats cd, four_floats *out) {
    out[0] = PICK_FOUR(ab, cd, 0, 1, 4, 5);
    out[1] = PICK_FOUR(ab, cd, 2, 3, 6, 7);
}

/* The least of each of four vectors. */
static inline __attribute__((always_inline)) four_floats least_of_each(const four_floats *v) {
    four_floats pairs[4], halves[2];
    interleave(v, pairs);
    deal(less_of_four(pairs[0], pairs[1]), less_of_four(pairs[2], pairs[3]), halves);
    return less_of_four(halves[0], halves[1]);
}

/* The sum of each of four vectors. */
static inline __attribute__((always_inline)) four_floats sum_of_each(const four_floats *v) {
    four_floats pairs[4], halves[2];
    interleave(v, pairs);
    deal(pairs[0] + pairs[1], pairs[2] + pairs[3], halves);
    return halves[0] + halves[1];
}

/* The least of each of 4 * fours numbers. */
static inline __attribute__((always_inline)) four_floats least_of_fours(const void *numbers, int fours) {
    const four_floats *number = numbers;
    four_floats least = number[0];
    for (int i = 1; i < fours; i++) least = less_of_four(number[i], least);
    return least;
}

/* ---- what no score can tell ---------------------------------------------------------------------- */

/* Twice the error of a score of `rows` centred sub-vectors, and of the sum of this and a score. */
static inline __attribute__((always_inline)) four_floats assign_slack(
        const assign_codebook *book, const float *centred, int rows) {
    int dsub = book->dsub, whole = dsub - dsub % 4;
    four_floats sums[ASSIGN_TILE] = {{0}}, reach;
    for (int t = 0; t < whole; t += 4) {
        four_floats farthest = load_four(book->farthest + t);
        for (int r = 0; r < rows; r++) {
            four_ints x = (four_ints)load_four(centred + r * dsub + t);
            sums[r] += (four_floats)(x & INT32_MAX) * farthest; /* |x| */
        }
    }
    for (int t = whole; t < dsub; t++)
        for (int r = 0; r < rows; r++) sums[r][0] += fabsf(centred[r * dsub + t]) * book->farthest[t];
    reach = sum_of_each(sums) + book->longest;
    /* A percent for products of errors, and what is lost below the smallest numbers. */
    return reach * (1.01f * FLT_EPSILON * (float)(dsub + 4)) + FLT_MIN;
}

static double squared_distance(const float *x, const float *c, int dsub) {
    double sum = 0;
    for (int t = 0; t < dsub; t++) sum += ((double)x[t] - c[t]) * ((double)x[t] - c[t]);
    return sum;
}

/* Take a codeword for sub-vector r if it is nearer, or as near and of a lower number. */
static void consider(const assign_codebook *book, assign_best *best, int r, int32_t word, float score) {
    float least = best->scores[r], slack = best->slack[r];
    int32_t *kept = best->words + r;
    if (word >= book->ksub || score > least + slack) return;
    if (*kept < 0 || score < least - slack) {
        best->scores[r] = score, *kept = word, best->distances[r] = -1;
        return;
    }
    int dsub = book->dsub;
    const float *x = best->z + r * best->stride;
    if (best->distances[r] < 0) best->distances[r] = squared_distance(x, book->given + (int64_t)*kept * dsub, dsub);
    double distance = squared_distance(x, book->given + (int64_t)word * dsub, dsub);
    if (distance < best->distances[r] || (distance == best->distances[r] && word < *kept))
        *kept = word, best->distances[r] = distance;
    if (score < least) best->scores[r] = score;
}

/* Consider all codewords whose scores are not above a limit, in the lanes that have some. */
static __attribute__((noinline)) void consider_lanes(const assign_codebook *book, assign_best *best, int r,
                                                     const float *scores, int first, int count, int lanes,
                                                     uint32_t open, float limit) {
    for (; open; open &= open - 1)
        for (int at = __builtin_ctz(open); at < count; at += lanes)
            if (!(scores[at] > limit)) consider(book, best, r, first + at, scores[at]);
}

static inline int is_single(uint32_t bits) { return !(bits & (bits - 1)); }

/* ---- the instruction sets ------------------------------------------------------------------------ */

#define FLOAT_BYTES 16
#define NAME(x) x##_portable
#define SUBTRACT_PRODUCT(a, b, c) ((a) - (b) * (c))
#define LESS(a, b) less_of_four(a, b)
#define ABOVE(a, limit) above_of_four(a, limit)
#include "assign_rows.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define FLOAT_BYTES 32
#define NAME(x) x##_avx2
#define SUBTRACT_PRODUCT(a, b, c) ((FLOATS)_mm256_fnmadd_ps((__m256)(b), (__m256)(c), (__m256)(a)))
#define LESS(a, b) ((FLOATS)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define ABOVE(a, limit) ((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)(a), _mm256_set1_ps(limit), _CMP_GT_OQ)))
#include "assign_rows.h"
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define FLOAT_BYTES 64
#define NAME(x) x##_avx512
#define SUBTRACT_PRODUCT(a, b, c) ((FLOATS)_mm512_fnmadd_ps((__m512)(b), (__m512)(c), (__m512)(a)))
#define LESS(a, b) ((FLOATS)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define ABOVE(a, limit) ((uint32_t)_mm512_cmp_ps_mask((__m512)(a), _mm512_set1_ps(limit), _CMP_GT_OQ))
#include "assign_rows.h"
DEEPQ_END_TARGET
#endif

static near_fn near_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return near_rows_avx512;
    if (simd == SIMD_AVX2) return near_rows_avx2;
#endif
    (void)simd;
    return near_rows_portable;
}

static assign_fn assign_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return assign_rows_avx512;
    if (simd == SIMD_AVX2) return assign_rows_avx2;
#endif
    (void)simd;
    return assign_rows_portable;
}

#endif
