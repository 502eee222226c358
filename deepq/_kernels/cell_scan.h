/* A scan of the cells that some queries look into; included once per instruction set, at the end of
 * columns.h, whose tiles and bounds it uses.
 *
 * A query first scores some codes of its nearest cells, for a first limit, then scans the nearest cell,
 * then rounds its tables anew to the limit that is left. The other pairs are sorted by cell: a tile of codes
 * is turned once for all queries that look into the cell.
 */


/* Add what eight numbers cost those they are compared with to sums side by side. */
static inline __attribute__((always_inline)) void NAME(add_costs)(
        NAME(eight) *sums, const float *x, const float *y, int inner_product) {
    NAME(eight) a, b;
    memcpy(&a, x, sizeof(a));
    memcpy(&b, y, sizeof(b));
    *sums += inner_product ? -a * b : (a - b) * (a - b);
}

/* The number of the codeword that a code has in sub-space m. */
static inline int NAME(word)(const scan_job *job, const uint8_t *code, int m) {
    if (job->fields == 1) return code[m];
    return code[m / job->fields] >> m % job->fields * (8 / job->fields) & (job->ksub - 1);
}

/* The cost of a code's vector: sum t of eight has the numbers t, t + 8, ...; what is left after the last eight, and
 * then the sums, are added in order. */
static inline __attribute__((always_inline)) float NAME(code_cost)(
        const scan_job *job, int dsub, const float *compared, const uint8_t *code, float *vector, int inner_product) {
    NAME(eight) sums = {0};
    int d = job->M * dsub, t = 0;
    const float *book = job->codebooks;
    float rest = 0;
    if (dsub % 8 == 0) {
        for (int m = 0; m < job->M; m++, book += job->ksub * dsub) {
            const float *word = book + NAME(word)(job, code, m) * dsub;
            for (int i = 0; i < dsub; i += 8, t += 8) NAME(add_costs)(&sums, compared + t, word + i, inner_product);
        }
    } else {
        for (int m = 0; m < job->M; m++, book += job->ksub * dsub) {
            const float *word = book + NAME(word)(job, code, m) * dsub;
            if (dsub == 4) memcpy(vector + m * 4, word, 16);
            else
                for (int i = 0; i < dsub; i++) vector[m * dsub + i] = word[i];
        }
        for (; t + 8 <= d; t += 8) NAME(add_costs)(&sums, compared + t, vector + t, inner_product);
        for (; t < d; t++)
            rest += inner_product ? -compared[t] * vector[t] : (compared[t] - vector[t]) * (compared[t] - vector[t]);
    }
    for (int j = 0; j < 8; j++) rest += sums[j];
    return rest;
}

static inline float NAME(score_in_cell)(const cells_job *c, const cell_scratch *s, const float *compared,
                                        double offset, const uint8_t *code) {
    int dsub = c->job.dsub;
    if (!c->job.inner_product) {
        if (dsub == 8) return NAME(code_cost)(&c->job, 8, compared, code, s->vector, 0); /* loops of known lengths */
        if (dsub == 16) return NAME(code_cost)(&c->job, 16, compared, code, s->vector, 0);
        return NAME(code_cost)(&c->job, dsub, compared, code, s->vector, 0);
    }
    float score = NAME(code_cost)(&c->job, dsub, compared, code, s->vector, 1);
    return c->residual ? score + (float)offset : score;
}

/* What all codes of a cell cost query q: its squared distance to the centre, or their negated inner product. */
static float NAME(pair_offset)(const cells_job *c, int64_t q, int64_t cell, float *centre) {
    if (!c->residual) return 0;
    int d = dimensions(c), length = d / c->parts, t = 0;
    const float *x = c->queries + q * d, *y = c->parts == 1 ? centre_part(c, cell, 0) : centre;
    NAME(eight) sums = {0};
    float rest = 0;
    for (int p = 0; c->parts > 1 && p < c->parts; p++)
        memcpy(centre + p * length, centre_part(c, cell, p), sizeof(float) * length);
    for (; t + 8 <= d; t += 8) NAME(add_costs)(&sums, x + t, y + t, c->job.inner_product);
    for (; t < d; t++) rest += c->job.inner_product ? -x[t] * y[t] : (x[t] - y[t]) * (x[t] - y[t]);
    for (int j = 0; j < 8; j++) rest += sums[j];
    return rest;
}

