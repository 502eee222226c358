/* A scan of all codes for up to LANES queries at once, a query in every lane; included once per
 * instruction set.
 *
 * The tables of the block lie lane by lane, (bytes, width, LANES), so that one load brings the
 * entries of all its queries. Beside the float tables stand their 8-bit bounds. A saturating sum of
 * bounds above a query's limit proves the code useless; the others ("survivors", about one in a
 * thousand) are scored exactly from the float tables. Pruning never changes a result.
 *
 * Defined by the includer: LANES, FLOAT_BYTES (of a float register), NAME(x), and either PORTABLE or
 * MINIMUM (of floats, b where a is NaN), BYTES (a register of LANES bytes), ADD_SATURATED and
 * AT_MOST (a mask of the lanes with a <= b).
 */

typedef float NAME(floats) __attribute__((vector_size(FLOAT_BYTES), may_alias));
#define FLOATS NAME(floats)
#define PARTS ((int)(LANES * sizeof(float) / FLOAT_BYTES)) /* registers that hold one float a lane */

typedef uint8_t NAME(bytes) __attribute__((vector_size(LANES), may_alias));
typedef uint16_t NAME(words) __attribute__((vector_size(2 * LANES), may_alias));

#ifdef PORTABLE
typedef int32_t NAME(ints) __attribute__((vector_size(FLOAT_BYTES), may_alias));
#define BYTES NAME(bytes)
static inline BYTES NAME(add_saturated)(BYTES a, BYTES b) {
    BYTES sum = a + b;
    return sum | (BYTES)(sum < a);
}
static inline uint64_t NAME(at_most)(BYTES a, BYTES b) {
    union { BYTES v; uint64_t half[2]; uint8_t lane[LANES]; } le = {(BYTES)(a <= b)};
    if (!(le.half[0] | le.half[1])) return 0;
    uint64_t mask = 0;
    for (int q = 0; q < LANES; q++) mask |= (uint64_t)(le.lane[q] & 1) << q;
    return mask;
}
static inline FLOATS NAME(minimum)(FLOATS a, FLOATS b) {
    NAME(ints) less = (NAME(ints))(a < b);
    return (FLOATS)((less & (NAME(ints))a) | (~less & (NAME(ints))b));
}
#define MINIMUM NAME(minimum)
#define ADD_SATURATED NAME(add_saturated)
#define AT_MOST NAME(at_most)
#endif

/* (M, ksub, LANES) partial scores of queries first .. first + count; idle lanes repeat the last. */
static void NAME(fill_fields)(const scan_job *job, int64_t first, int count, float *queries, float *out) {
    int64_t entries = (int64_t)job->M * job->ksub;
    if (job->luts) {
        for (int q = 0; q < LANES; q++) {
            const float *lut = job->luts + (first + (q < count ? q : count - 1)) * entries;
            for (int64_t e = 0; e < entries; e++) out[e * LANES + q] = job->inner_product ? -lut[e] : lut[e];
        }
        return;
    }
    int64_t d = (int64_t)job->M * job->dsub;
    for (int q = 0; q < LANES; q++) {
        const float *x = job->queries + (first + (q < count ? q : count - 1)) * d;
        for (int64_t t = 0; t < d; t++) queries[t * LANES + q] = x[t];
    }
    for (int64_t e = 0; e < entries; e++) {
        const FLOATS *x = (const FLOATS *)(queries + e / job->ksub * job->dsub * LANES);
        const float *c = job->codebooks + e * job->dsub;
        FLOATS sum[PARTS];
        for (int p = 0; p < PARTS; p++) sum[p] = (FLOATS){0};
        if (job->inner_product) {
            for (int t = 0; t < job->dsub; t++, x += PARTS)
                for (int p = 0; p < PARTS; p++) sum[p] += x[p] * c[t];
            for (int p = 0; p < PARTS; p++) sum[p] = -sum[p];
        } else {
            for (int t = 0; t < job->dsub; t++, x += PARTS)
                for (int p = 0; p < PARTS; p++) sum[p] += (x[p] - c[t]) * (x[p] - c[t]);
        }
        for (int p = 0; p < PARTS; p++) ((FLOATS *)(out + e * LANES))[p] = sum[p];
    }
}

