/* The least of a row of numbers. */
#ifndef DEEPQ_LEAST_H
#define DEEPQ_LEAST_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LEAST_LANES = 64 };

/* A number that at least `count` of n numbers are not above, and few more: of the least of `width` lanes, which is
 * known at compile time. */
static inline __attribute__((always_inline)) float least_of_lanes(const float *numbers, int n, int count, int width) {
    float lanes[LEAST_LANES], limit = INFINITY;
    int32_t not_above[LEAST_LANES];
    if (n < 2 * width) return INFINITY;
    memcpy(lanes, numbers, sizeof(float) * width);
    for (int i = width; i + width <= n; i += width)
        for (int l = 0; l < width; l++) lanes[l] = numbers[i + l] < lanes[l] ? numbers[i + l] : lanes[l];
    for (int l = 0; l < width; l++) not_above[l] = 0;
    for (int other = 0; other < width; other++)
        for (int l = 0; l < width; l++) not_above[l] += lanes[other] <= lanes[l];
    for (int l = 0; l < width; l++)
        if (not_above[l] >= count && lanes[l] < limit) limit = lanes[l];
    return limit;
}

static inline __attribute__((always_inline)) float least_limit(const float *numbers, int n, int count) {
    if (count <= 10) return least_of_lanes(numbers, n, count, 16);
    if (count <= 20) return least_of_lanes(numbers, n, count, 32);
    return count <= LEAST_LANES ? least_of_lanes(numbers, n, count, LEAST_LANES) : INFINITY;
}

/* Fill kept and places with the least of n numbers, ascending, and where they are, the first of equal ones first;
 * infinity and 0 where there are none but NaN. `spare` has room for n. */
static void least(const float *numbers, int n, int count, int32_t *spare, float *kept, int32_t *places) {
    float limit = least_limit(numbers, n, count);
    int found = 0;
    for (int i = 0; i < n; i++) {
        spare[found] = i;
        found += numbers[i] <= limit;
    }
    for (int t = 0; t < count; t++) {
        kept[t] = INFINITY;
        places[t] = 0;
    }
    for (int f = 0; f < found; f++) {
        float number = numbers[spare[f]];
        int t = f < count ? f : count - 1;
        if (f >= count && !(number < kept[t])) continue;
        for (; t && number < kept[t - 1]; t--) {
            kept[t] = kept[t - 1];
            places[t] = places[t - 1];
        }
        kept[t] = number;
        places[t] = spare[f];
    }
}

#endif
