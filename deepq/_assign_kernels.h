/* Nearest codewords for encoding and k-means: the choice between instruction sets. */
#ifndef DEEPQ_ASSIGN_KERNELS_H
#define DEEPQ_ASSIGN_KERNELS_H

#include "_simd.h"

typedef void (*assign_rows_fn)(const float *, int64_t, int64_t, const float *, int, int, int32_t *);

#define FLOAT_BYTES 16
#define NAME(x) x##_portable
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define KEEP_LESS(score, at, best, best_at)                                      \
    do {                                                                         \
        INTS less = (INTS)((score) < (best));                                    \
        best = (FLOATS)((less & (INTS)(score)) | (~less & (INTS)(best)));        \
        best_at = (less & (at)) | (~less & (best_at));                           \
    } while (0)
#include "_assign_rows.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define FLOAT_BYTES 32
#define NAME(x) x##_avx2
#define MULTIPLY_ADD(a, b, c) ((FLOATS)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define KEEP_LESS(score, at, best, best_at)                                                              \
    do {                                                                                                 \
        __m256 less = _mm256_cmp_ps((__m256)(score), (__m256)(best), _CMP_LT_OQ);                        \
        best = (FLOATS)_mm256_blendv_ps((__m256)(best), (__m256)(score), less);                          \
        best_at = (INTS)_mm256_blendv_ps((__m256)(best_at), (__m256)(at), less);                         \
    } while (0)
#include "_assign_rows.h"
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define FLOAT_BYTES 64
#define NAME(x) x##_avx512
#define MULTIPLY_ADD(a, b, c) ((FLOATS)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define KEEP_LESS(score, at, best, best_at)                                                              \
    do {                                                                                                 \
        __mmask16 less = _mm512_cmp_ps_mask((__m512)(score), (__m512)(best), _CMP_LT_OQ);                \
        best = (FLOATS)_mm512_mask_mov_ps((__m512)(best), less, (__m512)(score));                        \
        best_at = (INTS)_mm512_mask_mov_epi32((__m512i)(best_at), less, (__m512i)(at));                  \
    } while (0)
#include "_assign_rows.h"
DEEPQ_END_TARGET
#endif

static assign_rows_fn assign_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return assign_rows_avx512;
    if (simd == SIMD_AVX2) return assign_rows_avx2;
#endif
    (void)simd;
    return assign_rows_portable;
}

/* Codewords are padded to a multiple of this many, whatever the kernel. */
enum { ASSIGN_PAD = 32 };

#endif
