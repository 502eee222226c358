/* Nearest codewords for encoding and k-means: the choice between instruction sets. */
#ifndef DEEPQ_ASSIGN_KERNELS_H
#define DEEPQ_ASSIGN_KERNELS_H

#include "simd.h"

/* One sub-space. The nearest codeword is the one with the least c.c / 2 - x.c, which is one
 * multiplication an element. Both x and c are taken from near the middle of the codewords, so that
 * nothing is lost where they are far from the origin. */
typedef struct {
    int dsub, padded;        /* padded: number of codewords, a multiple of ASSIGN_PAD */
    const float *centre;     /* (dsub,) */
    const float *codewords;  /* (dsub, padded), less the centre */
    const float *half_norms; /* (padded,), FLT_MAX behind the last codeword */
} assign_codebook;

/* Codewords are padded to a multiple of this many, whatever the kernel. */
enum { ASSIGN_PAD = 32 };

typedef void (*assign_fn)(const assign_codebook *, const float *z, int64_t n, int64_t stride, float *centred,
                          int32_t *words);

typedef float four_floats __attribute__((vector_size(16), may_alias));
typedef int32_t four_ints __attribute__((vector_size(16), may_alias));

/* The number that stands beside the least of 4 * fours scores, the lowest where scores are equal. */
static inline __attribute__((always_inline)) int32_t least_lane(const void *scores, const void *numbers, int fours) {
    const four_floats *score = scores;
    const four_ints *number = numbers;
    four_floats best = score[0];
    for (int i = 1; i < fours; i++) {
        four_ints less = (four_ints)(score[i] < best);
        best = (four_floats)((less & (four_ints)score[i]) | (~less & (four_ints)best));
    }
    float left = best[0] < best[1] ? best[0] : best[1], right = best[2] < best[3] ? best[2] : best[3];
    float least = left < right ? left : right;
    four_ints lowest = (four_ints){0} + INT32_MAX;
    for (int i = 0; i < fours; i++) {
        four_ints equal = (four_ints)(score[i] == (four_floats){0} + least);
        four_ints candidate = (equal & number[i]) | (~equal & INT32_MAX), less = (four_ints)(candidate < lowest);
        lowest = (less & candidate) | (~less & lowest);
    }
    int32_t low = lowest[0] < lowest[1] ? lowest[0] : lowest[1], high = lowest[2] < lowest[3] ? lowest[2] : lowest[3];
    return low < high ? low : high;
}

#define FLOAT_BYTES 16
#define NAME(x) x##_portable
#define SUBTRACT_PRODUCT(a, b, c) ((a) - (b) * (c))
#define KEEP_LESS(score, at, best, best_at)                                      \
    do {                                                                         \
        INTS less = (INTS)((score) < (best));                                    \
        best = (FLOATS)((less & (INTS)(score)) | (~less & (INTS)(best)));        \
        best_at = (less & (at)) | (~less & (best_at));                           \
    } while (0)
#include "assign_rows.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define FLOAT_BYTES 32
#define NAME(x) x##_avx2
#define SUBTRACT_PRODUCT(a, b, c) ((FLOATS)_mm256_fnmadd_ps((__m256)(b), (__m256)(c), (__m256)(a)))
#define KEEP_LESS(score, at, best, best_at)                                                              \
    do {                                                                                                 \
        __m256 less = _mm256_cmp_ps((__m256)(score), (__m256)(best), _CMP_LT_OQ);                        \
        best = (FLOATS)_mm256_blendv_ps((__m256)(best), (__m256)(score), less);                          \
        best_at = (INTS)_mm256_blendv_ps((__m256)(best_at), (__m256)(at), less);                         \
    } while (0)
#include "assign_rows.h"
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define FLOAT_BYTES 64
#define NAME(x) x##_avx512
#define SUBTRACT_PRODUCT(a, b, c) ((FLOATS)_mm512_fnmadd_ps((__m512)(b), (__m512)(c), (__m512)(a)))
#define KEEP_LESS(score, at, best, best_at)                                                              \
    do {                                                                                                 \
        __mmask16 less = _mm512_cmp_ps_mask((__m512)(score), (__m512)(best), _CMP_LT_OQ);                \
        best = (FLOATS)_mm512_mask_mov_ps((__m512)(best), less, (__m512)(score));                        \
        best_at = (INTS)_mm512_mask_mov_epi32((__m512i)(best_at), less, (__m512i)(at));                  \
    } while (0)
#include "assign_rows.h"
DEEPQ_END_TARGET
#endif

static assign_fn assign_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return assign_rows_avx512;
    if (simd == SIMD_AVX2) return assign_rows_avx2;
#endif
    (void)simd;
    return assign_rows_portable;
}

#endif
