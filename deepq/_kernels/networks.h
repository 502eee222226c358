/* Networks of decoders: what decodes and what chooses, for every instruction set, and the choice among these. */
#ifndef DEEPQ_NETWORKS_H
#define DEEPQ_NETWORKS_H

#include "beam.h"
#include "choose.h"
#include "decode.h"
#include "rank.h"

/* Decode n <= DECODE_ROWS codes, of words (n, M), to z (n, d); inside and hidden have room for n * network->inside and
 * n * network->h floats. */
typedef void (*decode_fn)(const decode_network *, const int32_t *words, int n, float *inside, float *hidden, float *z);

/* Multiply rows (n, wide) with weights (wide, columns), laid out as panels, to c (n, columns). */
typedef void (*multiply_fn)(const float *a, int n, int wide, const float *weights, int columns, float *c);

static inline four_floats as_floats_portable(const int8_t *p) {
    four_floats numbers = {p[0], p[1], p[2], p[3]};
    return numbers;
}

#define FLOAT_BYTES 16
#define TILE_ROWS 4
#define NAME(x) x##_portable
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define AS_FLOATS(p) as_floats_portable(p)
#define AS_SHORTS(p) __builtin_convertvector(*(const sixteen_bytes *)(p), sixteen_shorts)
#include "network.h"
#include "beam_rows.h"
#include "choose_rows.h"
#include "rank_rows.h"
#include "network_end.h"

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
#define FLOAT_BYTES 32
#define TILE_ROWS 4
#define NAME(x) x##_avx2
#define MULTIPLY_ADD(a, b, c) ((FLOATS)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define AS_FLOATS(p) ((FLOATS)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p)))))
#define AS_SHORTS(p) ((sixteen_shorts)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p))))
#include "network.h"
#include "beam_rows.h"
#include "choose_rows.h"
#include "rank_rows.h"
#include "network_end.h"
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
#define FLOAT_BYTES 64
#define TILE_ROWS 8
#define NAME(x) x##_avx512
#define MULTIPLY_ADD(a, b, c) ((FLOATS)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define AS_FLOATS(p) ((FLOATS)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p)))))
#define AS_SHORTS(p) ((sixteen_shorts)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p))))
#include "network.h"
#include "beam_rows.h"
#include "choose_rows.h"
#include "rank_rows.h"
#include "network_end.h"
DEEPQ_END_TARGET
#endif

static beam_fn beam_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return beam_rows_avx512;
    if (simd == SIMD_AVX2) return beam_rows_avx2;
#endif
    (void)simd;
    return beam_rows_portable;
}

static choose_fn choosing_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return choose_rows_avx512;
    if (simd == SIMD_AVX2) return choose_rows_avx2;
#endif
    (void)simd;
    return choose_rows_portable;
}

static rank_fn rank_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return rank_query_avx512;
    if (simd == SIMD_AVX2) return rank_query_avx2;
#endif
    (void)simd;
    return rank_query_portable;
}

static rough_fn rough_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return rough_costs_avx512;
    if (simd == SIMD_AVX2) return rough_costs_avx2;
#endif
    (void)simd;
    return rough_costs_portable;
}

static decode_fn decode_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return decode_rows_avx512;
    if (simd == SIMD_AVX2) return decode_rows_avx2;
#endif
    (void)simd;
    return decode_rows_portable;
}

static multiply_fn multiply_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return multiply_rows_avx512;
    if (simd == SIMD_AVX2) return multiply_rows_avx2;
#endif
    (void)simd;
    return multiply_rows_portable;
}

#endif