/* Sum the sub-quantizers that share a byte: (bytes, 256, LANES). */
static void NAME(join_fields)(const scan_job *job, const float *fields, float *tables) {
    int nbits = 8 / job->fields;
    for (int b = 0; b < job->bytes; b++)
        for (int v = 0; v < 256; v++) {
            FLOATS *sum = (FLOATS *)(tables + ((int64_t)b * 256 + v) * LANES);
            for (int p = 0; p < PARTS; p++) sum[p] = (FLOATS){0};
            for (int f = 0; f < job->fields && b * job->fields + f < job->M; f++) {
                int64_t entry = (int64_t)(b * job->fields + f) * job->ksub + ((v >> (f * nbits)) & (job->ksub - 1));
                for (int p = 0; p < PARTS; p++) sum[p] += ((const FLOATS *)(fields + entry * LANES))[p];
            }
        }
}

static inline void NAME(score_lanes)(const scan_job *job, const float *tables, const uint8_t *code, FLOATS *sum) {
    for (int p = 0; p < PARTS; p++) sum[p] = (FLOATS){0};
    for (int b = 0; b < job->bytes; b++) {
        const FLOATS *entry = (const FLOATS *)(tables + ((int64_t)b * job->width + code[b]) * LANES);
        for (int p = 0; p < PARTS; p++) sum[p] += entry[p];
    }
}

/* Per lane, a score that at least k codes reach, surely or very probably. */
static void NAME(bound_scores)(const scan_job *job, const scan_scratch *s, int sure, float *bound) {
    if (job->hits) {
        for (int q = 0; q < LANES; q++) bound[q] = job->radius;
        return;
    }
    int64_t groups = group_count(job);
    for (int64_t j = 0; j < groups * LANES; j++) s->minima[j] = WORST_SCORE;
    for (int64_t j = 0, group = 0; j < s->drawn; j++, group = group + 1 == groups ? 0 : group + 1) {
        FLOATS sum[PARTS], *best = (FLOATS *)(s->minima + group * LANES);
        NAME(score_lanes)(job, s->tables, s->sample + j * job->bytes, sum);
        for (int p = 0; p < PARTS; p++) best[p] = MINIMUM(sum[p], best[p]);
    }
    for (int q = 0; q < LANES; q++) {
        for (int64_t g = 0; g < groups; g++) s->column[g] = s->minima[g * LANES + q];
        bound[q] = kth_smallest(s->column, groups, sample_place(job, s->drawn, sure));
    }
}

/* Which lanes have only whole numbers of units in tables from .. to, in themselves and not just above
 * the minima, where rounding may hide that they are none; entries of 256 units or more may be any. */
static uint64_t NAME(whole_lanes)(const scan_job *job, const scan_scratch *s, const float *scale, int from, int to) {
    int32_t broken[LANES] __attribute__((aligned(64))) = {0};
    for (int b = from; b < to; b++) {
        const float *restrict lowest = s->lowest + b * LANES;
        for (int j = 0; j < job->width; j++) {
            const float *restrict table = s->tables + ((int64_t)b * job->width + j) * LANES;
            for (int q = 0; q < LANES; q++) {
                float units = (table[q] - lowest[q]) * scale[q] < 256 ? table[q] * scale[q] : 0;
                broken[q] |= units != (float)(int32_t)units;
            }
        }
    }
    uint64_t whole = 0;
    for (int q = 0; q < LANES; q++) whole |= (uint64_t)!broken[q] << q;
    return whole;
}

