/* Several nearest codewords of a vector, as the nearest cells of a query. */
#ifndef DEEPQ_NEAR_H
#define DEEPQ_NEAR_H

#include "assign_book.h"
#include "job.h"
#include "least.h"

enum { NEAR_ROWS = 4, NEAR_STRETCH = 256, NEAR_LOOK = 16 };

/* Memory of one thread: everything but `count` results is as long as the padded codebook. */
typedef struct {
    void *memory;
    float *centred; /* (NEAR_ROWS, dsub) */
    float (*scores)[NEAR_STRETCH]; /* (stretches, NEAR_ROWS, NEAR_STRETCH) */
    float *row;     /* scores of one vector */
    float *spare;
    uint64_t *keys; /* scores and codewords: two lists, to be sorted */
    double *distances;
} near_scratch;

typedef int (*near_fn)(const assign_codebook *, const float *z, int64_t n, near_scratch *, int64_t count, int64_t *found);

static int near_scratch_new(near_scratch *s, const assign_codebook *book) {
    size_t padded = (size_t)book->padded, places = padded + 1, stretches = (padded + NEAR_STRETCH - 1) / NEAR_STRETCH, d = (size_t)book->dsub;
    size_t sizes[] = {sizeof(float) * NEAR_ROWS * d, sizeof(float) * stretches * NEAR_ROWS * NEAR_STRETCH,
                      sizeof(float) * padded, sizeof(float) * places, sizeof(uint64_t) * 2 * padded, sizeof(double) * padded};
    void **fields[] = {(void **)&s->centred, (void **)&s->scores, (void **)&s->row, (void **)&s->spare, (void **)&s->keys,
                       (void **)&s->distances};
    size_t total = 64, parts = sizeof(sizes) / sizeof(sizes[0]);
    for (size_t i = 0; i < parts; i++) total += (sizes[i] + 63) / 64 * 64;
    s->memory = malloc(total);
    if (!s->memory) return -1;
    char *at = (char *)(((uintptr_t)s->memory + 63) / 64 * 64);
    for (size_t i = 0; i < parts; i++) {
        *fields[i] = at;
        at += (sizes[i] + 63) / 64 * 64;
    }
    return 0;
}

static void near_scratch_free(near_scratch *s) { free(s->memory); }

/* A number that `count` of n are not above, and few more. Inlined, to be compiled for every instruction set. */
static inline __attribute__((always_inline)) float near_limit(const near_scratch *s, int n, int64_t count) {
    if (count > n) return INFINITY;
    if (count <= LEAST_LANES && n >= 2 * LEAST_LANES) return least_limit(s->row, n, (int)count);
    for (int i = 0; i < n; i++) s->spare[i] = s->row[i] < INFINITY ? s->row[i] : INFINITY; /* NaN is in no order */
    return kth_smallest(s->spare, n, count - 1);
}

/* Put codewords in order whose scores, in ascending order, are nearer to each other than they can tell: by distances in
 * double precision, equal ones by number. */
static void near_order(const assign_codebook *book, const float *x, uint64_t *keys, double *distances, int64_t n, float slack) {
    for (int64_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n; end++)
            if (!(ascending_float((uint32_t)(keys[end] >> 32)) - ascending_float((uint32_t)(keys[end - 1] >> 32)) <= slack)) break;
        for (int64_t i = begin; end - begin > 1 && i < end; i++) {
            uint64_t key = keys[i];
            uint32_t word = (uint32_t)key;
            double distance = 0;
            for (int t = 0; t < book->dsub; t++) {
                double difference = (double)x[t] - book->given[(int64_t)word * book->dsub + t];
                distance += difference * difference;
            }
            int64_t at = i;
            for (; at > begin; at--) {
                if (distances[at - 1] < distance || (distances[at - 1] == distance && (uint32_t)keys[at - 1] < word)) break;
                distances[at] = distances[at - 1];
                keys[at] = keys[at - 1];
            }
            distances[at] = distance;
            keys[at] = key;
        }
    }
}

/* Write the numbers of the `count` nearest of the codewords whose scores are in s->row; 0 where there are no scores for so
 * many. */
static inline __attribute__((always_inline)) int near_pick(const assign_codebook *book, const float *x, near_scratch *s, float slack, int64_t count, int64_t *found) {
    float limit = near_limit(s, book->padded, count) + slack;
    int32_t *places = (int32_t *)s->spare;
    int64_t n = 0;
    for (int j = 0; j < book->padded; j += NEAR_LOOK) {
        int any = 0;
        for (int i = 0; i < NEAR_LOOK; i++) any |= s->row[j + i] <= limit;
        for (int i = 0; any && i < NEAR_LOOK; i++) { /* without branches that nobody could foretell */
            places[n] = j + i;
            n += s->row[j + i] <= limit && j + i < book->ksub;
        }
    }
    for (int64_t i = 0; i < n; i++) s->keys[i] = (uint64_t)ascending_bits(s->row[places[i]]) << 32 | (uint32_t)places[i];
    if (n < count || !(limit < INFINITY)) return 0;
    sort_keys(s->keys, s->keys + book->padded, n);
    if (!(ascending_float((uint32_t)(s->keys[0] >> 32)) > -INFINITY)) return 0;
    near_order(book, x, s->keys, s->distances, n, slack);
    for (int64_t i = 0; i < count; i++) found[i] = (uint32_t)s->keys[i];
    return 1;
}

#endif