/* The tables (count, bytes, 256) of `count` vectors: of negated inner products, or of squared distances. */
static void NAME(tables_of)(const cells_job *c, const float *x, int64_t count, int inner_product, const cell_scratch *s) {
    scan_job job = c->job;
    job.queries = x;
    job.inner_product = inner_product;
#ifndef PORTABLE
    if (job.fields == 1) {
        NAME(make_tables)(&job, 0, (int)count, &s->scan);
        return;
    }
#endif
    for (int64_t q = 0; q < count; q++) query_tables(&job, q, s->scan.fields, s->scan.tables + q * job.bytes * 256);
}

/* Round the tables of a query to its limit, where no pair has a smaller offset than `nearest`. */
static void NAME(round_tables)(const cells_job *c, const cell_scratch *s, const float *tables, cell_query *query, double nearest,
                               double margin) {
    float bound = (float)(query->limit.limit - nearest);
    float limit = query->limit.limit;
    query->plain = !NAME(bounds_of_query)(&c->job, tables, s->scan.lowest, bound, query->bounds, &query->limit);
    query->limit.limit = limit;
    if (query->plain) return;
    query->plain = !(margin * query->limit.scale < MARGIN_UNITS);
    query->base = (double)query->limit.base - margin;
}

/* Score all codes of a cell for a query that bounds do not suit. */
static void NAME(scan_plain)(const cells_job *c, const cell_scratch *s, cell_query *query, int64_t q, cell_pair pair,
                             const float *compared) {
    const cell_list *list = c->lists + pair.cell;
    for (int64_t i = 0; i < list->n; i++)
        if (is_found(c, pair.cell, i))
            pair_offer(c, query, q, pair.cell, i,
                       NAME(score_in_cell)(c, s, compared, pair.offset, list->codes + i * c->job.bytes));
}

/* Turn the tile of a cell that begins at row i, and fetch the next one, or the `ahead` first of another cell. */
static void NAME(turn_cell)(const cells_job *c, const cell_list *list, int64_t i, const cell_list *ahead, const cell_scratch *s) {
    int bytes = c->job.bytes;
    int64_t rows = list->n - i < TILE ? list->n - i : TILE;
    const uint8_t *codes = list->codes + i * bytes;
    if ((list->n - i - TILE) * bytes < 16) codes = memcpy(s->scan.rest, codes, rows * bytes);
    int64_t next = list->n > i + TILE ? i + TILE : 0;
    if (next) ahead = list;
    for (int at = 0; ahead && ahead->terms && at < TILE; at += 64) __builtin_prefetch(ahead->terms + next + at);
    NAME(turn_tile)(codes, bytes, row_step(bytes), ahead ? ahead->codes + next * bytes : NULL, s->scan.columns);
}

/* Score those of a cell's rows that have been found for an open pair, and offer them. */
static void NAME(score_found)(const cells_job *c, const cell_scratch *s, cell_open *open, const int32_t *found, int count) {
    const cell_list *list = c->lists + open->pair.cell;
    cell_query *query = s->queries + open->pair.row;
    float before = query->limit.limit, scores[FOUND_AT_ONCE];
    if (!open->compared) {
        open->compared = s->compared + open->place * dimensions(c);
        pair_query(c, open->query, open->pair.cell, open->compared);
    }
    for (int f = 0; f < count; f++) /* apart, so that they wait for memory together */
        scores[f] = NAME(score_in_cell)(c, s, open->compared, open->pair.offset, list->codes + (int64_t)found[f] * c->job.bytes);
    for (int f = 0; f < count; f++) pair_offer(c, query, open->query, open->pair.cell, found[f], scores[f]);
    if (query->limit.limit != before) open->units = pair_units(query, open->pair.offset + list->least);
}