/* Round the tables down to 8 bits; 0 where a lane's do not suit. */
static int NAME(make_bounds)(const scan_job *job, const scan_scratch *s, const float *bound, scan_limit *limits) {
    float base[LANES], size[LANES], scale[LANES] __attribute__((aligned(64)));
    for (int q = 0; q < LANES; q++) base[q] = size[q] = 0;
    for (int b = 0; b < job->bytes; b++) {
        const float *table = s->tables + (int64_t)b * job->width * LANES;
        FLOATS lowest[PARTS];
        for (int p = 0; p < PARTS; p++) lowest[p] = ((const FLOATS *)table)[p];
        for (int j = 1; j < job->width; j++)
            for (int p = 0; p < PARTS; p++) lowest[p] = MINIMUM(((const FLOATS *)table)[j * PARTS + p], lowest[p]);
        memcpy(s->lowest + b * LANES, lowest, sizeof(lowest));
        for (int q = 0; q < LANES; q++) {
            base[q] += s->lowest[b * LANES + q];
            size[q] += fabsf(s->lowest[b * LANES + q]);
        }
    }
    for (int q = 0; q < LANES; q++) {
        if (!limit_scale(limits + q, job, bound[q], base[q], size[q])) return 0;
        scale[q] = whole_scale(job, bound[q], base[q], size[q]);
    }
    uint64_t whole = NAME(whole_lanes)(job, s, scale, 0, 1);
    if (whole) whole &= NAME(whole_lanes)(job, s, scale, 1, job->bytes);
    for (int q = 0; q < LANES; q++) {
        if (whole >> q & 1 && scale[q] > 0) limit_whole(limits + q, base[q], scale[q]);
        scale[q] = limits[q].scale;
    }
    for (int b = 0; b < job->bytes; b++) {
        const float *restrict lowest = s->lowest + b * LANES;
        for (int j = 0; j < job->width; j++) {
            const float *restrict table = s->tables + ((int64_t)b * job->width + j) * LANES;
            uint8_t *restrict bounds = s->bounds + ((int64_t)b * job->width + j) * LANES;
            for (int q = 0; q < LANES; q++) {
                float units = (table[q] - lowest[q]) * scale[q];
                bounds[q] = (uint8_t)(int32_t)(units < 255 ? units : 255);
            }
        }
    }
    return 1;
}

typedef struct {
    const scan_job *job;
    const scan_scratch *s;
    int64_t first;      /* the query in lane 0 */
    int found;          /* survivors waiting to be scored */
    int64_t survivors;  /* all since the tables were scaled, after row `scaled` */
    int64_t scaled;
    uint64_t open;      /* lanes that codes may still enter */
    scan_hits *hits[LANES]; /* what they have found */
    scan_limit limits[LANES];
    float scores[LANES] __attribute__((aligned(64)));      /* the limits as scores */
    uint8_t units[LANES] __attribute__((aligned(64)));     /* in units, up to 254 */
    uint16_t long_units[LANES] __attribute__((aligned(64))); /* and up to 65534 */
} NAME(block);

/* Copy the limit of lane q to where the scans look. */
static inline void NAME(follow)(NAME(block) *blk, int q) {
    int units = blk->limits[q].units;
    blk->scores[q] = blk->limits[q].limit;
    if (units < 0) blk->open &= ~((uint64_t)1 << q);
    blk->units[q] = (uint8_t)(units < 0 ? 0 : units < 254 ? units : 254);
    blk->long_units[q] = (uint16_t)(units < 0 ? 0 : units);
}

static inline void NAME(offer)(NAME(block) *blk, int q, float score, int64_t id) {
    query_offer(blk->job, blk->hits[q], blk->limits + q, score, id);
    NAME(follow)(blk, q);
}

/* Every code scored exactly: for tables that 8 bits cannot hold, and where too many survive. */
static void NAME(scan_floats)(NAME(block) *blk, int count, int64_t begin) {
    const scan_job *job = blk->job;
    for (int q = count; q < LANES; q++) blk->scores[q] = NAN;
    for (int64_t i = begin; i < job->n; i++) {
        FLOATS sum[PARTS], *limits = (FLOATS *)blk->scores;
        NAME(score_lanes)(job, blk->s->tables, job->codes + i * job->bytes, sum);
        for (int p = 0; p < PARTS; p++) {
            union { __typeof__(sum[0] <= sum[0]) v; int32_t lane[FLOAT_BYTES / 4]; } le = {sum[p] <= limits[p]};
            int32_t any = 0;
            for (int q = 0; q < FLOAT_BYTES / 4; q++) any |= le.lane[q];
            if (!any) continue;
            for (int q = 0; q < FLOAT_BYTES / 4; q++)
                if (le.lane[q]) NAME(offer)(blk, p * FLOAT_BYTES / 4 + q, sum[p][q], i);
        }
    }
}

