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
    float *D;             /* (nq, k) scores */
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

/* ---- numbers in order ------------------------------------------------------------------------------- */

static inline float middle(float a, float b, float c) {
    float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Move those of v[lo..hi) that are less than `pivot`, or no more, to the front, without branches that nobody could
 * foretell; returns where the others begin. */
static inline int64_t part(float *v, int64_t lo, int64_t hi, float pivot, int or_equal) {
    for (int64_t i = lo; i < hi; i++) {
        float x = v[i];
        v[i] = v[lo];
        v[lo] = x;
        lo += or_equal ? x <= pivot : x < pivot;
    }
    return lo;
}

/* The k-th smallest of v[0..n) (k counts from 0); reorders v. */
static float kth_smallest(float *v, int64_t n, int64_t k) {
    for (int64_t lo = 0, hi = n;;) {
        float pivot = middle(v[lo], v[lo + (hi - lo) / 2], v[hi - 1]);
        int64_t at = part(v, lo, hi, pivot, 0);
        if (k < at) hi = at;
        else if (k < (lo = part(v, at, hi, pivot, 1))) return pivot;
    }
}

/* Sort n keys by their upper 32 bits, and few by all; those of equal upper bits keep their order. */
static void sort_keys(uint64_t *keys, uint64_t *other, int64_t n) {
    enum { FEW = 48 };
    if (n <= FEW) {
        for (int64_t i = 1; i < n; i++) {
            uint64_t key = keys[i];
            int64_t at = i;
            for (; at > 0 && keys[at - 1] > key; at--) keys[at] = keys[at - 1];
            keys[at] = key;
        }
        return;
    }
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t places[257] = {0};
        for (int64_t i = 0; i < n; i++) places[(keys[i] >> shift & 255) + 1]++;
        for (int v = 1; v < 256; v++) places[v] += places[v - 1];
        for (int64_t i = 0; i < n; i++) other[places[keys[i] >> shift & 255]++] = keys[i];
        uint64_t *swapped = keys;
        keys = other;
        other = swapped;
    }
}

/* The bits of a float, mapped so that they ascend as integers, and back. */
static inline uint32_t ascending_bits(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits ^ (bits >> 31 ? UINT32_MAX : (uint32_t)1 << 31);
}

static inline float ascending_float(uint32_t bits) {
    float v;
    bits ^= bits >> 31 ? (uint32_t)1 << 31 : UINT32_MAX;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* ---- what one query finds: a list in ascending order of id ------------------------------------------- */

/* Where the k best are wanted, a list takes as many again, and one, before the best are picked; and MORE_ROOM
 * where a limit that follows sooner would spare nothing. */
enum { MORE_ROOM = 48 };
static int64_t best_room(const scan_job *job, int more) {
    int64_t room = 2 * job->k + 1 + more;
    return room < job->n ? room : job->n;
}

/* Make room in a list for one more. */
static void hits_grow(scan_hits *hits) {
    int64_t room = hits->room ? 2 * hits->room : 64;
    float *scores = realloc(hits->scores, sizeof(float) * room);
    if (scores) hits->scores = scores;
    int64_t *ids = scores ? realloc(hits->ids, sizeof(int64_t) * room) : NULL;
    if (ids) hits->ids = ids;
    hits->room = ids ? room : -1;
}

/* Keep the k best of a list of at least k, by (score, id), and return the worst score among them. */
static float hits_keep(scan_hits *hits, int64_t k) {
    float *spare = hits->scores + hits->room; /* as many again */
    memcpy(spare, hits->scores, sizeof(float) * hits->count);
    float worst = kth_smallest(spare, hits->count, k - 1);
    int64_t ties = k, kept = 0;
    for (int64_t i = 0; i < hits->count; i++) ties -= hits->scores[i] < worst;
    for (int64_t i = 0; i < hits->count; i++) {
        float score = hits->scores[i];
        int tie = score == worst && ties > 0;
        hits->scores[kept] = score;
        hits->ids[kept] = hits->ids[i];
        kept += score < worst || tie;
        ties -= tie;
    }
    hits->count = kept;
    return worst;
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

/* A code that a query may have found, if it is allowed. Ids come in ascending order, so a tie with the
 * worst of the k best is too late. */
static inline void query_offer(const scan_job *job, scan_hits *hits, scan_limit *limit, float score, int64_t id) {
    if (!(score <= limit->limit) || !is_allowed(job, id)) return;
    if (job->hits && hits->count == hits->room) hits_grow(hits);
    if (hits->room < 0) return;
    hits->scores[hits->count] = score;
    hits->ids[hits->count++] = id;
    if (job->hits || hits->count < hits->room) return;
    float worst = hits_keep(hits, job->k);
    limit_set(limit, worst > -INFINITY ? nextafterf(worst, -INFINITY) : NAN);
}

/* Write the k best of a list in ascending (score, id), empty places as faiss marks them, and scores as
 * inner products where they are. */
static void query_end(const scan_job *job, int64_t q, scan_hits *hits, uint64_t *keys) {
    if (job->hits) return;
    float *D = job->D + q * job->k;
    int64_t *I = job->I + q * job->k;
    if (hits->count > job->k) hits_keep(hits, job->k);
    for (int64_t j = 0; j < hits->count; j++) keys[j] = (uint64_t)ascending_bits(hits->scores[j]) << 32 | (uint64_t)j;
    sort_keys(keys, keys + hits->count, hits->count);
    for (int64_t j = 0; j < job->k; j++) {
        int64_t at = j < hits->count ? (int64_t)(keys[j] & UINT32_MAX) : -1;
        D[j] = at < 0 ? FLT_MAX : hits->scores[at];
        I[j] = at < 0 ? -1 : hits->ids[at];
        if (job->inner_product) D[j] = -D[j];
    }
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

/* Of which place among the scores of a sample to take the first bound. None changes a result; the tests
 * draw one. */
#ifndef TAKE_PLACE
#define TAKE_PLACE(place) (place)
#endif

/* The place, from 0, of a score in the sample that k codes surely or very probably reach: four standard
 * deviations beyond the share of the k best, of as many codes as are drawn in runs. */
static int64_t sample_place(const scan_job *job, int64_t drawn, int sure) {
    double run = job->bytes < 64 ? 64 / job->bytes : 1;
    double share = job->k * (double)drawn / fmax(job->n * (job->allowed ? job->allowed_share : 1), 1);
    double place = share + 4 * sqrt(share * run) + 3;
    return sure || place > job->k - 1 ? job->k - 1 : TAKE_PLACE((int64_t)place);
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

#endif
