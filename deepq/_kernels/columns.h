/* A scan of all codes for a few queries, a code in every lane; included once per instruction set.
 *
 * A tile of codes is turned on its side, so that byte b of LANES codes fills a register. The bounds
 * of one query for byte b are 256 bytes, few enough to be looked up in registers, LANES at a time.
 * Sums above the query's limit prove their codes useless; the others are scored from the float
 * tables at once. A tile is turned once for all queries of the group.
 *
 * Defined by the includer: LANES, NAME(x), BYTES (a register of LANES bytes), LOAD_PIECES(p, stride)
 * (LANES / 16 pieces of 16 bytes), UNPACK_LOW and UNPACK_HIGH (interleave bytes of 16-byte parts),
 * AT_ONCE (blocks to sum before a look at the sums), ADD_BOUNDS(sums, table, columns, bits) (look up the
 * lower bits of TOGETHER registers of bytes, and add), LEAST_BITS that it takes, LOOKUP_COST(bits) (of one
 * register, in instructions), turn_codewords, ADD_HALVES where looking up each half of a byte in 16 is
 * faster, LESS (the minima), AT_MOST as in block.h, ADD_WORDS and
 * SUBTRACT_WORDS (16 bits, saturating), MULTIPLY_WORDS (the upper half of products), PACK_WORDS (back to bytes,
 * saturating numbers below 2^15).
 */

#define BLOCKS (TILE / LANES)
#define PAGE 4096

typedef uint8_t NAME(column) __attribute__((vector_size(LANES), may_alias));
typedef float NAME(eight) __attribute__((vector_size(32), may_alias));
typedef int32_t NAME(eight_ints) __attribute__((vector_size(32), may_alias));
typedef uint8_t NAME(eight_bytes) __attribute__((vector_size(8), may_alias));
typedef uint16_t NAME(words) __attribute__((vector_size(LANES), may_alias));

#define CODES_PER_PIECE(bytes) ((bytes) == 4 ? 4 : (bytes) == 8 ? 2 : 1)

/* The piece of 16 bytes that goes to a lane: pieces that follow on each other fill a register. */
#define PIECE_OF(lane) ((lane) % 16 * (LANES / 16) + (lane) / 16)

/* Turn LANES pieces of 16 bytes, `stride` apart. Byte b of all goes to column b % width, and there to
 * block b / width; `width` is known at compile time. */
static inline __attribute__((always_inline)) void NAME(turn)(
        const uint8_t *pieces, int64_t stride, int width, uint8_t *columns) {
    BYTES x[16], y[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) x[i] = LOAD_PIECES(pieces + i * (LANES / 16) * stride, stride);
#define SHUFFLE(from, to)                                  \
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) {  \
        to[2 * i] = UNPACK_LOW(from[i], from[i + 8]);      \
        to[2 * i + 1] = UNPACK_HIGH(from[i], from[i + 8]); \
    }
    SHUFFLE(x, y)
    SHUFFLE(y, x)
    SHUFFLE(x, y)
    SHUFFLE(y, x)
#undef SHUFFLE
#pragma GCC unroll 16
    for (int b = 0; b < 16; b++) *(BYTES *)(columns + b % width * TILE + b / width * LANES) = x[b];
}

/* Turn TILE codes. Fetch those `ahead` (or NULL) into the second cache, since the first has no room, and a line of
 * each page of those behind them, so that its address is known in time. A piece holds `per` codes of 4 or 8 bytes,
 * the first of them for the first of `per` blocks. */
static void NAME(turn_tile)(const uint8_t *codes, int bytes, int per, const uint8_t *ahead, uint8_t *columns) {
    int stretch = per * LANES * bytes;
    for (int j = 0; j < BLOCKS; j += per, codes += stretch, columns += per * LANES) {
        for (int at = 0; ahead && at < stretch; at += 64) __builtin_prefetch(ahead + at, 0, 2);
        for (int at = 0; ahead && at + PAGE <= stretch; at += PAGE) __builtin_prefetch(ahead + TILE * bytes + at, 0, 2);
        if (ahead) ahead += stretch;
        if (bytes == 4) NAME(turn)(codes, 16, 4, columns);
        else if (bytes == 8) NAME(turn)(codes, 16, 8, columns);
        else if (bytes == 16) NAME(turn)(codes, 16, 16, columns);
        else
            for (int b = 0; b < bytes; b += 16) NAME(turn)(codes + b, bytes, 16, columns + b * TILE);
    }
}

