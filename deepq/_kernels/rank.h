/* Ranking the results of a scan anew: first roughly, by sums of small whole numbers, then by decoded vectors. */
#ifndef DEEPQ_RANK_H
#define DEEPQ_RANK_H

#include "heap.h"
#include "job.h"

typedef float four_floats __attribute__((vector_size(16), may_alias));
typedef float eight_floats __attribute__((vector_size(32), may_alias, aligned(4)));
typedef float sixteen_floats __attribute__((vector_size(64), may_alias, aligned(4)));
typedef int16_t sixteen_shorts __attribute__((vector_size(32)));
typedef int8_t sixteen_bytes __attribute__((vector_size(16), may_alias, aligned(1)));

/* The least number that `count` of n numbers are not above (Hoare, "Algorithm 65: find", 1961); they are moved. */
static float rank_limit(float *numbers, int64_t n, int64_t count) {
    int64_t first = 0, last = n - 1, at = count - 1;
    while (first < last) {
        float middle = numbers[first + (last - first) / 2];
        int64_t i = first, j = last;
        while (i <= j) {
            while (numbers[i] < middle) i++;
            while (middle < numbers[j]) j--;
            if (i <= j) {
                float number = numbers[i];
                numbers[i++] = numbers[j];
                numbers[j--] = number;
            }
        }
        if (at <= j) last = j;
        else if (at >= i) first = i;
        else break;
    }
    return numbers[at];
}

/* Pick `count` of n ids, those with the least costs and the first of equal ones; spare has room for n. */
static void rank_pick(const int64_t *ids, const float *costs, int64_t n, int64_t count, float *spare, int64_t *picked) {
    memcpy(spare, costs, sizeof(float) * n);
    float limit = rank_limit(spare, n, count);
    int64_t below = 0;
    for (int64_t i = 0; i < n; i++) below += costs[i] < limit;
    for (int64_t i = 0, equal = count - below; i < n; i++)
        if (costs[i] < limit || (costs[i] == limit && equal-- > 0)) *picked++ = ids[i];
}

typedef void (*rank_fn)(const float *query, const float *vectors, int64_t d, const int64_t *ids, const int64_t *places,
                        int64_t found, int inner_product, float *D, int64_t *I, int64_t k);
typedef void (*rough_fn)(const int8_t *summands, int M, int ksub, int d, const uint8_t *words, int64_t found,
                         const float *query, int inner_product, float *whole, float *costs);

#endif