/* Offer the codes of a turned tile, from row i of a cell on, to an open pair. */
static void NAME(scan_tile)(const cells_job *c, const cell_scratch *s, cell_open *open, int64_t i) {
    const cell_list *list = c->lists + open->pair.cell;
    const cell_query *query = s->queries + open->pair.row;
    scan_terms terms = terms_from((scan_terms){list->terms, open->factor}, i);
    int per = row_step(c->job.bytes);
    for (int j = 0; j < BLOCKS && i + j * LANES < list->n && open->units >= 0; j += AT_ONCE) {
        uint64_t hits[AT_ONCE];
        int32_t found[FOUND_AT_ONCE];
        int count = 0;
        if (!NAME(bound_codes)(s->scan.columns + j * LANES, terms_from(terms, j * LANES), query->bounds, c->job.bytes,
                               query->limit.bits, open->units, hits))
            continue;
        for (int h = 0; h < AT_ONCE; h++)
            for (uint64_t left = hits[h]; left; left &= left - 1) {
                int64_t row = i + j * LANES + row_of(h, PIECE_OF(__builtin_ctzll(left)), LANES, per);
                if (row < list->n && is_found(c, open->pair.cell, row)) found[count++] = (int32_t)row;
            }
        if (count) NAME(score_found)(c, s, open, found, count);
    }
}

/* Let a query take as many bits of bounds as seem best for what it scans, once. */
static void NAME(settle_bits)(const cells_job *c, const cell_scratch *s, const cell_open *open) {
#ifndef PORTABLE
    cell_query *query = s->queries + open->pair.row;
    if (query->settled) return;
    query->settled = 1;
    query->limit.units = open->units;
    NAME(choose_bits)(&c->job, &s->scan, CELL_SCORE_COST(dimensions(c)), s->scan.columns, (scan_terms){c->lists[open->pair.cell].terms, open->factor},
                      query->bounds, &query->limit);
#else
    (void)c, (void)s, (void)open;
#endif
}

#ifdef CELL_LANES
/* Scan a cell for `count` open pairs, a query in every lane. */
static void NAME(scan_lanes)(const cells_job *c, const cell_scratch *s, cell_open *open, int count) {
    const cell_list *list = c->lists + open->pair.cell;
    const uint8_t *bounds[32];
    int masks[32], factors[32] = {0}, bytes = c->job.bytes, wide = count > 16;
    uint64_t alive = 0;
    uint8_t units[32] __attribute__((aligned(32))) = {0};
    for (int q = 0; q < count; q++) {
        const cell_query *query = s->queries + open[q].pair.row;
        bounds[q] = query->bounds;
        masks[q] = (1 << query->limit.bits) / 16 - 1;
        factors[q] = open[q].factor;
    }
    (wide ? lay_tables_32 : lay_tables_16)(bounds, masks, count, bytes, s->lanes);
    if (list->terms) (wide ? lay_terms_32 : lay_terms_16)(factors, s->lanes + bytes * 256 * (wide ? 32 : 16));
    for (int64_t i = 0; i < list->n; i += LANES_ROWS) {
        int rows = list->n - i < LANES_ROWS ? (int)(list->n - i) : LANES_ROWS, each[32] = {0};
        const uint8_t *levels = list->terms ? list->terms + i / TILE * TILE : NULL;
        alive = 0;
        for (int q = 0; q < count; q++) {
            alive |= (uint64_t)(open[q].units >= 0) << q;
            units[q] = (uint8_t)(open[q].units < 254 ? open[q].units : 254);
        }
        if (!alive) return;
        int found = (wide ? scan_rows_32 : scan_rows_16)(s->lanes, list->codes + i * bytes, bytes, rows, levels,
                                                         s->turned + i % TILE, units, alive, s->found);
        for (int f = 0; f < found; f++) {
            int q = s->found[f] & (wide ? 31 : 15);
            int64_t row = i + (s->found[f] >> (wide ? 5 : 4));
            if (is_found(c, open->pair.cell, row)) s->of_lane[q * LANES_ROWS + each[q]++] = (int32_t)row;
        }
        for (int q = 0; q < count; q++)
            if (each[q]) NAME(score_found)(c, s, open + q, s->of_lane + q * LANES_ROWS, each[q]);
    }
}