/* What the levels of LANES terms cost, in words: those of the lower and of the upper parts of a register. */
static inline __attribute__((always_inline)) void NAME(term_words)(const uint8_t *levels, int factor, BYTES *low, BYTES *high) {
    BYTES x, zero = (BYTES){0}, by = (BYTES)((NAME(words)){0} + (uint16_t)factor);
    memcpy(&x, levels, sizeof(x));
    *low = MULTIPLY_WORDS(UNPACK_LOW(zero, x), by);
    *high = MULTIPLY_WORDS(UNPACK_HIGH(zero, x), by);
}

/* Add bounds in 8 bits over `bytes` columns to sums of AT_ONCE blocks. */
static inline __attribute__((always_inline)) void NAME(sum_columns)(
        const uint8_t *columns, const uint8_t *bounds, int bytes, int bits, BYTES *sums) {
#ifdef ADD_HALVES
    if (bits == HALVES) {
        for (int i = 0; i < AT_ONCE; i += TOGETHER)
            for (int b = 0; b < bytes; b++)
                ADD_HALVES(sums + i, bounds + b * 256, (const BYTES *)(columns + b * TILE) + i);
        return;
    }
#endif
    for (int i = 0; i < AT_ONCE; i += TOGETHER)
        for (int b = 0; b < bytes; b++)
            ADD_BOUNDS(sums + i, bounds + b * 256, (const BYTES *)(columns + b * TILE) + i, bits);
}

/* Which of the AT_ONCE * LANES codes may score at most `units`, a bit for each; `terms` are theirs. */
static inline __attribute__((always_inline)) uint64_t NAME(bound_short)(
        const uint8_t *columns, scan_terms terms, const uint8_t *bounds, int bytes, int bits, int units, uint64_t *hits) {
    BYTES sums[AT_ONCE], least, limit = (BYTES)((NAME(column)){0} + (uint8_t)(units < 254 ? units : 254));
    uint64_t any = 0;
    for (int i = 0; i < AT_ONCE; i++) {
        BYTES low, high;
        sums[i] = (BYTES){0};
        if (!terms.levels) continue;
        NAME(term_words)(terms.levels + i * LANES, terms.factor, &low, &high);
        sums[i] = PACK_WORDS(low, high);
    }
    NAME(sum_columns)(columns, bounds, bytes, bits, sums);
    least = sums[0];
    for (int i = 1; i < AT_ONCE; i++) least = LESS(least, sums[i]);
    if (!AT_MOST(least, limit)) return 0;
    for (int i = 0; i < AT_ONCE; i++) any |= hits[i] = AT_MOST(sums[i], limit);
    return any;
}

/* The same with sums in 16 bits, over groups of bytes that are summed in 8. The unpacked halves of a
 * register are in an order of their own, which packing undoes. */
static inline __attribute__((always_inline)) uint64_t NAME(bound_long)(
        const uint8_t *columns, scan_terms terms, const uint8_t *bounds, int bytes, int bits, int units, uint64_t *hits) {
    BYTES low[AT_ONCE], high[AT_ONCE], zero = (BYTES){0}, limit = (BYTES)((NAME(words)){0} + (uint16_t)units);
    uint64_t any = 0;
    for (int i = 0; i < AT_ONCE; i++) {
        low[i] = high[i] = zero;
        if (terms.levels) NAME(term_words)(terms.levels + i * LANES, terms.factor, low + i, high + i);
    }
    for (int b = 0; b < bytes; b += GROUP_BYTES) {
        BYTES part[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) part[i] = zero;
        if (bytes - b >= GROUP_BYTES) NAME(sum_columns)(columns + b * TILE, bounds + b * 256, GROUP_BYTES, bits, part);
        else NAME(sum_columns)(columns + b * TILE, bounds + b * 256, bytes - b, bits, part);
        for (int i = 0; i < AT_ONCE; i++) {
            low[i] = ADD_WORDS(low[i], UNPACK_LOW(part[i], zero));
            high[i] = ADD_WORDS(high[i], UNPACK_HIGH(part[i], zero));
        }
    }
    for (int i = 0; i < AT_ONCE; i++)
        any |= hits[i] = AT_MOST(PACK_WORDS(SUBTRACT_WORDS(low[i], limit), SUBTRACT_WORDS(high[i], limit)), zero);
    return any;
}

