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
        const scan_job *job, const float *compared, const uint8_t *code, float *vector, int inner_product) {
    NAME(eight) sums = {0};
    int dsub = job->dsub, d = job->M * dsub, t = 0;
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
    if (!c->job.inner_product) return NAME(code_cost)(&c->job, compared, code, s->vector, 0);
    float score = NAME(code_cost)(&c->job, compared, code, s->vector, 1);
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

/* The bounds of a cell's terms, in the query's units. */
static void NAME(round_terms)(const cells_job *c, cell_query *query, const cell_list *list) {
    uint8_t *bounds = query->bounds + c->job.bytes * 256;
    double units = (double)list->step * query->limit.scale * 256;
    uint32_t factor = units < 65535 ? (uint32_t)units : 65535;
    if (query->limit.bits == HALVES) {
        for (int v = 0; v < 16; v++)
            for (int half = 0; half < 2; half++) {
                uint32_t value = turned_bits((uint8_t)(v << 4 * half)) * factor >> 8;
                bounds[16 * half + v] = (uint8_t)(value < 255 ? value : 255);
            }
        return;
    }
    int entries = 1 << query->limit.bits;
    for (int v = 0; v < entries; v++) {
        uint32_t level = turned_bits((uint8_t)v);
        uint32_t value = level * factor >> 8;
        bounds[v] = (uint8_t)(value < 255 ? value : 255);
    }
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

/* Turn the tile of a cell that begins at row i, and put its terms beside. */
static void NAME(turn_cell)(const cells_job *c, const cell_list *list, int64_t i, int per, const cell_scratch *s) {
    int bytes = c->job.bytes;
    int64_t rows = list->n - i < TILE ? list->n - i : TILE;
    const uint8_t *codes = list->codes + i * bytes;
    if ((list->n - i - TILE) * bytes < 16) codes = memcpy(s->scan.rest, codes, rows * bytes);
    NAME(turn_tile)(codes, bytes, per, NULL, s->scan.columns);
    if (list->terms) memcpy(s->scan.columns + bytes * TILE, list->terms + i, TILE);
}

/* Scan a cell for `count` queries: pairs of the same cell. `first` is the query of row 0. */
static void NAME(scan_pairs)(const cells_job *c, const cell_scratch *s, int64_t first, const cell_pair *pairs, int64_t count) {
    int64_t cell = pairs[0].cell, active = 0;
    const cell_list *list = c->lists + cell;
    int bytes = c->job.bytes, d = dimensions(c), columns = bytes + (list->terms != NULL);
    int per = row_step(bytes);
    for (int64_t j = 0; j < count; j++) {
        cell_query *query = s->queries + pairs[j].row;
        if (query->plain) {
            pair_query(c, first + pairs[j].row, cell, s->compared);
            NAME(scan_plain)(c, s, query, first + pairs[j].row, pairs[j], s->compared);
            continue;
        }
        s->units[active] = pair_units(query, pairs[j].offset + list->least);
        if (s->units[active] < 0) continue;
        if (list->terms) NAME(round_terms)(c, query, list);
        s->has_compared[active] = 0;
        s->active[active++] = j;
    }
    for (int64_t i = 0; active && i < list->n; i += TILE) {
        NAME(turn_cell)(c, list, i, per, s);
        int64_t rows = list->n - i < TILE ? list->n - i : TILE;
        for (int64_t a = 0; a < active; a++) {
            cell_pair pair = pairs[s->active[a]];
            cell_query *query = s->queries + pair.row;
            for (int j = 0; j * LANES < rows; j += AT_ONCE) {
                uint64_t hits[AT_ONCE];
                if (s->units[a] < 0) break;
                if (!NAME(bound_codes)(s->scan.columns + j * LANES, query->bounds, columns, query->limit.bits, s->units[a], hits))
                    continue;
                float *compared = s->compared + a * d, before = query->limit.limit, scores[AT_ONCE * LANES];
                uint16_t found[AT_ONCE * LANES];
                int survivors = 0;
                for (int h = 0; h < AT_ONCE; h++)
                    for (uint64_t left = hits[h]; left; left &= left - 1) {
                        int64_t row = row_of(h, PIECE_OF(__builtin_ctzll(left)), LANES, per);
                        if (i + j * LANES + row < list->n && is_found(c, cell, i + j * LANES + row)) {
                            found[survivors++] = (uint16_t)row;
                            __builtin_prefetch(list->ids + i + j * LANES + row);
                        }
                    }
                if (!survivors) continue;
                if (!s->has_compared[a]) {
                    pair_query(c, first + pair.row, cell, compared);
                    s->has_compared[a] = 1;
                }
                const uint8_t *codes = list->codes + (i + j * LANES) * bytes;
                for (int f = 0; f < survivors; f++) /* apart, so that they wait for memory together */
                    scores[f] = NAME(score_in_cell)(c, s, compared, pair.offset, codes + found[f] * bytes);
                for (int f = 0; f < survivors; f++)
                    pair_offer(c, query, first + pair.row, cell, i + j * LANES + found[f], scores[f]);
                if (query->limit.limit != before) s->units[a] = pair_units(query, pair.offset + list->least);
            }
        }
    }
}

/* A score that k codes of the nearest cells reach, if there are so many in all: from tables and terms, rounded up. */
static float NAME(first_limit)(const cells_job *c, const cell_scratch *s, const float *tables, const cell_pair *pairs,
                               int64_t count) {
    if (c->hits) return c->radius;
    int64_t groups = cell_groups(c->k), wanted = cell_sample(c->k), drawn = 0, total = 0, cells = 0, step = row_step(c->job.bytes);
    for (int64_t g = 0; g < groups; g++) s->sample[g] = WORST_SCORE;
    while (cells < count && total < wanted) total += c->lists[pairs[cells++].cell].n;
    for (int64_t j = 0; j < cells; j++) {
        const cell_list *list = c->lists + pairs[j].cell;
        int64_t share = total <= wanted ? list->n : (list->n * wanted + total - 1) / total;
        for (int64_t i = 0; i < share && drawn < wanted; i += 4) { /* in runs of four */
            int64_t row = i * list->n / share, rows = list->n - row < 4 ? list->n - row : 4;
            float scores[4];
            score_rows(&c->job, tables, list->codes + row * c->job.bytes, rows, scores);
            for (int64_t r = 0; r < rows; r++, row++) {
                if (!is_found(c, pairs[j].cell, row)) continue;
                float score = pairs[j].offset + list->least + scores[r];
                if (list->terms) score += (turned_bits(list->terms[turned_row(row, LANES, step)]) + 1) * list->step;
                float *least = s->sample + drawn++ % groups;
                if (score < *least && score >= -WORST_SCORE) *least = score;
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
    *query = (cell_query){.heap = c->hits ? NULL : s->heaps + row * c->k, .bounds = s->bounds + row * (c->job.bytes + 1) * 256};
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
    for (int64_t j = 0; query->heap && j < c->k; j++) query->heap[j] = (cell_hit){query->limit.limit, NO_ID, -1};
    if (!count) return 0;
    NAME(round_tables)(c, s, tables, query, nearest, margin);
    NAME(scan_pairs)(c, s, first, pairs, 1);
    if (count > 1 && !query->plain) {
        NAME(round_tables)(c, s, tables, query, nearest, margin);
#ifndef PORTABLE
        const cell_list *list = c->lists + pairs[0].cell;
        if (!query->plain && list->n >= TILE) {
            scan_job wide = c->job;
            scan_scratch scratch = s->scan;
            wide.bytes += list->terms != NULL;
            NAME(turn_cell)(c, list, 0, row_step(c->job.bytes), s);
            scratch.sampled = s->scan.columns;
            scratch.drawn = TILE;
            if (list->terms) NAME(round_terms)(c, query, list);
            query->limit.units = pair_units(query, pairs[0].offset + list->least);
            NAME(choose_bits)(&wide, &scratch, query->bounds, &query->limit);
        }
#endif
    }
    memmove(pairs, pairs + 1, sizeof(cell_pair) * (count - 1));
    return count - 1;
}

/* What the tables of query q are made of. */
static void NAME(table_query)(const cells_job *c, int64_t q, float *out) {
    int d = dimensions(c);
    const float *x = c->queries + q * d;
    for (int t = 0; t < d; t++) out[t] = has_terms(c) ? 2 * (x[t] - c->middle[t]) : x[t];
}

/* Search for `count` queries from `first` on. */
static void NAME(search_cells)(const cells_job *c, int64_t first, int64_t count, cell_scratch *s) {
    int64_t pairs = 0, d = dimensions(c);
    for (int64_t row = 0; row < count; row++) {
        int64_t at = row % OPENED_AT_ONCE;
        if (!at) {
            int64_t some = count - row < OPENED_AT_ONCE ? count - row : OPENED_AT_ONCE;
            for (int64_t q = 0; q < some; q++) NAME(table_query)(c, first + row + q, s->tabled + q * d);
            NAME(tables_of)(c, s->tabled, some, c->job.inner_product || has_terms(c), s);
        }
        pairs += NAME(open_query)(c, s, first, row, s->tabled + at * d, s->scan.tables + at * c->job.bytes * 256, s->pairs + pairs);
    }
    if (count > 1) sort_pairs(s->pairs, s->sorted, pairs);
    for (int64_t begin = 0, end; begin < pairs; begin = end) {
        for (end = begin + 1; end < pairs && s->pairs[end].cell == s->pairs[begin].cell; end++) {}
        NAME(scan_pairs)(c, s, first, s->pairs + begin, end - begin);
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
    *step = high > low && high - low < LARGEST ? (high - low) / 255 : 0;
    *least = !n ? 0 : fabsf(low) + fabsf(high) < LARGEST ? low - loss - *step * 1e-3f : -INFINITY;
    float scale = *step > FLT_MIN ? 1 / *step : 0;
    for (int64_t i = 0; i < (n + TILE - 1) / TILE * TILE; i++) {
        int64_t at = i % TILE, row = i - at + row_of((int)(at / LANES), PIECE_OF(at % LANES), LANES, per);
        float level = row < n ? (terms[row] - low) * scale : 0;
        levels[i] = turned_bits((uint8_t)(level < 255 ? level : 255));
    }
    free(terms);
    return 1;
}