/* Scan a cell for as many of the open pairs as it pays to do it for in lanes; returns how many. */
static int64_t NAME(scan_in_lanes)(const cells_job *c, const cell_scratch *s, int64_t active) {
    int bytes = c->job.bytes;
    int64_t n = c->lists[s->open->pair.cell].n, done = 0, one = 0;
    if (bytes > LANES_BYTES) return 0;
    for (int64_t a = 0; a < active; a++) {
        int bits = s->queries[s->open[a].pair.row].limit.bits;
        if (bits == HALVES) return 0;
        one += n / LANES * bytes * LOOKUP_COST(bits);
    }
    int64_t tables = (int64_t)bytes * 16 * 100, lanes = tables + n * (3 * bytes + 8);
    while (done < active && (active - done) * (one / active) > lanes) {
        int count = active - done < 32 ? (int)(active - done) : 32;
        NAME(scan_lanes)(c, s, s->open + done, count);
        done += count;
    }
    return done;
}
#endif

/* Scan a cell for `count` queries: pairs of the same cell. `first` is the query of row 0; the `ahead` list comes next. */
static void NAME(scan_pairs)(const cells_job *c, const cell_scratch *s, int64_t first, const cell_pair *pairs, int64_t count,
                             const cell_list *ahead) {
    const cell_list *list = c->lists + pairs[0].cell;
    int64_t active = 0;
    for (int64_t j = 0; j < count; j++) {
        cell_query *query = s->queries + pairs[j].row;
        int64_t q = first + pairs[j].row;
        if (query->plain) {
            pair_query(c, q, pairs[j].cell, s->compared);
            NAME(scan_plain)(c, s, query, q, pairs[j], s->compared);
            continue;
        }
        int units = pair_units(query, pairs[j].offset + list->least);
        if (units < 0) continue;
        double factor = (double)list->step * query->limit.scale * 256;
        s->open[active] = (cell_open){pairs[j], q, active, units, factor < MOST_FACTOR ? (int)factor : MOST_FACTOR, NULL};
        active++;
    }
    int64_t done = 0;
#ifdef CELL_LANES
    if (active > 1) done = NAME(scan_in_lanes)(c, s, active);
#endif
    for (int64_t i = 0; done < active && i < list->n; i += TILE) {
        NAME(turn_cell)(c, list, i, ahead, s);
        for (int64_t a = done; a < active; a++) {
            if (!i && list->n >= TILE && s->opened) NAME(settle_bits)(c, s, s->open + a);
            NAME(scan_tile)(c, s, s->open + a, i);
        }
    }
}

/* Fetch the codes and terms that the first limit of query q is made of. */
static void NAME(fetch_sample)(const cells_job *c, int64_t q) {
    int64_t wanted = cell_sample(c->k), cell = -1;
    for (int64_t j = 0; j < c->nprobe && (cell < 0 || !c->lists[cell].n); j++) cell = c->cells[q * c->nprobe + j];
    if (cell < 0) return;
    const cell_list *list = c->lists + cell;
    int64_t gap = sample_gap(list->n, wanted);
    for (int64_t row = 0; row < list->n; row += gap) {
        __builtin_prefetch(list->codes + row * c->job.bytes);
        if (list->terms) __builtin_prefetch(list->terms + row);
    }
}

/* A score that k codes of the nearest cells reach, if there are so many in all: from tables and terms, rounded up. */
static float NAME(first_limit)(const cells_job *c, const cell_scratch *s, const float *tables, const cell_pair *pairs,
                               int64_t count) {
    if (c->hits) return c->radius;
    int64_t groups = cell_groups(c->k), wanted = cell_sample(c->k), total = 0, cells = 0, group = 0, step = row_step(c->job.bytes);
    for (int64_t g = 0; g < groups; g++) s->sample[g] = WORST_SCORE;
    while (cells < count && total < wanted) total += c->lists[pairs[cells++].cell].n;
    for (int64_t j = 0; j < cells; j++) {
        const cell_list *list = c->lists + pairs[j].cell;
        int64_t gap = sample_gap(list->n, total <= wanted ? list->n : (list->n * wanted + total - 1) / total);
        for (int64_t begin = 0; begin < list->n; begin += gap) {
            int64_t rows = list->n - begin < SAMPLE_RUN ? list->n - begin : SAMPLE_RUN;
            float scores[SAMPLE_RUN];
            score_rows(&c->job, tables, list->codes + begin * c->job.bytes, rows, scores);
            for (int64_t r = 0; r < rows; r++) {
                if (!is_found(c, pairs[j].cell, begin + r)) continue;
                float score = pairs[j].offset + list->least + scores[r], *least = s->sample + group;
                if (list->terms) score += (list->terms[turned_row(begin + r, LANES, step)] + 1) * list->step;
                if (score < *least && score >= -WORST_SCORE) *least = score;
                group = group + 1 < groups ? group + 1 : 0;
            }
        }
    }
    return kth_smallest(s->sample, groups, c->k - 1);
}