/* The same for bounds of the lower `bits` bits, or of HALVES. */
#define WITH_BITS(bits)                                                                                               \
    static uint64_t NAME(bound_##bits)(const uint8_t *columns, scan_terms terms, const uint8_t *bounds, int bytes,   \
                                       int units, uint64_t *hits) {                                                   \
        if (bytes > SHORT_BYTES) return NAME(bound_long)(columns, terms, bounds, bytes, bits, units, hits);           \
        if (bytes == 8) return NAME(bound_short)(columns, terms, bounds, 8, bits, units, hits);                       \
        if (bytes == 16) return NAME(bound_short)(columns, terms, bounds, 16, bits, units, hits);                     \
        return NAME(bound_short)(columns, terms, bounds, bytes, bits, units, hits);                                   \
    }
#if LEAST_BITS == 4
WITH_BITS(4)
WITH_BITS(5)
#endif
WITH_BITS(6)
WITH_BITS(7)
WITH_BITS(8)
#ifdef ADD_HALVES
WITH_BITS(HALVES)
#endif
#undef WITH_BITS

static inline uint64_t NAME(bound_codes)(const uint8_t *columns, scan_terms terms, const uint8_t *bounds, int bytes,
                                         int bits, int units, uint64_t *hits) {
    switch (bits) {
#if LEAST_BITS == 4
    case 4: return NAME(bound_4)(columns, terms, bounds, bytes, units, hits);
    case 5: return NAME(bound_5)(columns, terms, bounds, bytes, units, hits);
#endif
    case 6: return NAME(bound_6)(columns, terms, bounds, bytes, units, hits);
    case 7: return NAME(bound_7)(columns, terms, bounds, bytes, units, hits);
#ifdef ADD_HALVES
    case HALVES: return NAME(bound_HALVES)(columns, terms, bounds, bytes, units, hits);
#endif
    default: return NAME(bound_8)(columns, terms, bounds, bytes, units, hits);
    }
}

/* Add up the costs of sixteen codewords, on their side, to `count` queries. */
static inline __attribute__((always_inline)) void NAME(table_entries)(
        const NAME(eight) *turned, const float *const *x, int count, int dsub, int inner_product, NAME(eight) sums[4][2]) {
    if (inner_product) {
        for (int t = 0; t < dsub; t++)
            for (int q = 0; q < count; q++)
                for (int h = 0; h < 2; h++) sums[q][h] += x[q][t] * turned[2 * t + h];
        for (int q = 0; q < count; q++)
            for (int h = 0; h < 2; h++) sums[q][h] = -sums[q][h];
    } else {
        for (int t = 0; t < dsub; t++)
            for (int q = 0; q < count; q++)
                for (int h = 0; h < 2; h++) sums[q][h] += (x[q][t] - turned[2 * t + h]) * (x[q][t] - turned[2 * t + h]);
    }
}

