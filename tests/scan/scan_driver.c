/* Runs the kernels on many random cases, at every SIMD level of this processor, and compares what they find,
 * bit for bit, with plain loops. For AddressSanitizer and UndefinedBehaviorSanitizer (`make sanitize`):
 * every input ends where its buffer ends, and is aligned to its elements but to no more.
 *
 *     scan_driver        all cases
 *     scan_driver 17     case 17 alone, as after a mismatch
 */
#include <stdio.h>

#include <stdint.h>

static int64_t below(int64_t n);
#define TAKE_BITS(best, least) ((least) + (int)below(9 - (least)))
#define TAKE_PLACE(place) below((place) + 1)

#include "_kernels/assign.h"
#include "_kernels/assign_few.h"
#include "_kernels/cell_sums.h"
#include "_kernels/kernels.h"
#include "_kernels/networks.h"

enum { CASES = 1000, WORK_MAX = 1500000 /* codes * queries * sub-quantizers of a case */ };
enum { RANKED_K = 4096, RANKED_FRACTION = 8 }; /* as in _scan.pyx */

static const char *const LEVELS[] = {"portable", "avx2", "avx512"};

/* ---- random numbers and memory -------------------------------------------------------------------- */

static uint64_t random_state;
static void *owned[1024];
static int owned_count;