static inline void NAME(keep)(NAME(block) *blk, uint64_t lanes, int64_t row) {
    for (; lanes; lanes &= lanes - 1)
        blk->s->found[blk->found++] = (uint64_t)row << LANE_BITS | (uint64_t)__builtin_ctzll(lanes);
}

/* Measure in finer units, now that limits are tighter; 0 where that would change little. */
static int NAME(scale_anew)(NAME(block) *blk, int64_t scanned) {
    int coarse = 0;
    for (int q = 0; q < LANES; q++) coarse += blk->limits[q].units < blk->limits[q].coarse;
    if (2 * coarse < __builtin_popcountll(blk->open) || !NAME(make_bounds)(blk->job, blk->s, blk->scores, blk->limits)) return 0;
    for (int q = 0; q < LANES; q++) {
        limit_set(blk->limits + q, blk->limits[q].limit);
        NAME(follow)(blk, q);
    }
    blk->scaled = scanned;
    blk->survivors = 0;
    return 1;
}

/* Score the survivors exactly; 1 if there have been so many among `scanned` codes that pruning
 * does not pay. */
static int NAME(check_found)(NAME(block) *blk, int64_t scanned) {
    const scan_job *job = blk->job;
    for (int j = 0; j < blk->found; j++) {
        int q = (int)(blk->s->found[j] & (MAX_LANES - 1));
        int64_t i = (int64_t)(blk->s->found[j] >> LANE_BITS);
        if (!is_allowed(job, i)) continue;
        const uint8_t *code = job->codes + i * job->bytes;
        float sum = 0;
        for (int b = 0; b < job->bytes; b++)
            sum += blk->s->tables[((int64_t)b * job->width + code[b]) * LANES + q];
        NAME(offer)(blk, q, sum, i);
    }
    blk->survivors += blk->found;
    blk->found = 0;
    int64_t few = FOUND_FEW > 4 * LANES * job->k ? FOUND_FEW : 4 * LANES * job->k;
    if (blk->survivors < few || blk->survivors * 20 < (scanned - blk->scaled) * LANES) return 0;
    return !NAME(scale_anew)(blk, scanned);
}

/* Sums of bounds in 8 bits, two codes at a time; the row at which pruning was given up, or n. */
static inline __attribute__((always_inline)) int64_t NAME(scan_short)(NAME(block) *blk, int bytes, int width) {
    const scan_job *job = blk->job;
    const BYTES *bounds = (const BYTES *)blk->s->bounds;
    const uint8_t *code = job->codes;
    int64_t i = 0;
    for (; i + 1 < job->n; i += 2, code += 2 * bytes) {
        BYTES limit = *(const BYTES *)blk->units;
        BYTES one = bounds[code[0]], two = bounds[code[bytes]];
        for (int b = 1; b < bytes; b++) {
            one = ADD_SATURATED(one, bounds[b * width + code[b]]);
            two = ADD_SATURATED(two, bounds[b * width + code[bytes + b]]);
        }
        uint64_t hit_one = AT_MOST(one, limit), hit_two = AT_MOST(two, limit);
        if (hit_one | hit_two) {
            NAME(keep)(blk, hit_one & blk->open, i);
            NAME(keep)(blk, hit_two & blk->open, i + 1);
            if (blk->found >= FOUND_ENOUGH && NAME(check_found)(blk, i + 2)) return i + 2;
        }
    }
    if (i < job->n) NAME(keep)(blk, blk->open, i);
    NAME(check_found)(blk, job->n);
    return job->n;
}