/* The tables of `count` queries from `first` on, (count, bytes, width): the same sums as in a block. */
static void NAME(make_tables)(const scan_job *job, int64_t first, int count, const scan_scratch *s) {
    int M = job->M, ksub = job->ksub, dsub = job->dsub, inner_product = job->inner_product;
    NAME(eight) *turned = (NAME(eight) *)s->queries;
    for (int64_t entry = 0; entry < (int64_t)M * ksub; entry += ksub < 16 ? ksub : 16) {
        size_t codewords = ksub < 16 ? ksub : 16;
        const float *c = job->codebooks + entry * dsub;
        if (codewords == 16) turn_codewords(c, dsub, s->queries);
        else
            for (size_t i = 0; i < codewords; i++)
                for (int t = 0; t < dsub; t++) s->queries[t * 16 + i] = c[i * dsub + t];
        for (int q = 0; q < count; q += 4) { /* four at once: sums wait for each other */
            int some = count - q < 4 ? count - q : 4;
            const float *x[4];
            NAME(eight) sums[4][2] = {{{0}}};
            for (int i = 0; i < 4; i++) x[i] = job->queries + ((first + q + (i < some ? i : 0)) * M + entry / ksub) * dsub;
            if (some == 1) NAME(table_entries)(turned, x, 1, dsub, inner_product, sums);
            else NAME(table_entries)(turned, x, 4, dsub, inner_product, sums);
            for (int i = 0; i < some; i++) {
                float *table = s->tables + (int64_t)(q + i) * M * ksub + entry;
                if (codewords == 16) memcpy(table, sums[i], sizeof(sums[i])); /* of a length that is known */
                else memcpy(table, sums[i], sizeof(float) * codewords);
            }
        }
    }
}

/* Eight entries in units above `lowest`, at most 255. */
static inline NAME(eight) NAME(units)(const float *table, float lowest, float scale) {
    NAME(eight) units, most = (NAME(eight)){0} + 255;
    memcpy(&units, table, sizeof(units));
    units = (units - lowest) * scale;
    NAME(eight_ints) less = (NAME(eight_ints))(units < most);
    return (NAME(eight))((less & (NAME(eight_ints))units) | (~less & (NAME(eight_ints))most));
}

/* Whether the entries of a table are whole numbers of units, as in a block. */
static int NAME(is_whole)(const float *table, int width, float lowest, float scale) {
    NAME(eight_ints) broken = {0};
    for (int j = 0; j < width; j += 8) {
        NAME(eight) units;
        memcpy(&units, table + j, sizeof(units));
        NAME(eight_ints) less = (NAME(eight_ints))((units - lowest) * scale < 256);
        units = (NAME(eight))(less & (NAME(eight_ints))(units * scale));
        broken |= (NAME(eight_ints))(units != __builtin_convertvector(__builtin_convertvector(units, NAME(eight_ints)), NAME(eight)));
    }
    int any = 0;
    for (int i = 0; i < 8; i++) any |= broken[i];
    return !any;
}

#ifdef ADD_HALVES
/* Whether every entry is the sum of one for the lower and one for the upper four bits, exactly. */
static int NAME(is_sum_of_halves)(const float *table) {
    for (int v = 0; v < 256; v++)
        if (table[v] - table[v & 15] != table[v & 240] - table[0]) return 0;
    return 1;
}

/* Bounds of a table that is such a sum: 16 for the lower bits, and 16 for the upper ones, each from the
 * least entry with these bits. 0 where two of them add up to more than an entry, by more than `error`
 * units: where large numbers, or infinity, have rounded the sum away. */