static uint64_t random_bits(void) { /* SplitMix64 */
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static int64_t below(int64_t n) { return (int64_t)(random_bits() % (uint64_t)n); }

#define ONE_OF(...) (((const int[]){__VA_ARGS__})[below(sizeof((const int[]){__VA_ARGS__}) / sizeof(int))])

/* Keep memory until the case is over. */
static void *own(void *memory) {
    if (!memory) {
        fputs("scan_driver: no memory\n", stderr);
        exit(2);
    }
    return owned[owned_count++] = memory;
}

/* `count` elements at an odd multiple of their size, and nothing behind them. */
static void *buffer(int64_t count, int64_t size) {
    int64_t skip = (1 + 2 * below(8)) * size;
    return (char *)own(malloc(skip + count * size)) + skip;
}

static void free_owned(void) {
    while (owned_count) free(owned[--owned_count]);
}

enum { SMOOTH, SIGNED, WHOLE, EQUAL, FAR, OVERFLOWING, BROKEN, KINDS };

/* Table entries and coordinates of one kind. */
static float value(int kind) {
    float unit = (float)(random_bits() >> 40) * 0x1p-24f;
    switch (kind) {
    case SMOOTH: return unit;
    case SIGNED: return 100 * unit - 50;
    case WHOLE: return (float)below(4);
    case EQUAL: return 0.75f;
    case FAR: return 1e6f + unit; /* rounding errors exceed the differences */
    case OVERFLOWING: return (2 * unit - 1) * FLT_MAX;
    default: return below(500) ? unit : NAN; /* as sums that overflow leave it */
    }
}

static float *values(int64_t count, int kind) {
    float *v = buffer(count, sizeof(float));
    for (int64_t i = 0; i < count; i++) v[i] = value(kind);
    return v;
}

/* ---- a search, and what it must find -------------------------------------------------------------- */

typedef struct {
    scan_job job;
    int64_t nq, share; /* share: the queries of one thread */
    int ranked;        /* sort all codes, without a kernel */
    scan_hits *wanted; /* (nq,): the rows of D and I, or the hits */
} scan_case;

typedef struct {
    float score;
    int64_t id;
} scored;

static int compare_scored(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int compare_keys(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The partial score of query q for value j of sub-quantizer m. */
static float naive_partial(const scan_job *job, int64_t q, int m, int j) {
    float sum = 0;
    if (job->luts) {
        sum = job->luts[(q * job->M + m) * job->ksub + j];
    } else {
        const float *x = job->queries + (q * job->M + m) * job->dsub;
        const float *c = job->codebooks + ((int64_t)m * job->ksub + j) * job->dsub;
        for (int t = 0; t < job->dsub; t++) {
            float difference = x[t] - c[t];
            sum += job->inner_product ? x[t] * c[t] : difference * difference;
        }
    }
    return job->inner_product ? -sum : sum;
}

static float naive_score(const scan_job *job, const float *partials, const uint8_t *code) {
    float score = 0;
    for (int b = 0, m = 0; b < job->bytes; b++) {
        float of_byte = 0;
        for (int f = 0; f < job->fields && m < job->M; f++, m++)
            of_byte += partials[m * job->ksub + (code[b] >> (f * 8 / job->fields) & (job->ksub - 1))];
        score += of_byte;
    }
    return score;
}

/* The scores of all codes for query q. */
static float *naive_scores(const scan_job *job, int64_t q) {
    float *partials = malloc(sizeof(float) * job->M * job->ksub), *scores = malloc(sizeof(float) * (job->n + 1));
    for (int m = 0; m < job->M; m++)
        for (int j = 0; j < job->ksub; j++) partials[m * job->ksub + j] = naive_partial(job, q, m, j);
    for (int64_t i = 0; i < job->n; i++) scores[i] = naive_score(job, partials, job->codes + i * job->bytes);
    free(partials);
    return scores;
}

/* What query q must find, as the job gives it back. */
static scan_hits naive_search(const scan_job *job, int64_t q) {
    float *scores = naive_scores(job, q), most = job->hits ? job->radius : WORST_SCORE;
    scored *found = malloc(sizeof(scored) * (job->n + 1));
    int64_t count = 0;
    for (int64_t i = 0; i < job->n; i++)
        if (scores[i] <= most && (!job->allowed || job->allowed[i / 8] >> i % 8 & 1))
            found[count++] = (scored){scores[i], i};
    if (!job->hits) qsort(found, count, sizeof(scored), compare_scored);
    scan_hits hits = {.count = job->hits ? count : job->k};
    hits.scores = own(malloc(sizeof(float) * (hits.count + 1)));
    hits.ids = own(malloc(sizeof(int64_t) * (hits.count + 1)));
    for (int64_t j = 0; j < hits.count; j++) {
        scored best = j < count ? found[j] : (scored){FLT_MAX, -1};
        hits.scores[j] = !job->hits && job->inner_product ? -best.score : best.score;
        hits.ids[j] = best.id;
    }
    free(scores);
    free(found);
    return hits;
}

/* ---- random searches ------------------------------------------------------------------------------ */

/* `many`: whole bytes, and more codes than are scored without pruning. */
static void make_codes(scan_job *job, int many) {
    int nbits = many ? 8 : ONE_OF(1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8), packed = 8 % nbits == 0;
    job->bytes = below(2) ? 1 + (int)below(128) : ONE_OF(1, 2, 3, 4, 4, 8, 8, 15, 16, 17, 32, 33, 48, 64, 65, 128);
    job->ksub = 1 << nbits;
    job->fields = packed ? 8 / nbits : 1;
    job->width = packed ? 256 : job->ksub;
    job->M = job->bytes * job->fields - (int)below(job->fields);
    job->n = below(3) ? TILE * ONE_OF(1, 1, 2, 2, 3, 4, 6, 9, 16) + ONE_OF(-16, -2, -1, 0, 1, 2, 15, 100) : below(40);
    if (many) job->n += TILE * 5;
    int used = below(4) ? job->width : 2; /* few different codes tie */
    uint8_t *codes = job->n ? buffer(job->n * job->bytes, 1) : NULL;
    for (int64_t i = 0; i < job->n * job->bytes; i++) codes[i] = (uint8_t)below(used);
    job->codes = codes;
}

/* Let the `size` numbers of each of 256 entries be near those of the entries with the same lower 4 bits, and
 * nearer where more bits are the same. */
static void make_groups(float *entries, int64_t tables, int size) {
    float part = (float)ONE_OF(0, 1, 10, 50) * 0.01f;
    for (int64_t i = tables * 256 - 1; i >= 0; i--) {
        int v = (int)(i % 256);
        for (int t = 0; t < size; t++) {
            float *entry = entries + i * size + t, *first = entry - (int64_t)(v - v % 16) * size;
            float own = *entry;
            for (int bit = 16; bit < 256; bit *= 2) own = v & bit ? own * 0.5f : own;
            *entry = v < 16 ? *entry : *first + part * own;
        }
    }
}

static void make_tables(scan_job *job, int64_t nq) {
    int kind = (int)below(KINDS);
    job->inner_product = (int)below(2);
    int grouped = job->ksub == 256 && below(2);
    if (below(2)) {
        float *luts = values(nq * job->M * job->ksub, kind);
        if (grouped) make_groups(luts, nq * job->M, 1);
        job->luts = luts;
        return;
    }
    job->dsub = ONE_OF(1, 2, 3, 4, 5, 8);
    job->queries = values(nq * job->M * job->dsub, kind);
    float *codebooks = values((int64_t)job->M * job->ksub * job->dsub, kind);
    if (grouped) make_groups(codebooks, job->M, job->dsub);
    job->codebooks = codebooks;
}

static void make_allowed(scan_job *job) {
    if (!job->n || below(3)) return;
    int percent = ONE_OF(0, 1, 10, 50, 100);
    int64_t size = (job->n + 7) / 8, count = 0;
    uint8_t *bits = buffer(size, 1);
    memset(bits, 0, size);
    for (int64_t i = 0; i < 8 * size; i++) { /* those behind the last code mean nothing */
        int may = below(100) < percent;
        bits[i / 8] |= (uint8_t)(may << i % 8);
        count += may && i < job->n;
    }
    job->allowed = bits;
    job->allowed_share = (double)count / (double)job->n;
}

/* A radius at the score of some code, or that all or no codes reach. */
static void make_range(scan_case *c) {
    float *scores = naive_scores(&c->job, 0);
    c->job.hits = own(calloc(c->nq, sizeof(scan_hits)));
    c->job.radius = c->job.n && below(8) ? scores[below(c->job.n)] : below(2) ? WORST_SCORE : -INFINITY;
    if (!(c->job.radius <= WORST_SCORE)) c->job.radius = WORST_SCORE;
    free(scores);
}

static void make_nearest(scan_case *c) {
    scan_job *job = &c->job;
    int64_t most = job->n / RANKED_FRACTION > 1 ? job->n / RANKED_FRACTION : 1;
    job->k = below(4) ? 1 + below(below(2) ? most : most / 16 + 1) : 1 + below(job->n + 10);
    job->D = buffer(c->nq * job->k, sizeof(float));
    job->I = buffer(c->nq * job->k, sizeof(int64_t));
    c->ranked = job->k > RANKED_K || job->k * RANKED_FRACTION > job->n || !below(8);
}

static scan_case make_case(void) {
    int alone = !below(4); /* one query, which takes a way of its own */
    scan_case c = {.nq = alone ? 1 : below(3) ? ONE_OF(1, 1, 1, 1, 1, 1, 2, 3, 16, 17, 33, 40, 41, 64, 65, 100) : 1 + below(100)};
    make_codes(&c.job, alone);
    int64_t most = WORK_MAX / ((c.job.n + 256) * c.job.M);
    if (c.nq > most) c.nq = most > 1 ? most : 1;
    int64_t threads = ONE_OF(1, 1, 1, 2, 3);
    c.share = (c.nq + threads - 1) / threads;
    make_tables(&c.job, c.nq);
    make_allowed(&c.job);
    if (alone || below(3)) make_nearest(&c);
    else make_range(&c);
    c.wanted = own(malloc(sizeof(scan_hits) * c.nq));
    for (int64_t q = 0; q < c.nq; q++) c.wanted[q] = naive_search(&c.job, q);
    return c;
}

/* ---- the kernels on a case ------------------------------------------------------------------------ */

static void rank_all(const scan_job *job, int64_t q, const scan_scratch *scratch) {
    int64_t k = job->k < job->n ? job->k : job->n;
    uint64_t *keys = malloc(sizeof(uint64_t) * job->n);
    if (k) {
        rank_keys(job, q, scratch, keys);
        qsort(keys, job->n, sizeof(uint64_t), compare_keys);
    }
    rank_results(job, q, k ? keys : NULL, k);
    free(keys);
}

/* Move all parts but the last to memory of their own, which ASan guards, filled with NaN. */
static void spread(scan_scratch *s) {
    void **parts[] = {(void **)&s->fields, (void **)&s->tables, (void **)&s->bounds, (void **)&s->queries,
                      (void **)&s->lowest, (void **)&s->minima, (void **)&s->column, (void **)&s->best,
                      (void **)&s->scores, (void **)&s->ids, (void **)&s->keys, (void **)&s->found,
                      (void **)&s->columns, (void **)&s->rest, (void **)&s->sampled,
                      (void **)&s->folded, (void **)&s->sample};
    for (size_t i = 0; i + 1 < sizeof(parts) / sizeof(parts[0]); i++) {
        size_t size = (size_t)((char *)*parts[i + 1] - (char *)*parts[i]);
        if (size) *parts[i] = memset(own(aligned_alloc(64, size)), 0xff, size);
    }
}

/* As `work` of _scan.pyx does it. */
static void search(const scan_case *c, int simd) {
    scan_scratch scratch;
    scan_kernel kernel = choose_kernel(&c->job, simd, c->share);
    if (scratch_new(&scratch, &c->job, kernel.lanes, kernel.prunes, !c->ranked)) exit(2);
    spread(&scratch);
    for (int64_t first = 0; first < c->nq;) {
        if (c->ranked) {
            rank_all(&c->job, first++, &scratch);
            continue;
        }
        kernel = choose_kernel(&c->job, simd, c->nq - first < c->share ? c->nq - first : c->share);
        kernel.search(&c->job, first, kernel.queries, &scratch);
        first += kernel.queries;
    }
    scratch_free(&scratch);
}

static int is_wanted(const scan_case *c, int64_t q) {
    const scan_job *job = &c->job;
    scan_hits found, wanted = c->wanted[q];
    if (job->hits) found = job->hits[q];
    else found = (scan_hits){job->k, job->k, job->D + q * job->k, job->I + q * job->k};
    return found.room >= 0 && found.count == wanted.count &&
           (!found.count || (!memcmp(found.scores, wanted.scores, sizeof(float) * found.count) &&
                             !memcmp(found.ids, wanted.ids, sizeof(int64_t) * found.count)));
}

/* Search at one level; the number of queries that find anything else than they must. */
static int64_t wrong_queries(scan_case *c, int simd) {
    scan_job *job = &c->job;
    int64_t wrong = 0;
    if (!job->hits) {
        memset(job->D, 0xaa, sizeof(float) * c->nq * job->k);
        memset(job->I, 0xaa, sizeof(int64_t) * c->nq * job->k);
    }
    search(c, simd);
    for (int64_t q = 0; q < c->nq; q++) wrong += !is_wanted(c, q);
    for (int64_t q = 0; job->hits && q < c->nq; q++) {
        free(job->hits[q].scores);
        free(job->hits[q].ids);
        job->hits[q] = (scan_hits){0};
    }
    return wrong;
}

/* Say that a case went wrong. */
static int report(int number, int simd, int64_t wrong, int64_t count) {
    if (wrong) fprintf(stderr, "case %d, %s: %d of %d wrong\n", number, LEVELS[simd], (int)wrong, (int)count);
    return wrong > 0;
}

static int check_scan(int number) {
    scan_case c = make_case();
    int failed = 0;
    for (int simd = SIMD_PORTABLE; simd <= simd_supported(); simd++)
        failed |= report(number, simd, wrong_queries(&c, simd), c.nq);
    if (failed)
        fprintf(stderr, "  n %d, bytes %d, width %d, fields %d, nq %d, k %d, %s, %s, %s\n", (int)c.job.n, c.job.bytes,
                c.job.width, c.job.fields, (int)c.nq, (int)c.job.k, c.job.luts ? "luts" : "queries",
                c.job.inner_product ? "inner product" : "L2", c.ranked ? "ranked" : "scanned");
    return failed;
}

/* ---- nearest codewords ---------------------------------------------------------------------------- */

/* Multiples of 1/4 in groups that lie far apart: distances are exact in double precision, scores are not. */
static float *far_quarters(float *v, int64_t count, int dsub, float gap) {
    for (int64_t i = 0; i < count; i += dsub) {
        float group = gap * (float)below(3);
        for (int t = 0; t < dsub; t++) v[i + t] = group + 0.25f * (float)below(9);
    }
    return v;
}

static int32_t naive_word(const float *codewords, const float *z, int ksub, int dsub) {
    double least = INFINITY;
    int32_t word = 0;
    for (int j = 0; j < ksub; j++) {
        double sum = 0;
        for (int t = 0; t < dsub; t++) {
            double difference = (double)z[t] - codewords[j * dsub + t];
            sum += difference * difference;
        }
        if (sum < least) least = sum, word = j;
    }
    return word;
}

/* 1 if several nearest codewords of vectors z (n, dsub) are not found, or not in order. */
static int check_near(int simd, const float *codewords, const float *z, int64_t n, int ksub, int dsub) {
    assign_codebook book;
    near_scratch scratch;
    if (assign_book_new(&book, codewords, ksub, dsub, 0)) return 1;
    if (near_scratch_new(&scratch, &book)) return 1;
    int64_t count = 1 + below(ksub), wrong = 0, *found = buffer(n * count, sizeof(int64_t));
    double *distances = buffer(ksub, sizeof(double));
    wrong += n && !near_kernel(simd)(&book, z, n, &scratch, count, found);
    for (int64_t i = 0; i < n; i++) {
        for (int j = 0; j < ksub; j++) {
            distances[j] = 0;
            for (int t = 0; t < dsub; t++) {
                double difference = (double)z[i * dsub + t] - codewords[j * dsub + t];
                distances[j] += difference * difference;
            }
        }
        for (int64_t c = 0; c < count; c++) {
            int least = 0;
            for (int j = 1; j < ksub; j++) least = distances[j] < distances[least] ? j : least;
            wrong += found[i * count + c] != least;
            distances[least] = INFINITY;
        }
    }
    near_scratch_free(&scratch);
    assign_book_free(&book);
    return wrong > 0;
}

static int check_assignment(int number) {
    int ksub = 1 + (int)below(below(2) ? 32 : 600), dsub = 1 + (int)below(20), failed = 0;
    float gap = below(2) ? 0 : 1 << (4 + below(16));
    float *codewords = far_quarters(buffer(ksub * dsub, sizeof(float)), ksub * dsub, dsub, gap);
    assign_codebook book;
    if (assign_book_new(&book, codewords, ksub, dsub, 1)) return 1;
    int64_t n = below(40), stride = dsub * (1 + below(2)), skip = stride - dsub;
    float *z = far_quarters(buffer(n * stride, sizeof(float)), n * stride, dsub, gap);
    float *centred = buffer(n * dsub, sizeof(float));
    int32_t *words = buffer(n, sizeof(int32_t));
    float *distances = buffer(distances_room(ksub), sizeof(float));
    for (int simd = SIMD_PORTABLE; simd <= simd_supported(); simd++) {
        int64_t wrong = 0;
        assign_kernel(simd)(&book, z + skip, n, stride, centred, words); /* the last sub-space of every row */
        for (int64_t i = 0; i < n; i++) {
            const float *x = z + i * stride + skip;
            int32_t word = naive_word(codewords, x, ksub, dsub);
            wrong += words[i] != word || nearest_word(distances_kernel(simd), x, codewords, ksub, dsub, distances) != word;
        }
        failed |= report(number, simd, wrong, n);
        if (!skip) failed |= check_near(simd, codewords, z, n, ksub, dsub);
    }
    assign_book_free(&book);
    return failed;
}

/* ---- decoders -------------------------------------------------------------------------------------- */

/* A number of a network, of -1, 0 and 1 if `whole`: all sums are exact then. */
static float *weights(int64_t count, int whole) {
    float *v = buffer(count, sizeof(float));
    for (int64_t i = 0; i < count; i++) v[i] = whole ? (float)below(3) - 1 : (float)(below(2001) - 1000) * 1e-3f;
    return v;
}

/* The weight (t, c) of panels of `wide` rows. */
static float weight_of(const float *panels, int wide, int t, int c) {
    return panels[((int64_t)(c / DECODE_PANEL) * wide + t) * DECODE_PANEL + c % DECODE_PANEL];
}

/* Decode one code by loops, in double precision. */
static void naive_decode(
        const decode_network *net, const int32_t *words, int64_t i, double *inside, double *hidden, double *z) {
    for (int t = 0; t < net->inside; t++) {
        inside[t] = net->bias[t];
        if (net->cells) inside[t] += net->cell_entered[(int64_t)net->cells[i] * net->inside + t];
        for (int m = 0; m < net->M; m++) inside[t] += net->entered[((int64_t)m * net->ksub + words[m]) * net->inside + t];
    }
    for (int c = 0; c < net->h; c++) {
        hidden[c] = net->cells ? net->cell_features[(int64_t)net->cells[i] * net->h + c] : 0;
        for (int m = 0; m < net->M; m++) hidden[c] += net->features[((int64_t)m * net->ksub + words[m]) * net->h + c];
        for (int t = 0; t < net->inside; t++) hidden[c] += fmax(inside[t], 0) * weight_of(net->outer, net->inside, t, c);
    }
    for (int c = 0; c < net->d; c++) {
        z[c] = 0;
        for (int m = 0; m < net->M; m++) z[c] += net->tables[((int64_t)m * net->ksub + words[m]) * net->d + c];
        for (int t = 0; t < net->h; t++) z[c] += fmax(hidden[t], 0) * weight_of(net->output, net->h, t, c);
    }
}

/* Decode random words, and choose words for random vectors; 1 for what is not as it must be. */
static int check_network(int number) {
    int M = 1 + (int)below(9), ksub = ONE_OF(2, 16, 300), h = DECODE_PANEL * ONE_OF(1, 2, 3), d = DECODE_PANEL * ONE_OF(1, 2);
    int w = DECODE_PANEL * ONE_OF(1, 2, 3), A = 1 + (int)below(ksub < 9 ? ksub : 9), whole = (int)below(2), failed = 0;
    int64_t n = 1 + below(150), k = 1 + below(12), found = k + below(40);
    decode_network net = {.M = M, .ksub = ksub, .h = h, .inside = w, .d = d,
                          .tables = weights((int64_t)M * ksub * d, whole), .features = weights((int64_t)M * ksub * h, whole),
                          .entered = weights((int64_t)M * ksub * w, whole), .bias = weights(w, whole),
                          .outer = weights((int64_t)w * h, whole), .output = weights((int64_t)h * d, whole)};
    int32_t *words = buffer(n * M, sizeof(int32_t)), *candidates = buffer(n * M * A, sizeof(int32_t));
    int32_t *chosen = buffer(n * M, sizeof(int32_t)), *own = buffer(2 * DECODE_ROWS * M, sizeof(int32_t));
    int8_t *summands = buffer((int64_t)M * ksub * d, 1);
    float *wanted = weights(n * d, whole), *z = weights(n * d, whole), *spare = weights(DECODE_ROWS * (w + h), whole);
    double *right = buffer(w + h + d, sizeof(double));
    for (int64_t i = 0; i < n * M; i++) words[i] = (int32_t)below(ksub);
    for (int64_t i = 0; i < n * M * A; i++) candidates[i] = (int32_t)below(ksub);
    for (int64_t i = 0; i < (int64_t)M * ksub * d; i++) summands[i] = (int8_t)(below(255) - 127);
    if (number & 1) {
        int count = 1 + (int)below(5);
        int32_t *cells = buffer(n, sizeof(int32_t));
        for (int64_t i = 0; i < n; i++) cells[i] = (int32_t)below(count);
        net.cells = cells;
        net.cell_features = weights((int64_t)count * h, whole);
        net.cell_entered = weights((int64_t)count * w, whole);
    }
    choose_job job = {.network = net, .summands = summands, .scale = 100, .candidates = A, .trials = (int)below(20),
                      .hope = 0.1f, .inside = weights(DECODE_ROWS * w, 1), .hidden = weights(DECODE_ROWS * h, 1),
                      .z = weights(DECODE_ROWS * d, 1), .aim = weights(d, 1), .rest = weights(d, 1)};
    choose_slot slots[DECODE_ROWS];
    float *numbers = weights(DECODE_ROWS * choose_room(&job), 1);
    uint8_t *bytes = buffer(found * M, 1);
    int64_t *ids = buffer(found, sizeof(int64_t)), *places = buffer(found, sizeof(int64_t)), *I = buffer(found, sizeof(int64_t));
    float *costs = weights(found, 1), *sums = weights(d, 1), *D = weights(found, 1);
    for (int64_t i = 0; i < found * M; i++) bytes[i] = (uint8_t)below(ksub < 256 ? ksub : 256);
    for (int64_t i = 0; i < found; i++) {
        ids[i] = below(8) ? i : -1;
        places[i] = below(n);
    }
    for (int simd = 0; simd <= simd_supported(); simd++) {
        for (int64_t i = 0; i < n; i += DECODE_ROWS) {
            int count = n - i < DECODE_ROWS ? (int)(n - i) : DECODE_ROWS;
            decode_network part = net;
            if (net.cells) part.cells += i;
            decode_kernel(simd)(&part, words + i * M, count, spare, spare + DECODE_ROWS * w, z + i * d);
        }
        for (int64_t i = 0; i < n; i++) {
            double *decoded = right + w + h;
            naive_decode(&net, words + i * M, i, right, right + w, decoded);
            for (int t = 0; t < d; t++) failed |= !(fabs(z[i * d + t] - decoded[t]) <= 1e-3 * (1 + fabs(decoded[t])));
        }
        choose_place(&job, slots, numbers, own);
        choosing_kernel(simd)(&job, slots, wanted, candidates, n, chosen);
        for (int64_t i = 0; i < n * M; i++) {
            int given = 0;
            for (int a = 0; a < A; a++) given |= chosen[i] == candidates[i * A + a];
            failed |= !given;
        }
        rough_kernel(simd)(summands, M, ksub, d, bytes, found, wanted, number & 1, sums, costs);
        rank_pick(ids, costs, found, k, D, I);
        rank_kernel(simd)(wanted, z, d, ids, places, found, number & 1, D, I, k);
        for (int64_t j = 1; j < k; j++)
            failed |= number & 1 ? D[j] > D[j - 1] : D[j] < D[j - 1];
    }
    if (failed) printf("case %d: mismatch of a decoder\n", number);
    return failed;
}

/* Choose words of additive codes; with one beginning kept, by loops, in double precision: numbers are whole. */
static int check_beam(int number) {
    int M = 1 + (int)below(6), ksub = ONE_OF(1, 2, 16, 100), width = 1 + (int)below(12), failed = 0;
    int64_t n = below(20);
    float *costs = weights(n * M * ksub, 1), *cross = weights((int64_t)M * (M - 1) / 2 * ksub * ksub, 1);
    int32_t *words = buffer(n * M, sizeof(int32_t));
    beam_job job = {.M = M, .ksub = ksub, .width = number & 1 ? 1 : width, .cross = cross,
                    .words = buffer(2 * width * M, sizeof(int32_t)), .errors = buffer(width, sizeof(float)),
                    .next = buffer(width * ksub, sizeof(float)), .places = buffer(width, sizeof(int32_t)),
                    .spare = buffer(width * ksub, sizeof(int32_t))};
    for (int simd = 0; simd <= simd_supported(); simd++) {
        beam_kernel(simd)(&job, costs, n, words);
        for (int64_t i = 0; i < n; i++)
            for (int m = 0; m < M; m++) {
                int32_t best = 0, word = words[i * M + m];
                double least = INFINITY;
                failed |= word < 0 || word >= ksub;
                for (int k = 0; k < ksub && job.width == 1; k++) {
                    double error = costs[(i * M + m) * ksub + k];
                    for (int j = 0; j < m; j++) error += cross[((m * (m - 1) / 2 + j) * ksub + words[i * M + j]) * ksub + k];
                    if (error < least) least = error, best = k;
                }
                failed |= job.width == 1 && word != best;
            }
    }
    if (failed) printf("case %d: mismatch of additive codes\n", number);
    return failed;
}

/* Sums of few numbers, at every place of a buffer that ends with them. */
static int check_sums(int number) {
    int64_t n = below(70);
    int failed = 0;
    float *x = far_quarters(buffer(n, sizeof(float)), n, 1, 0);
    for (int simd = SIMD_PORTABLE; simd <= simd_supported(); simd++) {
        float *floats = buffer(n, sizeof(float));
        double *doubles = buffer(n, sizeof(double)), squares = 0;
        int64_t wrong = 0;
        for (int64_t i = 0; i < n; i++) floats[i] = 1, doubles[i] = 2, squares += (double)x[i] * x[i];
        cell_sums_of(simd)->floats(floats, x, n);
        cell_sums_of(simd)->doubles(doubles, x, n);
        for (int64_t i = 0; i < n; i++) wrong += floats[i] != 1 + x[i] || doubles[i] != 2 + (double)x[i];
        wrong += cell_sums_of(simd)->squares(x, n) != squares;
        failed |= report(number, simd, wrong, n);
    }
    return failed;
}

/* ---- codes in cells --------------------------------------------------------------------------------- */

static float *small_numbers(int64_t count) {
    float *v = buffer(count, sizeof(float));
    for (int64_t i = 0; i < count; i++) v[i] = (float)below(5) - 2;
    return v;
}

/* The score of a code in a cell by loops; whole numbers, so that every order of sums gives the same. */
static float naive_in_cell(const cells_job *c, int64_t q, int64_t cell, int64_t row) {
    const scan_job *job = &c->job;
    int d = job->M * job->dsub;
    float score = 0;
    for (int t = 0; t < d; t++) {
        int m = t / job->dsub, shift = m % job->fields * (8 / job->fields);
        int word = c->lists[cell].codes[row * job->bytes + m / job->fields] >> shift & (job->ksub - 1);
        float r = job->codebooks[(m * job->ksub + word) * job->dsub + t % job->dsub], x = c->queries[q * d + t];
        float centre = c->residual ? c->centres[cell * d + t] : 0;
        score += job->inner_product ? -x * (centre + r) : (x - centre - r) * (x - centre - r);
    }
    return score;
}

/* Search random lists; 1 for results that are not those of loops over all codes. */
static int check_lists(int number) {
    int M = 1 + (int)below(10), dsub = 1 + (int)below(9), nbits = ONE_OF(2, 4, 8, 8, 8), d = M * dsub, failed = 0;
    int64_t nlist = 1 + below(6), nq = 1 + below(20), nprobe = 1 + below(nlist), k = 1 + below(40), most = 0;
    cell_list *lists = buffer(nlist, sizeof(cell_list));
    int64_t *cells = buffer(nq * nprobe, sizeof(int64_t));
    uint8_t **levels = buffer(nlist, sizeof(uint8_t *)), **allowed = buffer(nlist, sizeof(uint8_t *));
    cells_job c = {.nq = nq, .nprobe = nprobe, .cells = cells, .lists = lists, .parts = 1, .per_part = nlist,
                   .residual = (int)below(2), .k = k, .queries = small_numbers(nq * d), .centres = small_numbers(nlist * d),
                   .middle = small_numbers(d), .reach = 2 * sqrt(d) + 1e-3};
    c.job.M = M, c.job.ksub = 1 << nbits, c.job.dsub = dsub, c.job.fields = 8 / nbits, c.job.width = 256;
    c.job.bytes = (M * nbits + 7) / 8, c.job.inner_product = (int)below(2);
    c.job.codebooks = small_numbers((int64_t)M * c.job.ksub * dsub);
    float *squares = buffer((int64_t)c.job.bytes * 256, sizeof(float));
    for (int b = 0; b < c.job.bytes; b++)
        for (int v = 0; v < 256; v++) {
            float *sum = squares + b * 256 + v;
            *sum = 0;
            for (int f = 0; f < c.job.fields && b * c.job.fields + f < M; f++)
                for (int t = 0; t < dsub; t++) {
                    float r = c.job.codebooks[((b * c.job.fields + f) * c.job.ksub + (v >> f * nbits & (c.job.ksub - 1))) * dsub + t];
                    *sum += r * r;
                }
        }
    for (int64_t l = 0; l < nlist; l++) {
        int64_t n = below(ONE_OF(2, 100, 1200));
        uint8_t *codes = buffer(n * c.job.bytes, 1);
        int64_t *ids = buffer(n, sizeof(int64_t));
        for (int64_t i = 0; i < n * c.job.bytes; i++) codes[i] = (uint8_t)below(256);
        for (int64_t i = 0; i < n; i++) ids[i] = below(1000);
        levels[l] = buffer((n + TILE - 1) / TILE * TILE, 1);
        allowed[l] = buffer((n + 7) / 8, 1);
        for (int64_t i = 0; i < (n + 7) / 8; i++) allowed[l][i] = (uint8_t)below(256);
        lists[l] = (cell_list){.codes = codes, .ids = ids, .n = n};
        most += n;
    }
    for (int64_t q = 0; q < nq; q++)
        for (int64_t j = 0, first = below(nlist); j < nprobe; j++) cells[q * nprobe + j] = below(20) ? (first + j) % nlist : -1;
    c.allowed = below(3) ? NULL : (const uint8_t *const *)allowed;
    c.D = buffer(nq * k, sizeof(float)), c.I = buffer(nq * k, sizeof(int64_t)), c.places = buffer(nq * k, sizeof(int64_t));
    cell_hit *right = buffer(most + 1, sizeof(cell_hit));
    for (int simd = 0; simd <= simd_supported(); simd++) {
        cell_scratch scratch;
        if (cell_scratch_new(&scratch, &c, nq, cell_groups(k))) return 1;
        for (int64_t l = 0; has_terms(&c) && l < nlist; l++) {
            failed |= !terms_kernel(simd)(&c, &scratch, squares, l, lists[l].codes, lists[l].n, levels[l], &lists[l].least, &lists[l].step);
            lists[l].terms = levels[l];
        }
        cells_kernel(simd)(&c, 0, nq, &scratch);
        cell_scratch_free(&scratch);
        for (int64_t q = 0; q < nq; q++) {
            int64_t found = 0;
            for (int64_t j = 0; j < nprobe; j++) {
                int64_t cell = cells[q * nprobe + j];
                for (int64_t i = 0; cell >= 0 && i < lists[cell].n; i++)
                    if (is_found(&c, cell, i))
                        right[found++] = (cell_hit){naive_in_cell(&c, q, cell, i), cell << 32 | i};
            }
            for (int64_t j = 0; j < k; j++) { /* by selection */
                for (int64_t i = j + 1; j < found && i < found; i++)
                    if (hit_before(&c, right[i], right[j])) {
                        cell_hit swapped = right[i];
                        right[i] = right[j];
                        right[j] = swapped;
                    }
                float score = c.job.inner_product ? -c.D[q * k + j] : c.D[q * k + j];
                failed |= j < found ? score != right[j].score || c.places[q * k + j] != right[j].place || c.I[q * k + j] != id_at(&c, right[j].place)
                                    : c.I[q * k + j] != -1;
            }
        }
    }
    if (failed) printf("case %d: mismatch of codes in cells\n", number);
    return failed;
}

int main(int argc, char **argv) {
    int first = argc > 1 ? atoi(argv[1]) : 0, end = argc > 1 ? first + 1 : CASES, failed = 0;
    for (int number = first; number < end && failed < 10; number++) {
        random_state = (uint64_t)number << 32;
        failed += number % 8 == 7   ? check_assignment(number)
                  : number % 8 == 3 ? check_network(number) | check_beam(number)
                  : number % 8 == 6 ? check_sums(number)
                  : number % 8 == 2 ? check_lists(number)
                                    : check_scan(number);
        free_owned();
    }
    printf("scan_driver, compiler %s: %d cases up to %s, %d with mismatches\n", __VERSION__, end - first,
           LEVELS[simd_supported()], failed);
    return failed > 0;
}
