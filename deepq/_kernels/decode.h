/* Decoding of words by a network (see decoders.py): the choice between instruction sets.
 *
 * A vector of the result is a chain of sums in one order, whatever is decoded beside it. Where multiplications and
 * additions are fused, with AVX2 and AVX-512, the bits are the same.
 */
#ifndef DEEPQ_DECODE_H
#define DEEPQ_DECODE_H

#include "simd.h"

/* Columns of a panel: weights (rows, columns) are laid out as panels, each (rows, DECODE_PANEL). Widths are padded
 * with zeros to whole panels. */
enum { DECODE_PANEL = 32, DECODE_ROWS = 64 /* decoded at a time: what they need stays in the cache */ };

typedef struct {
    int M, ksub;
    int h, d;             /* padded widths of the hidden layer and of vectors */
    const float *tables;   /* (M, ksub, d): T */
    const float *features; /* (M, ksub, h): U */
    const float *entered;  /* (M, ksub, h): U after the first weights of the block, W1 U */
    const float *bias;     /* (h,) */
    const float *outer;    /* W2, panels of (h, h) */
    const float *output;   /* O, panels of (h, d) */
} decode_network;

/* Decode n <= DECODE_ROWS codes, of words (n, M), to z (n, d); inside and block have room for n * h floats. */
typedef void (*decode_fn)(const decode_network *, const int32_t *words, int n, float *inside, float *block, float *z);

#define FLOAT_BYTES 16
#define TILE_ROWS 4
#define NAME(x) x##_portable
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#include "network.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define FLOAT_BYTES 32
#define TILE_ROWS 4
#define NAME(x) x##_avx2
#define MULTIPLY_ADD(a, b, c) ((FLOATS)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#include "network.h"
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define FLOAT_BYTES 64
#define TILE_ROWS 8
#define NAME(x) x##_avx512
#define MULTIPLY_ADD(a, b, c) ((FLOATS)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#include "network.h"
DEEPQ_END_TARGET
#endif

static decode_fn decode_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return decode_rows_avx512;
    if (simd == SIMD_AVX2) return decode_rows_avx2;
#endif
    (void)simd;
    return decode_rows_portable;
}

#endif