static int NAME(bounds_of_halves)(const float *table, float lowest, float scale, float error, uint8_t *bounds) {
    NAME(eight) infinite = (NAME(eight)){0} + INFINITY, least[4] = {infinite, infinite, infinite, infinite}, whole[4];
    NAME(eight_ints) broken = {0};
    for (int v = 0; v < 16; v++) { /* NaN is no score, and less than nothing */
        NAME(eight) row = infinite;
        for (int i = 0; i < 2; i++) {
            NAME(eight) entries = *(const NAME(eight) *)(table + 16 * v + 8 * i);
            NAME(eight_ints) less = (NAME(eight_ints))(entries < least[i]);
            least[i] = (NAME(eight))((less & (NAME(eight_ints))entries) | (~less & (NAME(eight_ints))least[i]));
            less = (NAME(eight_ints))(entries < row);
            row = (NAME(eight))((less & (NAME(eight_ints))entries) | (~less & (NAME(eight_ints))row));
        }
        float *upper = (float *)(least + 2) + v;
        for (int i = 0; i < 8; i++) *upper = row[i] < *upper ? row[i] : *upper;
    }
    for (int i = 0; i < 4; i++) {
        NAME(eight_ints) units = __builtin_convertvector(NAME(units)((const float *)(least + i), lowest, scale), NAME(eight_ints));
        NAME(eight_bytes) rounded = __builtin_convertvector(units, NAME(eight_bytes));
        memcpy(bounds + 8 * i, &rounded, 8);
        whole[i] = __builtin_convertvector(units, NAME(eight));
    }
    for (int v = 0; v < 16; v++)
        for (int i = 0; i < 2; i++) {
            NAME(eight) units = (*(const NAME(eight) *)(table + 16 * v + 8 * i) - lowest) * scale + error;
            broken |= (NAME(eight_ints))(whole[i] + ((const float *)(whole + 2))[v] > units);
        }
    int any = 0;
    for (int i = 0; i < 8; i++) any |= broken[i];
    return !any;
}
#endif

/* Round the tables of one query down to 8 bits, (bytes, 256); 0 where they do not suit. */
static int NAME(bounds_of_query)(const scan_job *job, const float *tables, float *lowest, float bound,
                                 uint8_t *bounds, scan_limit *limit) {
    float base = 0, size = 0;
    int bytes = job->bytes, width = job->width;
    for (int b = 0; b < bytes; b++) {
        NAME(eight) least = (NAME(eight)){0} + INFINITY; /* which NaN, of sums that overflowed, does not replace */
        for (int j = 0; j < width; j += 8) {
            NAME(eight) entries = *(const NAME(eight) *)(tables + (int64_t)b * width + j);
            NAME(eight_ints) less = (NAME(eight_ints))(entries < least);
            least = (NAME(eight))((less & (NAME(eight_ints))entries) | (~less & (NAME(eight_ints))least));
        }
        lowest[b] = least[0];
        for (int i = 1; i < 8; i++) lowest[b] = least[i] < lowest[b] ? least[i] : lowest[b];
        base += lowest[b];
        size += fabsf(lowest[b]);
    }
    if (!limit_scale(limit, job, bound, base, size)) return 0;
    float scale = whole_scale(job, bound, base, size);
    int whole = scale > 0;
    for (int b = 0; whole && b < bytes; b++) whole = NAME(is_whole)(tables + (int64_t)b * width, width, lowest[b], scale);
    if (whole) limit_whole(limit, base, scale);
    limit->bits = 8;
#ifdef ADD_HALVES
    int halves = width == 256 && (whole || job->fields > 1);
    for (int b = 0; halves && whole && b < bytes; b++) halves = NAME(is_sum_of_halves)(tables + b * 256);
    float error = limit->slack / (2 * bytes); /* half of what rounding may do to one byte */
    for (int b = 0; halves && b < bytes; b++)
        halves = NAME(bounds_of_halves)(tables + b * 256, lowest[b], limit->scale, error, bounds + b * 256);
    if (halves) {
        limit->bits = HALVES;
        return 1;
    }
#endif
    for (int b = 0; b < bytes; b++)
        for (int j = 0; j < width; j += 8) {
            NAME(eight) units = NAME(units)(tables + (int64_t)b * width + j, lowest[b], limit->scale);
            NAME(eight_bytes) rounded = __builtin_convertvector(__builtin_convertvector(units, NAME(eight_ints)), NAME(eight_bytes));
            memcpy(bounds + b * 256 + j, &rounded, 8);
        }
    return 1;
}

/* Let the bounds of a byte be those of its lower bits: the least among codewords that have them in common. */
static void NAME(fold)(uint8_t *restrict bounds, int bytes, int bits) {
    for (int b = 0; b < bytes; b++, bounds += 256)
        for (int half = 128; half >= 1 << bits; half /= 2)
            for (int i = 0; i < half; i++) bounds[i] = bounds[i] < bounds[i + half] ? bounds[i] : bounds[i + half];
}

