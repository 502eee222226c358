/* The k best of many, kept in two rows: a max-heap over (score, id). */
#ifndef DEEPQ_HEAP_H
#define DEEPQ_HEAP_H

#include "simd.h"

#define NO_ID INT64_MAX

static inline int ranks_before(float d1, int64_t i1, float d2, int64_t i2) {
    return d1 < d2 || (d1 == d2 && i1 < i2);
}

static void heap_sift_down(float *D, int64_t *I, int64_t k, int64_t at, float d, int64_t id) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) break;
        if (child + 1 < k && ranks_before(D[child], I[child], D[child + 1], I[child + 1])) child++;
        if (!ranks_before(d, id, D[child], I[child])) break;
        D[at] = D[child];
        I[at] = I[child];
        at = child;
    }
    D[at] = d;
    I[at] = id;
}

/* Sort a heap into ascending (score, id), mark the empty places as faiss does, and turn scores
 * back into inner products. */
static void heap_finish(float *D, int64_t *I, int64_t k, int inner_product) {
    for (int64_t last = k - 1; last > 0; last--) {
        float d = D[last];
        int64_t id = I[last];
        D[last] = D[0];
        I[last] = I[0];
        heap_sift_down(D, I, last, 0, d, id);
    }
    for (int64_t j = 0; j < k; j++) {
        if (I[j] == NO_ID) {
            I[j] = -1;
            D[j] = FLT_MAX;
        }
        if (inner_product) D[j] = -D[j];
    }
}

#endif
