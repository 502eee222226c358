/* One query: its tables, scores from them, and a scan without pruning; and the memory of a thread. */
#ifndef DEEPQ_SCAN_QUERY_H
#define DEEPQ_SCAN_QUERY_H

#include "job.h"

enum { MAX_LANES = 64, LANE_BITS = 6, TILE = 512, SURVIVORS_MIN = 4096 };

/* What scoring a code takes, in instructions. */
#define SCORE_COST(bytes) (40 + 6 * (bytes))

/* How many lower bits to take of bounds: those that seem the fastest. No choice changes a result; the
 * tests draw one. */
#ifndef TAKE_BITS
#define TAKE_BITS(best, least) (best)
#endif

/* What codes cost besides their bounds: level * factor / 256 units, rounded down; for no code where `levels` is NULL. */
typedef struct {
    const uint8_t *levels; /* in the order of a turned tile */
    int factor;            /* at most MOST_FACTOR, so that the words of columns.h have room */
} scan_terms;

enum { MOST_FACTOR = 32767 };
#define NO_TERMS ((scan_terms){NULL, 0})

/* The terms of the codes from place `at` on. */
static inline scan_terms terms_from(scan_terms terms, int64_t at) {
    return terms.levels ? (scan_terms){terms.levels + at, terms.factor} : terms;
}

/* Whether the bits chosen are to be thought over after so many tiles: 4, 16, 64 and so on. */
static inline int bits_are_due(int64_t tiles) { return !(tiles & (tiles - 1)) && (tiles & 0x5555555555555554); }

/* ---- memory of one thread ---------------------------------------------------------------------- */

typedef struct {
    void *memory;
    float *fields;    /* (M, ksub, lanes), only where bytes hold several sub-quantizers */
    float *tables;    /* (bytes, width, lanes), or (queries, bytes, width) */
    uint8_t *bounds;  /* the same, rounded down to 8 bits */
    float *queries;   /* (M * dsub, lanes), or (dsub, 16): sixteen codewords on their side */
    float *lowest;    /* (bytes, lanes): the tables' minima */
    float *minima;    /* (groups, lanes), or the scores of the sample */
    float *column;    /* (groups,) */
    scan_hits *best;  /* (lanes,): what has been found */
    float *scores;    /* (lanes, 2 * room) */
    int64_t *ids;     /* (lanes, room) */
    uint64_t *keys;   /* (2 * k,) */
    uint64_t *found;  /* survivors: row << LANE_BITS | lane */
    uint8_t *columns; /* (bytes, TILE): a tile of codes on its side */
    uint8_t *rest;    /* (TILE, bytes): the last codes */
    uint8_t *sampled; /* (bytes, TILE): a tile of the sample on its side */
    uint8_t *folded;  /* (bytes, 256): bounds of one query, by lower bits */
    uint8_t *sample;  /* (drawn, bytes): codes for a first bound */
    int64_t drawn;
} scan_scratch;

/* Survivors are scored FOUND_ENOUGH at a time: soon enough that the limit follows. Pruning is not given up before
 * it has left FOUND_FEW. */
enum { FOUND_ENOUGH = 128, FOUND_MAX = FOUND_ENOUGH + 2 * MAX_LANES, FOUND_FEW = 32768 };

/* Memory for a kernel of so many lanes; `prunes`: it takes a first bound from a sample; `lists`: it finds the
 * k best. */