/* Fold the bounds of a query to as many bits as make the scan the fastest, by what a tile on its side says, a
 * sample, and what a score costs: fewer take fewer instructions, but rule fewer codes out. */
static void NAME(choose_bits)(const scan_job *job, const scan_scratch *s, int score_cost, const uint8_t *columns, scan_terms terms,
                              uint8_t *bounds, scan_limit *limit) {
    int best = limit->bits, bytes = job->bytes;
    limit->fresh = limit->units - limit->units / 32;
    if (best != 8 || job->width != 256 || limit->units < 0) return;
    int64_t least = INT64_MAX;
    memcpy(s->folded, bounds, (size_t)bytes * 256);
    for (int bits = 8; bits >= LEAST_BITS; bits--) {
        int64_t cost = (int64_t)BLOCKS * bytes * LOOKUP_COST(bits);
        NAME(fold)(s->folded, bytes, bits);
        for (int j = 0; j < BLOCKS; j += AT_ONCE) {
            uint64_t hits[AT_ONCE];
            if (!NAME(bound_codes)(columns + j * LANES, terms_from(terms, j * LANES), s->folded, bytes, bits, limit->units, hits))
                continue;
            for (int i = 0; i < AT_ONCE; i++) cost += count_word(hits[i]) * score_cost;
        }
        if (cost / 2 > least) break;
        if (cost < least) least = cost, best = bits;
    }
    limit->bits = TAKE_BITS(best, LEAST_BITS);
    NAME(fold)(bounds, bytes, limit->bits);
}

/* Score the codes that `hits` marks among the AT_ONCE blocks from row `begin` on, in ascending order. */
static int64_t NAME(score_hits)(const scan_job *job, const float *tables, scan_hits *list, scan_limit *limit,
                                const uint64_t *hits, int per, int64_t begin) {
    uint64_t rows[AT_ONCE * LANES / 64] = {0};
    int64_t found = 0;
    for (int i = 0; i < AT_ONCE; i++)
        for (uint64_t left = hits[i]; left; left &= left - 1) {
            int lane = __builtin_ctzll(left), row = (i & -per) * LANES + PIECE_OF(lane) * per + (i & (per - 1)); /* per: a power of 2 */
            rows[row / 64] |= (uint64_t)1 << row % 64;
        }
    for (int i = 0; i < AT_ONCE * LANES / 64; i++)
        for (uint64_t left = rows[i]; left; left &= left - 1) {
            int64_t row = begin + 64 * i + __builtin_ctzll(left);
            if (row >= job->n) return found;
            found++;
            if (!is_allowed(job, row)) continue;
            query_offer(job, list, limit, score_code(job, tables, job->codes + row * job->bytes), row);
        }
    return found;
}

/* Search for one query without pruning, where bounds would cost more than they spare. */
static void NAME(scan_one)(const scan_job *job, int64_t q, int count, const scan_scratch *s) {
    if (job->fields > 1 || job->luts) query_tables(job, q, s->fields, s->tables);
    else NAME(make_tables)(job, q, count, s);
    scan_all(job, q, s);
}

/* Search for `count` queries from `first` on, within the `sure` bounds of the sample or within probable ones;
 * 0 if those were too tight. */
