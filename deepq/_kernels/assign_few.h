/* Nearest codewords of few rows, by differences: nothing is worked out of the codebooks first.
 *
 * A distance in float32 has a relative error of at most (dsub + 2) u, u = FLT_EPSILON / 2: one rounding of a
 * difference, which counts twice in its square, one of the square, and dsub - 1 of the sum (Higham, "Accuracy
 * and stability of numerical algorithms", 2002, chapter 3). Where two are nearer to each other than that,
 * distances in double precision decide. */
#ifndef DEEPQ_ASSIGN_FEW_H
#define DEEPQ_ASSIGN_FEW_H

#include "simd.h"

typedef void (*distances_fn)(const float *x, const float *codewords, int ksub, int dsub, float *distances);

/* Compiled for one dsub, this becomes code that takes several codewords side by side. */
static inline __attribute__((always_inline)) void sum_differences(const float *x, const float *codewords, int ksub,
                                                                  int dsub, float *distances) {
    for (int j = 0; j < ksub; j++) {
        float sum = 0;
        for (int t = 0; t < dsub; t++) {
            float difference = x[t] - codewords[(int64_t)j * dsub + t];
            sum += difference * difference;
        }
        distances[j] = sum;
    }
}

#define SUM_DIFFERENCES_OF(length) \
    case length: sum_differences(x, codewords, ksub, length, distances); return

static void distances_portable(const float *x, const float *codewords, int ksub, int dsub, float *distances) {
    switch (dsub) {
        SUM_DIFFERENCES_OF(2);
        SUM_DIFFERENCES_OF(4);
        SUM_DIFFERENCES_OF(8);
        SUM_DIFFERENCES_OF(16);
    }
    sum_differences(x, codewords, ksub, dsub, distances);
}

#ifdef DEEPQ_X86
DEEPQ_BEGIN_AVX512
static void distances_avx512(const float *x, const float *codewords, int ksub, int dsub, float *distances) {
    switch (dsub) {
        SUM_DIFFERENCES_OF(4);
        SUM_DIFFERENCES_OF(8);
        SUM_DIFFERENCES_OF(16);
    }
    distances_portable(x, codewords, ksub, dsub, distances);
}
DEEPQ_END_TARGET
#endif

/* AVX2 has no better way of turning codewords into columns than what every processor has. */
static distances_fn distances_kernel(int simd) {
#ifdef DEEPQ_X86
    if (simd == SIMD_AVX512) return distances_avx512;
#endif
    (void)simd;
    return distances_portable;
}

static double difference_in_double(const float *x, const float *codeword, int dsub) {
    double sum = 0;
    for (int t = 0; t < dsub; t++) {
        double difference = (double)x[t] - codeword[t];
        sum += difference * difference;
    }
    return sum;
}

/* Distances are compared in so many lanes, each of which has numbers that are so many apart. */
enum { FEW_LANES = 16 };

static inline int distances_room(int ksub) { return (ksub + FEW_LANES - 1) / FEW_LANES * FEW_LANES; }

/* The number of the nearest of (ksub, dsub) codewords, the lowest of equally near ones; `distances` has room for
 * distances_room(ksub). */
static int32_t nearest_word(distances_fn kernel, const float *x, const float *codewords, int ksub, int dsub,
                            float *distances) {
    int room = distances_room(ksub);
    for (int j = ksub; j < room; j++) distances[j] = INFINITY;
    kernel(x, codewords, ksub, dsub, distances);
    float lanes[FEW_LANES], least = INFINITY;
    for (int i = 0; i < FEW_LANES; i++) lanes[i] = INFINITY;
    for (int j = 0; j < room; j += FEW_LANES)
        for (int i = 0; i < FEW_LANES; i++) lanes[i] = distances[j + i] < lanes[i] ? distances[j + i] : lanes[i];
    for (int i = 0; i < FEW_LANES; i++) least = lanes[i] < least ? lanes[i] : least;
    /* A percent for products of errors, and what is lost below the smallest numbers. */
    float limit = least + least * (1.01f * FLT_EPSILON * (float)(dsub + 2)) + FLT_MIN;
    int32_t word = -1;
    double nearest = -1; /* of that word; not known while it is the only one */
    for (int i = 0; i < FEW_LANES; i++) {
        if (lanes[i] > limit) continue;
        for (int j = i; j < ksub; j += FEW_LANES) {
            if (distances[j] > limit) continue;
            if (word >= 0) {
                if (nearest < 0) nearest = difference_in_double(x, codewords + (int64_t)word * dsub, dsub);
                double other = difference_in_double(x, codewords + (int64_t)j * dsub, dsub);
                if (other > nearest || (other == nearest && j > word)) continue;
                nearest = other;
            }
            word = j;
        }
    }
    return word;
}

#endif