static int scratch_new(scan_scratch *s, const scan_job *job, int lanes, int prunes, int lists) {
    int bounded = prunes && !job->hits;
    size_t bytes = (size_t)job->bytes, padded = (bytes + 15) / 16 * 16;
    size_t best = job->hits || !lists ? 0 : (size_t)lanes, room = (size_t)best_room(job, MORE_ROOM);
    size_t groups = bounded ? (size_t)group_count(job) : 0, sample = bounded ? (size_t)sample_count(job) : 0;
    size_t sizes[] = {
        job->fields > 1 ? sizeof(float) * job->M * job->ksub * lanes : 0,
        sizeof(float) * bytes * job->width * lanes,
        bytes * 256 * lanes,
        sizeof(float) * job->dsub * (job->M > 1 ? job->M : 1) * (lanes > 16 ? lanes : 16),
        sizeof(float) * bytes * lanes,
        sizeof(float) * (groups * lanes > sample ? groups * lanes : sample),
        sizeof(float) * groups,
        sizeof(scan_hits) * best,
        sizeof(float) * 2 * room * best,
        sizeof(int64_t) * room * best,
        best ? sizeof(uint64_t) * 2 * job->k : 0,
        sizeof(uint64_t) * FOUND_MAX,
        padded * TILE,
        bytes * TILE + 16,
        bounded ? padded * TILE : 0,
        bounded ? bytes * 256 : 0,
        sample * bytes + 16,
    };
    void **fields[] = {(void **)&s->fields, (void **)&s->tables, (void **)&s->bounds, (void **)&s->queries,
                       (void **)&s->lowest, (void **)&s->minima, (void **)&s->column, (void **)&s->best, (void **)&s->scores,
                       (void **)&s->ids, (void **)&s->keys, (void **)&s->found,
                       (void **)&s->columns, (void **)&s->rest, (void **)&s->sampled,
                       (void **)&s->folded, (void **)&s->sample};
    size_t total = 64, count = sizeof(sizes) / sizeof(sizes[0]);
    for (size_t i = 0; i < count; i++) total += (sizes[i] + 63) / 64 * 64;
    s->memory = malloc(total);
    if (!s->memory) return -1;
    char *at = (char *)(((uintptr_t)s->memory + 63) / 64 * 64);
    for (size_t i = 0; i < count; i++) {
        *fields[i] = at;
        at += (sizes[i] + 63) / 64 * 64;
    }
    s->drawn = bounded ? sample_draw(job, s->sample) : 0;
    return 0;
}

static void scratch_free(scan_scratch *s) { free(s->memory); }

/* An empty list for what query q, of this lane, finds. */
static scan_hits *list_new(const scan_job *job, const scan_scratch *s, int64_t q, int lane, int more) {
    if (job->hits) return job->hits + q;
    int64_t most = best_room(job, MORE_ROOM);
    s->best[lane] = (scan_hits){0, best_room(job, more), s->scores + 2 * most * lane, s->ids + most * lane};
    return s->best + lane;
}

/* Whether a query has found as many as it wants. */
static inline int is_complete(const scan_job *job, const scan_hits *hits) { return job->hits || hits->count >= job->k; }

/* ---- one query at a time -------------------------------------------------------------------------- */

/* The tables of one query, (bytes, width): the same sums in the same order as in a block. */
static void query_tables(const scan_job *job, int64_t q, float *fields, float *tables) {
    float *out = job->fields > 1 ? fields : tables;
    for (int m = 0; m < job->M; m++)
        for (int j = 0; j < job->ksub; j++) {
            int64_t entry = (int64_t)m * job->ksub + j;
            float sum = 0;
            if (job->luts) {
                sum = job->luts[q * job->M * job->ksub + entry];
            } else {
                const float *x = job->queries + (q * job->M + m) * job->dsub;
                const float *c = job->codebooks + entry * job->dsub;
                for (int t = 0; t < job->dsub; t++)
                    sum += job->inner_product ? x[t] * c[t] : (x[t] - c[t]) * (x[t] - c[t]);
            }
            out[entry] = job->inner_product ? -sum : sum;
        }
    if (job->fields == 1) return;
    int nbits = 8 / job->fields;
    for (int b = 0; b < job->bytes; b++)
        for (int v = 0; v < 256; v++) {
            float sum = 0;
            for (int f = 0; f < job->fields && b * job->fields + f < job->M; f++)
                sum += fields[(b * job->fields + f) * job->ksub + ((v >> (f * nbits)) & (job->ksub - 1))];
            tables[b * 256 + v] = sum;
        }
}

static inline float code_score(const float *tables, int width, int bytes, const uint8_t *code) {
    float sum = 0;
    for (int b = 0; b < bytes; b++) sum += tables[(size_t)b * width + code[b]];
    return sum;
}

/* The score of one code, of a length that is mostly known. */
static inline float score_code(const scan_job *job, const float *tables, const uint8_t *code) {
    if (job->width == 256 && job->bytes == 8) return code_score(tables, 256, 8, code);
    if (job->width == 256 && job->bytes == 16) return code_score(tables, 256, 16, code);
    return code_score(tables, job->width, job->bytes, code);
}

/* The scores of four codes: four sums in flight hide the latency of each. */
static inline __attribute__((always_inline)) void score_four(
        const float *tables, int width, int bytes, const uint8_t *code, float *sums) {
    float sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    for (int b = 0; b < bytes; b++, tables += width) {
        sum0 += tables[code[b]];
        sum1 += tables[code[bytes + b]];
        sum2 += tables[code[2 * bytes + b]];
        sum3 += tables[code[3 * bytes + b]];
    }
    sums[0] = sum0, sums[1] = sum1, sums[2] = sum2, sums[3] = sum3;
}

