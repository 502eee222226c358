/* Sums over the rows of cells: plain loops, compiled for every instruction set. They add in the same order, so the
 * sums are the same to the bit. */
#ifndef DEEPQ_CELL_SUMS_H
#define DEEPQ_CELL_SUMS_H

#include "simd.h"

typedef struct {
    void (*floats)(float *sums, const float *x, int64_t n);   /* sums += x */
    void (*doubles)(double *sums, const float *x, int64_t n); /* the same in double precision */
    double (*squares)(const float *x, int64_t n);             /* the sum of the squares */
} cell_sums;

enum { SQUARES_AT_ONCE = 16 };

static inline __attribute__((always_inline)) void add_floats(float *restrict sums, const float *restrict x, int64_t n) {
    for (int64_t t = 0; t < n; t++) sums[t] += x[t];
}

static inline __attribute__((always_inline)) void add_doubles(double *restrict sums, const float *restrict x, int64_t n) {
    for (int64_t t = 0; t < n; t++) sums[t] += (double)x[t];
}

static inline __attribute__((always_inline)) double add_squares(const float *x, int64_t n) {
    double parts[SQUARES_AT_ONCE] = {0}, sum = 0;
    int64_t whole = n - n % SQUARES_AT_ONCE;
    for (int64_t t = 0; t < whole; t += SQUARES_AT_ONCE)
        for (int i = 0; i < SQUARES_AT_ONCE; i++) parts[i] += (double)x[t + i] * x[t + i];
    for (int64_t t = whole; t < n; t++) parts[t - whole] += (double)x[t] * x[t];
    for (int i = 0; i < SQUARES_AT_ONCE; i++) sum += parts[i];
    return sum;
}

#define CELL_SUMS(level) \
    static void add_floats_##level(float *sums, const float *x, int64_t n) { add_floats(sums, x, n); } \
    static void add_doubles_##level(double *sums, const float *x, int64_t n) { add_doubles(sums, x, n); } \
    static double add_squares_##level(const float *x, int64_t n) { return add_squares(x, n); } \
    static const cell_sums cell_sums_##level = {add_floats_##level, add_doubles_##level, add_squares_##level};

CELL_SUMS(portable)

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX2
CELL_SUMS(avx2)
DEEPQ_END_TARGET

DEEPQ_BEGIN_AVX512
CELL_SUMS(avx512)
DEEPQ_END_TARGET
#endif

static const cell_sums *cell_sums_of(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return &cell_sums_avx512;
    if (simd == SIMD_AVX2) return &cell_sums_avx2;
#endif
    (void)simd;
    return &cell_sums_portable;
}

#endif