/* What rounding may make of a score, of an offset or of sums of table entries, at most; infinity where these might
 * overflow. */
static double NAME(rounding)(const cells_job *c, const float *x, double limit, double farthest) {
    int d = dimensions(c);
    double square = 0;
    for (int t = 0; t < d; t++) square += (double)x[t] * x[t];
    double reach = c->reach, products = sqrt(square) * reach;
    if (!(products + square + reach * reach + farthest < LARGEST)) return INFINITY;
    return 4 * FLT_EPSILON * ((d / 8 + 16) * (fabs(limit) + farthest + reach * reach) + (c->job.dsub + c->job.M + 8) * products);
}

/* Begin with a query, in a row of its block, of which the tables are known: make its pairs, a first limit, bounds; scan
 * the nearest cell. Returns how many pairs are left. `x` is what the tables are of. */
static int64_t NAME(open_query)(const cells_job *c, cell_scratch *s, int64_t first, int64_t row, const float *x,
                                const float *tables, cell_pair *pairs) {
    int64_t q = first + row, count = 0;
    cell_query *query = s->queries + row;
    double nearest = INFINITY, farthest = 0;
    *query = (cell_query){.heap = c->hits ? NULL : s->heaps + row * c->k, .bounds = s->bounds + row * c->job.bytes * 256};
    for (int64_t j = 0; j < c->nprobe; j++) {
        int64_t cell = c->cells[q * c->nprobe + j];
        if (cell < 0 || !c->lists[cell].n) continue;
        pairs[count] = (cell_pair){cell, row, NAME(pair_offset)(c, q, cell, s->centre)};
        double least = pairs[count].offset + c->lists[cell].least;
        nearest = fmin(nearest, least);
        farthest = fmax(farthest, fmax(fabs(least), fabsf(pairs[count].offset)));
        count++;
    }
    query->limit.limit = NAME(first_limit)(c, s, tables, pairs, count);
    double margin = NAME(rounding)(c, x, query->limit.limit, farthest);
    if (!c->hits) query->limit.limit = raised(query->limit.limit, 2 * margin);
    for (int64_t j = 0; query->heap && j < c->k; j++) query->heap[j] = (cell_hit){query->limit.limit, -1};
    if (!count) return 0;
    NAME(round_tables)(c, s, tables, query, nearest, margin);
    NAME(scan_pairs)(c, s, first, pairs, 1, count > 1 ? c->lists + pairs[1].cell : NULL);
    if (count > 1 && !query->plain) NAME(round_tables)(c, s, tables, query, nearest, margin);
    memmove(pairs, pairs + 1, sizeof(cell_pair) * (count - 1));
    return count - 1;
}

/* What the tables of query q are made of. */
static void NAME(table_query)(const cells_job *c, int64_t q, float *out) {
    int d = dimensions(c);
    const float *x = c->queries + q * d;
    for (int t = 0; t < d; t++) out[t] = has_terms(c) ? 2 * (x[t] - c->middle[t]) : x[t];
}

/* Put the rows of `count` queries in the order of their nearest cells: those of one follow on each other. */
static void NAME(order_rows)(const cells_job *c, int64_t first, int64_t count, cell_scratch *s) {
    for (int64_t row = 0; row < count; row++) {
        int64_t cell = c->cells[(first + row) * c->nprobe];
        s->pairs[row] = (cell_pair){cell < 0 ? 0 : cell, (int32_t)row, 0};
    }
    if (count > 1) sort_pairs(s->pairs, s->sorted, count);
    for (int64_t i = 0; i < count; i++) s->order[i] = s->pairs[i].row;
}