static inline __attribute__((always_inline)) void score_rows_fixed(
        const float *tables, int width, int bytes, const uint8_t *codes, int64_t n, float *scores) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) score_four(tables, width, bytes, codes + i * bytes, scores + i);
    for (; i < n; i++) scores[i] = code_score(tables, width, bytes, codes + i * bytes);
}

/* The scores of n codes. */
static void score_rows(const scan_job *job, const float *tables, const uint8_t *codes, int64_t n, float *scores) {
    if (job->width == 256 && job->bytes == 4) score_rows_fixed(tables, 256, 4, codes, n, scores);
    else if (job->width == 256 && job->bytes == 8) score_rows_fixed(tables, 256, 8, codes, n, scores);
    else if (job->width == 256 && job->bytes == 16) score_rows_fixed(tables, 256, 16, codes, n, scores);
    else score_rows_fixed(tables, job->width, job->bytes, codes, n, scores);
}

/* Full rankings sort keys: the score and the row. */
static void rank_keys(const scan_job *job, int64_t q, const scan_scratch *s, uint64_t *keys) {
    enum { ROWS = 256 };
    float scores[ROWS];
    query_tables(job, q, s->fields, s->tables);
    for (int64_t i = 0; i < job->n; i += ROWS) {
        int64_t rows = job->n - i < ROWS ? job->n - i : ROWS;
        score_rows(job, s->tables, job->codes + i * job->bytes, rows, scores);
        for (int64_t r = 0; r < rows; r++) {
            uint32_t bits = ascending_bits(scores[r]);
            if (!(scores[r] <= WORST_SCORE) || !is_allowed(job, i + r)) bits = UINT32_MAX;
            keys[i + r] = (uint64_t)bits << 32 | (uint64_t)(i + r);
        }
    }
}

static void rank_results(const scan_job *job, int64_t q, const uint64_t *keys, int64_t k) {
    float *D = job->D + q * job->k;
    int64_t *I = job->I + q * job->k;
    for (int64_t j = 0; j < job->k; j++) {
        uint32_t bits = j < k ? (uint32_t)(keys[j] >> 32) : UINT32_MAX;
        I[j] = bits == UINT32_MAX ? -1 : (int64_t)(keys[j] & UINT32_MAX);
        D[j] = I[j] < 0 ? FLT_MAX : ascending_float(bits);
        if (job->inner_product) D[j] = -D[j];
    }
}

/* A score that at least k codes reach, surely or very probably. */
static float bound_score(const scan_job *job, const scan_scratch *s, const float *tables, int sure) {
    if (job->hits) return job->radius;
    int64_t groups = group_count(job);
    for (int64_t g = 0; g < groups; g++) s->column[g] = WORST_SCORE;
    score_rows(job, tables, s->sample, s->drawn, s->minima);
    for (int64_t j = 0; j < s->drawn; j += groups) {
        int64_t count = s->drawn - j < groups ? s->drawn - j : groups;
        const float *scores = s->minima + j;
        for (int64_t g = 0; g < count; g++) s->column[g] = scores[g] < s->column[g] ? scores[g] : s->column[g];
    }
    return kth_smallest(s->column, groups, sample_place(job, s->drawn, sure));
}

/* Score every code from row `begin` on, without pruning. */
static void scan_rows(const scan_job *job, const float *tables, scan_hits *hits, scan_limit *limit, int64_t begin) {
    enum { ROWS = 256 };
    float scores[ROWS];
    for (int64_t i = begin; i < job->n; i += ROWS) {
        int64_t rows = job->n - i < ROWS ? job->n - i : ROWS;
        score_rows(job, tables, job->codes + i * job->bytes, rows, scores);
        for (int64_t r = 0; r < rows; r++)
            if (scores[r] <= limit->limit) query_offer(job, hits, limit, scores[r], i + r);
    }
}

/* Search among all codes for a query with these tables, without pruning. */
static void scan_all(const scan_job *job, int64_t q, const scan_scratch *s) {
    scan_limit limit = {0};
    limit_set(&limit, job->hits ? job->radius : WORST_SCORE);
    scan_hits *hits = list_new(job, s, q, 0, MORE_ROOM);
    scan_rows(job, s->tables, hits, &limit, 0);
    query_end(job, q, hits, s->keys);
}

/* Search for one query. */
static void scan_one(const scan_job *job, int64_t q, int count, const scan_scratch *s) {
    (void)count;
    query_tables(job, q, s->fields, s->tables);
    scan_all(job, q, s);
}

#endif