/* Sums of bounds in 16 bits, over groups of bytes that are summed in 8. */
static int64_t NAME(scan_long)(NAME(block) *blk) {
    const scan_job *job = blk->job;
    const BYTES *bounds = (const BYTES *)blk->s->bounds;
    const uint8_t *code = job->codes;
    for (int64_t i = 0; i < job->n; i++, code += job->bytes) {
        NAME(words) sum = {0};
        int b = 0;
        for (; b + GROUP_BYTES <= job->bytes; b += GROUP_BYTES) {
            BYTES part = (BYTES){0};
            for (int g = 0; g < GROUP_BYTES; g++)
                part = ADD_SATURATED(part, bounds[(int64_t)(b + g) * job->width + code[b + g]]);
            sum += __builtin_convertvector((NAME(bytes))part, NAME(words));
        }
        BYTES rest = (BYTES){0};
        for (; b < job->bytes; b++) rest = ADD_SATURATED(rest, bounds[(int64_t)b * job->width + code[b]]);
        sum += __builtin_convertvector((NAME(bytes))rest, NAME(words));
        NAME(words) above = (NAME(words))(sum > *(const NAME(words) *)blk->long_units);
        uint64_t hits = AT_MOST((BYTES)__builtin_convertvector(above, NAME(bytes)), (BYTES){0}) & blk->open;
        if (!hits) continue;
        NAME(keep)(blk, hits, i);
        if (blk->found >= FOUND_ENOUGH && NAME(check_found)(blk, i + 1)) return i + 1;
    }
    NAME(check_found)(blk, job->n);
    return job->n;
}

static int64_t NAME(scan_pruned)(NAME(block) *blk) {
    const scan_job *job = blk->job;
    if (job->bytes > SHORT_BYTES) return NAME(scan_long)(blk);
    if (job->width == 256 && job->bytes == 4) return NAME(scan_short)(blk, 4, 256);
    if (job->width == 256 && job->bytes == 8) return NAME(scan_short)(blk, 8, 256);
    if (job->width == 256 && job->bytes == 16) return NAME(scan_short)(blk, 16, 256);
    if (job->width == 256 && job->bytes == 32) return NAME(scan_short)(blk, 32, 256);
    if (job->width == 256 && job->bytes == 48) return NAME(scan_short)(blk, 48, 256);
    return NAME(scan_short)(blk, job->bytes, job->width);
}

/* Search for `count` queries from `first` on, within the `sure` bounds of the sample or within probable ones;
 * 0 if those were too tight. */
static int NAME(search_block)(const scan_job *job, int64_t first, int count, const scan_scratch *s, int sure) {
    NAME(block) blk = {.job = job, .s = s, .first = first, .open = ~(uint64_t)0 >> (64 - count)};
    float bound[LANES] __attribute__((aligned(64)));
    NAME(bound_scores)(job, s, sure, bound);
    int pruned = NAME(make_bounds)(job, s, bound, blk.limits), complete = 1;
    for (int q = 0; q < LANES; q++) {
        limit_set(blk.limits + q, bound[q]);
        NAME(follow)(&blk, q);
    }
    for (int q = 0; q < count; q++) blk.hits[q] = list_new(job, s, first + q, q, 0);
    int64_t begin = pruned ? NAME(scan_pruned)(&blk) : 0;
    if (begin < job->n) NAME(scan_floats)(&blk, count, begin);
    for (int q = 0; q < count; q++) complete &= is_complete(job, blk.hits[q]);
    if (!complete && !sure) return 0;
    for (int q = 0; q < count; q++) query_end(job, first + q, blk.hits[q], s->keys);
    return 1;
}

static void NAME(scan_block)(const scan_job *job, int64_t first, int count, const scan_scratch *s) {
    NAME(fill_fields)(job, first, count, s->queries, job->fields > 1 ? s->fields : s->tables);
    if (job->fields > 1) NAME(join_fields)(job, s->fields, s->tables);
    if (!NAME(search_block)(job, first, count, s, 0)) NAME(search_block)(job, first, count, s, 1);
}

#undef LANES
#undef FLOAT_BYTES
#undef NAME
#undef PORTABLE
#undef MINIMUM
#undef BYTES
#undef ADD_SATURATED
#undef AT_MOST
#undef FLOATS
#undef PARTS
