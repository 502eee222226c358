/* A decoder's network; included once per instruction set.
 *
 * Defined by the includer: FLOAT_BYTES (of a float register), TILE_ROWS (rows that share a load of weights: 4 or 8),
 * NAME(x), MULTIPLY_ADD(a, b, c) = a * b + c, AS_FLOATS(p), AS_SHORTS(p): as many bytes from p on as numbers of a
 * register, and 16 of them, which have signs.
 */

typedef float NAME(network_floats) __attribute__((vector_size(FLOAT_BYTES), may_alias, aligned(4)));
#define FLOATS NAME(network_floats)
#define FLOAT_LANES ((int)(FLOAT_BYTES / sizeof(float)))

/* Add to `rows` rows of c, from a column of it on, those of a times a panel of weights; negative sums become zero
 * if `rectify`. `rows` and `rectify` are known at compile time. */
static inline __attribute__((always_inline)) void NAME(multiply_tile)(
        const float *a, int wide, const float *panel, float *c, int64_t stride, int rows, int rectify) {
    for (int at = 0; at < DECODE_PANEL; at += 2 * FLOAT_LANES) {
        FLOATS left[TILE_ROWS], right[TILE_ROWS];
        for (int r = 0; r < rows; r++) {
            left[r] = *(const FLOATS *)(c + r * stride + at);
            right[r] = *(const FLOATS *)(c + r * stride + at + FLOAT_LANES);
        }
        for (int t = 0; t < wide; t++) {
            const FLOATS *w = (const FLOATS *)(panel + (int64_t)t * DECODE_PANEL + at);
            for (int r = 0; r < rows; r++) {
                FLOATS x = a[(int64_t)r * wide + t] - (FLOATS){0}; /* not +, which would not be folded */
                left[r] = MULTIPLY_ADD(x, w[0], left[r]);
                right[r] = MULTIPLY_ADD(x, w[1], right[r]);
            }
        }
        for (int r = 0; r < rows; r++) {
            FLOATS *out = (FLOATS *)(c + r * stride + at);
            for (int i = 0; rectify && i < FLOAT_LANES; i++) {
                left[r][i] = left[r][i] > 0 ? left[r][i] : 0;
                right[r][i] = right[r][i] > 0 ? right[r][i] : 0;
            }
            out[0] = left[r];
            out[1] = right[r];
        }
    }
}

/* Add a (n, wide) times weights (wide, columns), laid out as panels, to c (n, columns). */
static inline __attribute__((always_inline)) void NAME(multiply)(
        const float *a, int n, int wide, const float *weights, int columns, float *c, int rectify) {
    for (int first = 0; first < columns; first += DECODE_PANEL) {
        const float *panel = weights + (int64_t)first * wide;
        int i = 0;
#define TILES(rows) \
        for (; i + rows <= n; i += rows) \
            NAME(multiply_tile)(a + (int64_t)i * wide, wide, panel, c + (int64_t)i * columns + first, columns, rows, rectify)
#if TILE_ROWS == 8
        TILES(8);
#endif
        TILES(4);
        TILES(2);
        TILES(1);
#undef TILES
    }
}

/* Add to sums (width,) the rows (width,) of `count` tables (ksub, width) that words point to, or set them if
 * `first`; `count` and `first` are known at compile time. Fetch what `next` points to in as many tables from
 * `after` on. */
static inline __attribute__((always_inline)) void NAME(add_rows)(
        const float *tables, const int32_t *words, const float *after, const int32_t *next, int count, int first,
        int ksub, int width, float *sums) {
    const float *row[4], *later[4];
    for (int m = 0; m < count; m++) {
        row[m] = tables + ((int64_t)m * ksub + words[m]) * width;
        later[m] = after + ((int64_t)m * ksub + next[m]) * width;
    }
    for (int at = 0; at < width; at += 16) {
        for (int m = 0; m < count; m++) __builtin_prefetch(later[m] + at);
        for (int t = at; t < at + 16; t += FLOAT_LANES) {
            FLOATS sum = *(const FLOATS *)(row[0] + t);
            if (!first) sum = *(const FLOATS *)(sums + t) + sum;
            for (int m = 1; m < count; m++) sum += *(const FLOATS *)(row[m] + t);
            *(FLOATS *)(sums + t) = sum;
        }
    }
}

/* Sum for n codes the rows of tables (M, ksub, width) that words (n, M) point to, in their order. */
static inline __attribute__((always_inline)) void NAME(add_up)(
        const float *tables, const int32_t *words, int n, int M, int ksub, int width, float *sums) {
    int64_t size = (int64_t)ksub * width;
    for (int i = 0; i < n; i++, words += M, sums += width) {
        int m = 0;
        for (; m + 4 <= M; m += 4) {
            int ahead = m + 8 <= M ? m + 4 : 0; /* of this code or the next */
            const int32_t *next = ahead || i + 1 == n ? words + ahead : words + M;
            if (m) NAME(add_rows)(tables + m * size, words + m, tables + ahead * size, next, 4, 0, ksub, width, sums);
            else NAME(add_rows)(tables, words, tables + ahead * size, next, 4, 1, ksub, width, sums);
        }
        for (; m < M; m++) {
            const float *table = tables + m * size;
            if (m) NAME(add_rows)(table, words + m, table, words + m, 1, 0, ksub, width, sums);
            else NAME(add_rows)(table, words + m, table, words + m, 1, 1, ksub, width, sums);
        }
    }
}

/* Add to sums (n, width) the row (width,) of the cell of each. */
static inline __attribute__((always_inline)) void NAME(add_cells)(
        const float *rows, const int32_t *cells, int n, int width, float *sums) {
    for (int i = 0; i < n; i++) {
        const float *row = rows + (int64_t)cells[i] * width;
        for (int t = 0; t < width; t += FLOAT_LANES)
            *(FLOATS *)(sums + (int64_t)i * width + t) += *(const FLOATS *)(row + t);
    }
}

/* Add a bias (width,) to numbers; negative sums become zero. */
static inline __attribute__((always_inline)) void NAME(rectify)(float *numbers, const float *bias, int width) {
    for (int t = 0; t < width; t++) numbers[t] = numbers[t] + bias[t] > 0 ? numbers[t] + bias[t] : 0;
}

static void NAME(decode_rows)(
        const decode_network *network, const int32_t *words, int n, float *inside, float *hidden, float *z) {
    int M = network->M, ksub = network->ksub, h = network->h, w = network->inside, d = network->d;
    NAME(add_up)(network->features, words, n, M, ksub, h, hidden);
    NAME(add_up)(network->entered, words, n, M, ksub, w, inside);
    NAME(add_up)(network->tables, words, n, M, ksub, d, z);
    if (network->cells) {
        NAME(add_cells)(network->cell_features, network->cells, n, h, hidden);
        NAME(add_cells)(network->cell_entered, network->cells, n, w, inside);
    }
    for (int i = 0; i < n; i++) NAME(rectify)(inside + (int64_t)i * w, network->bias, w);
    NAME(multiply)(inside, n, w, network->outer, h, hidden, 1);
    NAME(multiply)(hidden, n, h, network->output, d, z, 0);
}

/* Rows (n, columns) times weights (wide, columns), laid out as panels: each the same whatever is beside it. */
static void NAME(multiply_rows)(const float *a, int n, int wide, const float *weights, int columns, float *c) {
    memset(c, 0, sizeof(float) * n * columns);
    NAME(multiply)(a, n, wide, weights, columns, c, 0);
}