/* Search for `count` queries from `first` on. */
static void NAME(search_cells)(const cells_job *c, int64_t first, int64_t count, cell_scratch *s) {
    int64_t pairs = 0, d = dimensions(c), entries = (int64_t)c->job.bytes * 256;
    s->opened = 0;
    for (int at = 0; at < TILE; at++)
        s->turned[row_of(at / LANES, PIECE_OF(at % LANES), LANES, row_step(c->job.bytes))] = (uint16_t)at;
    NAME(order_rows)(c, first, count, s);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i % OPENED_AT_ONCE, some = count - i < OPENED_AT_ONCE ? count - i : OPENED_AT_ONCE;
        for (int64_t q = 0; !at && q < some; q++) NAME(table_query)(c, first + s->order[i + q], s->tabled + q * d);
        if (!at) NAME(tables_of)(c, s->tabled, some, c->job.inner_product || has_terms(c), s);
        if (!c->hits && i + 1 < count) NAME(fetch_sample)(c, first + s->order[i + 1]);
        pairs += NAME(open_query)(c, s, first, s->order[i], s->tabled + at * d, s->scan.tables + at * entries, s->pairs + pairs);
    }
    s->opened = 1;
    if (count > 1) sort_pairs(s->pairs, s->sorted, pairs);
    for (int64_t begin = 0, end; begin < pairs; begin = end) {
        for (end = begin + 1; end < pairs && s->pairs[end].cell == s->pairs[begin].cell; end++) {}
        const cell_list *ahead = end < pairs ? c->lists + s->pairs[end].cell : NULL;
        NAME(scan_pairs)(c, s, first, s->pairs + begin, end - begin, ahead);
    }
    if (c->hits) return;
    for (int64_t row = 0; row < count; row++) hits_finish(c, first + row, s->queries[row].heap);
}

/* Levels of the terms of a cell's codes, in the order of turned tiles; (n, rounded up to tiles). Returns 0 where there
 * is no memory. */
static int NAME(make_terms)(const cells_job *c, const cell_scratch *s, const float *squares, int64_t cell, const uint8_t *codes,
                            int64_t n, uint8_t *levels, float *least, float *step) {
    int bytes = c->job.bytes, d = dimensions(c), per = row_step(bytes);
    double square = 0;
    float *terms = malloc(sizeof(float) * (n ? n : 1));
    if (!terms) return 0;
    centre_from_middle(c, cell, s->centre);
    for (int t = 0; t < d; t++) {
        s->centre[t] *= -2;
        square += (double)s->centre[t] * s->centre[t];
    }
    NAME(tables_of)(c, s->centre, 1, 1, s);
    for (int e = 0; e < bytes * 256; e++) s->scan.tables[e] += squares[e];
    score_rows(&c->job, s->scan.tables, codes, n, terms);
    float low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        low = terms[i] < low ? terms[i] : low;
        high = terms[i] > high ? terms[i] : high;
    }
    float loss = (float)(4 * FLT_EPSILON * (c->job.dsub + bytes + 8) * (c->reach * c->reach + sqrt(square) * c->reach));
    float span = high > low && high - low < LARGEST ? high - low : 0, scale = span / 255 > FLT_MIN ? 255 / span : 0;
    *step = scale > 0 ? span / 255 : 1.01f * span; /* one level for all where there are no numbers for more */
    *least = !n ? 0 : fabsf(low) + fabsf(high) < LARGEST ? low - loss - *step * 1e-3f : -INFINITY;
    for (int64_t i = 0; i < (n + TILE - 1) / TILE * TILE; i++) {
        int64_t at = i % TILE, row = i - at + row_of((int)(at / LANES), PIECE_OF(at % LANES), LANES, per);
        float level = row < n ? (terms[row] - low) * scale : 0;
        levels[i] = (uint8_t)(level < 255 ? level : 255);
    }
    free(terms);
    return 1;
}

