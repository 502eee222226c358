/* What a scan is given and what it finds: the job, the k best of a query, and how much a code may cost.
 *
 * Words used here and in the kernels
 *   table   ksub (or 256) partial scores of one query, one for every value a code byte can take;
 *           the score of a code is the sum of one entry per byte, always added up in byte order,
 *           so that every kernel returns the same bits
 *   score   what is minimised: squared L2 distance, or the negated inner product
 *   bound   a table entry less its table's minimum, in whole units, rounded down
 */
#ifndef DEEPQ_SCAN_JOB_H
#define DEEPQ_SCAN_JOB_H

#include "simd.h"

#define NO_ID INT64_MAX
#define WORST_SCORE 0x1.fffffcp127f /* the largest that may be returned; FLT_MAX marks an empty place */

typedef struct {
    int64_t count, room; /* room < 0: there was no memory */
    float *scores;
    int64_t *ids;
} scan_hits;

typedef struct {
    const uint8_t *codes; /* n rows of `bytes` bytes */
    int64_t n;
    int bytes;            /* bytes of one code = number of tables */
    int width;            /* entries of one table */
    const uint8_t *allowed; /* n bits, 0 for a code that must not be found; or NULL: all may */
    double allowed_share;   /* of all codes */
    const float *queries; /* nq rows of M * dsub, or NULL when luts is given */
    const float *codebooks; /* (M, ksub, dsub) */
    const float *luts;      /* nq rows of (M, ksub), or NULL */
    int M, ksub, dsub;
    int fields;           /* sub-quantizers in one byte: 8 / nbits for 1, 2, 4 and 8 bits, else 1 */
    int inner_product;    /* scores are negated inner products */
    int64_t k;
    float *D;             /* (nq, k) scores; a heap while scanning */
    int64_t *I;           /* (nq, k) ids */
    scan_hits *hits;      /* (nq,), instead of k, D and I: all codes that score at most `radius` */
    float radius;
} scan_job;

static inline int is_allowed(const scan_job *job, int64_t id) {
    return !job->allowed || (job->allowed[id >> 3] >> (id & 7) & 1);
}

static inline int64_t count_word(uint64_t word) {
    word -= word >> 1 & 0x5555555555555555; /* sums of 2, 4 and 8 bits, then of the bytes */
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (int64_t)(word * 0x0101010101010101 >> 56);
}

/* How many of the first n bits are 1. */
static int64_t count_bits(const uint8_t *bits, int64_t n) {
    int64_t count = 0, i = 0;
    uint64_t word = 0;
    for (; i + 64 <= n; i += 64) {
        memcpy(&word, bits + i / 8, sizeof(word));
        count += count_word(word);
    }
    word = 0;
    memcpy(&word, bits + i / 8, (size_t)(n - i + 7) / 8);
    return count + count_word(word & (((uint64_t)1 << (n - i)) - 1));
}