static int NAME(search_columns)(const scan_job *job, int64_t first, int count, const scan_scratch *s, int sure) {
    scan_limit limits[MAX_LANES];
    scan_hits *lists[MAX_LANES];
    int64_t survivors[MAX_LANES] = {0}, given_up[MAX_LANES];
    int64_t entries = (int64_t)job->bytes * job->width, span = (int64_t)TILE * job->bytes;
    int per = CODES_PER_PIECE(job->bytes);
    for (int q = 0; q < count; q++) {
        float *tables = s->tables + q * entries;
        float bound = bound_score(job, s, tables, sure);
        limits[q] = (scan_limit){0};
        given_up[q] = NAME(bounds_of_query)(job, tables, s->lowest, bound, s->bounds + (int64_t)q * job->bytes * 256,
                                            limits + q) ? job->n : 0;
        limit_set(limits + q, bound);
        if (given_up[q] && s->drawn >= TILE)
            NAME(choose_bits)(job, s, SCORE_COST(job->bytes), s->sampled, NO_TERMS, s->bounds + (int64_t)q * job->bytes * 256, limits + q);
        lists[q] = list_new(job, s, first + q, q, 0);
    }
    for (int64_t i = 0; i < job->n; i += TILE) {
        const uint8_t *codes = job->codes + i * job->bytes, *ahead = codes + span;
        if ((job->n - i - TILE) * job->bytes < 16) { /* rows are read 16 bytes at a time: the last ones from a copy */
            codes = memcpy(s->rest, codes, (job->n - i < TILE ? job->n - i : TILE) * job->bytes);
            ahead = NULL;
        }
        NAME(turn_tile)(codes, job->bytes, per, ahead, s->columns);
        for (int q = 0; q < count; q++) {
            if (given_up[q] <= i) continue;
            uint8_t *bounds = s->bounds + (int64_t)q * job->bytes * 256;
            for (int j = 0; j < BLOCKS; j += AT_ONCE) {
                uint64_t hits[AT_ONCE];
                if (limits[q].units < 0) break;
                if (!NAME(bound_codes)(s->columns + j * LANES, NO_TERMS, bounds, job->bytes, limits[q].bits, limits[q].units, hits))
                    continue;
                survivors[q] += NAME(score_hits)(job, s->tables + q * entries, lists[q], limits + q, hits, per,
                                                 i + j * LANES);
            }
            int due = bits_are_due(i / TILE) && limits[q].units < limits[q].fresh;
            if (limits[q].units >= 0 && (due || limits[q].units < limits[q].coarse)) {
                if (!NAME(bounds_of_query)(job, s->tables + q * entries, s->lowest, limits[q].limit, bounds, limits + q))
                    limits[q].coarse = 0;
                limit_set(limits + q, limits[q].limit);
                if (s->drawn >= TILE) NAME(choose_bits)(job, s, SCORE_COST(job->bytes), s->sampled, NO_TERMS, bounds, limits + q);
            }
            if (survivors[q] > SURVIVORS_MIN + 8 * job->k && survivors[q] * 2 > i) given_up[q] = i + TILE;
        }
    }
    int complete = 1;
    for (int q = 0; q < count; q++) {
        if (given_up[q] < job->n) scan_rows(job, s->tables + q * entries, lists[q], limits + q, given_up[q]);
        complete &= is_complete(job, lists[q]);
    }
    if (!complete && !sure) return 0;
    for (int q = 0; q < count; q++) query_end(job, first + q, lists[q], s->keys);
    return 1;
}

static void NAME(scan_columns)(const scan_job *job, int64_t first, int count, const scan_scratch *s) {
    int per = CODES_PER_PIECE(job->bytes);
    if (s->drawn >= TILE) NAME(turn_tile)(s->sample, job->bytes, per, NULL, s->sampled);
    if (job->fields == 1 && !job->luts) NAME(make_tables)(job, first, count, s);
    else
        for (int q = 0; q < count; q++) query_tables(job, first + q, s->fields, s->tables + (int64_t)q * job->bytes * job->width);
    if (!NAME(search_columns)(job, first, count, s, 0)) NAME(search_columns)(job, first, count, s, 1);
}

#include "cell_scan.h"

#undef LANES
#undef NAME
#undef BYTES
#undef LOAD_PIECES
#undef PIECE_OF
#undef UNPACK_LOW
#undef UNPACK_HIGH
#undef TOGETHER
#undef ADD_BOUNDS
#undef LEAST_BITS
#undef LOOKUP_COST
#undef ADD_HALVES
#undef LESS
#undef ADD_WORDS
#undef SUBTRACT_WORDS
#undef MULTIPLY_WORDS
#undef PACK_WORDS
#undef AT_MOST
#undef BLOCKS
#undef PAGE
#undef CODES_PER_PIECE
#undef AT_ONCE