/* Whether none of n numbers is NaN or infinite. */
static int all_finite(const float *v, int64_t n) {
    uint32_t bad = 0, bits;
    for (int64_t i = 0; i < n; i++) {
        memcpy(&bits, v + i, sizeof(bits));
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

/* ---- the k best of one query: a max-heap over (score, id) in its rows of D and I ------------- */

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

/* Start with k places that any code scoring at most `bound` may take. */
static void heap_fill(float *D, int64_t *I, int64_t k, float bound) {
    for (int64_t j = 0; j < k; j++) {
        D[j] = bound;
        I[j] = NO_ID;
    }
}

/* The largest score that can still enter, NaN if none can; ids come in ascending order, so a tie
 * is too late once every place is taken. */
static inline float heap_limit(const float *D, const int64_t *I) {
    if (I[0] == NO_ID) return D[0];
    return D[0] > -INFINITY ? nextafterf(D[0], -INFINITY) : NAN;
}

/* ---- all that one query finds --------------------------------------------------------------------- */

static void hits_append(scan_hits *hits, float score, int64_t id) {
    if (hits->count == hits->room) {
        int64_t room = hits->room ? 2 * hits->room : 64;
        float *scores = realloc(hits->scores, sizeof(float) * room);
        if (scores) hits->scores = scores;
        int64_t *ids = scores ? realloc(hits->ids, sizeof(int64_t) * room) : NULL;
        if (ids) hits->ids = ids;
        hits->room = ids ? room : -1;
    }
    if (hits->room < 0) return;
    hits->scores[hits->count] = score;
    hits->ids[hits->count++] = id;
}

/* ---- how much a code may cost --------------------------------------------------------------------- */

typedef struct {
    float limit; /* the largest score that may still enter; NaN: none may */
    int units;   /* no code whose bounds add up to more may enter; negative: none may at all */
    float base;  /* no score is below it; it stands for 0 units */
    float scale; /* units per score */
    float slack; /* units by which rounding may raise a sum of bounds; 0 where all are exact */
    int coarse;  /* units below which finer ones pay */
    int bits;    /* the bounds of a byte are those of so many of its lower bits, or of its HALVES */
    int fresh;   /* units below which other bits may be better */
} scan_limit;

enum { HALVES = 0 }; /* bounds of the lower and of the upper 4 bits, to be added: 16 and 16 */

/* Sums of bounds are kept in 8 bits for codes of up to SHORT_BYTES, in 16 bits for longer ones, which
 * rounding down on every byte would leave nothing of 8; groups of GROUP_BYTES then still fit 8. */
enum { SHORT_BYTES = 48, GROUP_BYTES = 8, SHORT_UNITS = 252, LONG_UNITS = 60000 };

/* The span from 0 units to the first limit. A group of bytes that is alone in exceeding its share by
 * a third saturates, which costs survivors, not exactness. */
static float units_in_span(int bytes) {
    if (bytes <= SHORT_BYTES) return SHORT_UNITS;
    float units = SHORT_UNITS * 0.5f * (float)((bytes + GROUP_BYTES - 1) / GROUP_BYTES);
    return units < LONG_UNITS ? units : LONG_UNITS;
}

static inline void limit_set(scan_limit *q, float limit) {
    double units = floor(((double)limit - q->base) * q->scale + q->slack);
    q->limit = limit;
    q->units = units >= 0 ? (units < 65534 ? (int)units : 65534) : -1;
}

/* Choose the units for tables whose minima add up to `base`, and in absolute value to `size`.
 * Returns 0 where rounding errors would eat their resolution. */
static int limit_scale(scan_limit *q, const scan_job *job, float bound, float base, float size) {
    /* A score that may enter is a float sum of `bytes` terms whose absolute values add up to at most
     * |bound| + 2 size; so are base and the differences from the minima. */
    float margin = 8 * FLT_EPSILON * job->bytes * (fabsf(bound) + 2 * size), span = bound - base + margin;
    if (!(isfinite(span) && isfinite(size)) || margin > 0.03f * span + FLT_MIN) return 0;
    q->base = base - margin;
    q->scale = units_in_span(job->bytes) / (span > 1e-30f ? span : 1e-30f);
    q->slack = 1e-3f * job->bytes;
    q->coarse = (int)(units_in_span(job->bytes) / 2);
    return 1;
}

/* Units in which tables of small whole numbers, as of binary codes, may come out exact: a power of 2,
 * or 0 where float sums in such units could not be. Exact bounds prune ties, of which such codes have
 * very many. */
static float whole_scale(const scan_job *job, float bound, float base, float size) {
    int exponent;
    frexpf(units_in_span(job->bytes) / (bound - base > 1e-30f ? bound - base : 1e-30f), &exponent);
    float scale = ldexpf(1, exponent - 1);
    return size * scale < (float)(1 << 22) ? scale : 0;
}

static void limit_whole(scan_limit *q, float base, float scale) {
    q->base = base;
    q->scale = scale;
    q->slack = 0;
    q->coarse = 0;
}

/* Begin to search for query q, which may find codes that score at most `bound`. */
static void query_begin(const scan_job *job, int64_t q, float bound) {
    if (job->hits) return;
    heap_fill(job->D + q * job->k, job->I + q * job->k, job->k, bound);
}

/* A code that query q may have found, if it is allowed; ids come in ascending order. */
static inline void query_offer(const scan_job *job, int64_t q, scan_limit *limit, float score, int64_t id) {
    if (!(score <= limit->limit) || !is_allowed(job, id)) return;
    if (job->hits) {
        hits_append(job->hits + q, score, id);
        return;
    }
    float *D = job->D + q * job->k;
    int64_t *I = job->I + q * job->k;
    heap_sift_down(D, I, job->k, 0, score, id);
    limit_set(limit, heap_limit(D, I));
}

static void query_end(const scan_job *job, int64_t q) {
    if (job->hits) return;
    heap_finish(job->D + q * job->k, job->I + q * job->k, job->k, job->inner_product);
}

/* ---- a first bound, from a sample of the codes ------------------------------------------------------ */

enum { GROUPS_MIN = 64, GROUPS_PER_K = 4 };
enum { SAMPLE_MIN = 256, SAMPLE_MAX = 1024, CODES_PER_SAMPLE = 16, SAMPLE_PER_K = 24, MANY_K = 16 };

/* The sample is cut into disjoint groups: the k-th smallest of their best scores is a score that k
 * different codes reach. */
static int64_t group_count(const scan_job *job) {
    int64_t groups = GROUPS_PER_K * job->k > GROUPS_MIN ? GROUPS_PER_K * job->k : GROUPS_MIN;
    return groups < job->n ? groups : job->n;
}

/* How many codes to draw: a small part of all, but no less than k needs; of which only the allowed
 * ones count. */
static int64_t sample_count(const scan_job *job) {
    int64_t groups = group_count(job), sample = job->n / CODES_PER_SAMPLE;
    if (sample > SAMPLE_MAX) sample = SAMPLE_MAX;
    if (job->allowed) sample = 0;
    if (sample < SAMPLE_MIN) sample = SAMPLE_MIN;
    if (job->k > MANY_K && sample < SAMPLE_PER_K * job->k) sample = SAMPLE_PER_K * job->k;
    if (sample < groups) sample = groups;
    if (job->allowed) sample = (int64_t)fmin((double)sample / fmax(job->allowed_share, 1e-9), 1e15);
    return sample < job->n ? sample : job->n;
}

/* Draw the codes in runs of a cache line, at even strides so that sorted or clustered orders do no
 * harm, and none of them twice; returns how many may be found. */
static int64_t sample_draw(const scan_job *job, uint8_t *sample) {
    int64_t wanted = sample_count(job), run = job->bytes < 64 ? 64 / job->bytes : 1;
    int64_t runs = (wanted + run - 1) / run, drawn = 0, row = 0;
    for (int64_t r = 0; r < runs; r++) {
        int64_t begin = r * job->n / runs, end = begin + run < job->n ? begin + run : job->n;
        for (row = row > begin ? row : begin; row < end && drawn < wanted; row++)
            if (is_allowed(job, row))
                memcpy(sample + drawn++ * job->bytes, job->codes + row * job->bytes, job->bytes);
    }
    return drawn;
}

/* The k-th smallest of v[0..n) (k counts from 0); reorders v. */
static float kth_smallest(float *v, int64_t n, int64_t k) {
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float pivot = v[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i <= j) {
                float t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (k <= j) hi = j;
        else if (k >= i) lo = i;
        else break;
    }
    return v[k];
}

#endif
