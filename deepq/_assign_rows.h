/* Nearest codewords; included once per instruction set.
 *
 * Defined by the includer: FLOAT_BYTES (of a float register), NAME(x), MULTIPLY_ADD(a, b, c) = a * b + c,
 * KEEP_LESS(score, at, best, best_at): where score < best, best = score and best_at = at.
 */

typedef float NAME(floats) __attribute__((vector_size(FLOAT_BYTES), may_alias));
typedef int32_t NAME(ints) __attribute__((vector_size(FLOAT_BYTES), may_alias));
#define FLOATS NAME(floats)
#define INTS NAME(ints)
#define FLOAT_LANES ((int)(FLOAT_BYTES / sizeof(float)))

/* Words of `rows` (at most 4, known at compile time) sub-vectors, `stride` floats apart, under the
 * transposed codebook (dsub, padded) of one sub-space; padded is a multiple of two registers. */
static inline __attribute__((always_inline)) void NAME(assign_tile)(
        const float *z, int64_t stride, const float *codebook, int dsub, int padded, int rows, int32_t *words) {
    FLOATS best[4];
    INTS best_at[4], at;
    for (int r = 0; r < rows; r++) {
        best[r] = (FLOATS){0} + FLT_MAX;
        best_at[r] = (INTS){0};
    }
    for (int j = 0; j < FLOAT_LANES; j++) at[j] = j;
    for (int j = 0; j < padded; j += 2 * FLOAT_LANES) {
        FLOATS left[4], right[4];
        for (int r = 0; r < rows; r++) left[r] = right[r] = (FLOATS){0};
        for (int t = 0; t < dsub; t++) {
            const FLOATS *c = (const FLOATS *)(codebook + (int64_t)t * padded + j);
            for (int r = 0; r < rows; r++) {
                FLOATS x = (FLOATS){0} + z[r * stride + t], u = x - c[0], v = x - c[1];
                left[r] = MULTIPLY_ADD(u, u, left[r]);
                right[r] = MULTIPLY_ADD(v, v, right[r]);
            }
        }
        for (int r = 0; r < rows; r++) {
            KEEP_LESS(left[r], at, best[r], best_at[r]);
            KEEP_LESS(right[r], at + FLOAT_LANES, best[r], best_at[r]);
        }
        at += 2 * FLOAT_LANES;
    }
    for (int r = 0; r < rows; r++) {
        int winner = 0;
        for (int j = 1; j < FLOAT_LANES; j++)
            if (best[r][j] < best[r][winner] || (best[r][j] == best[r][winner] && best_at[r][j] < best_at[r][winner]))
                winner = j;
        words[r] = best_at[r][winner];
    }
}

static void NAME(assign_rows)(const float *z, int64_t n, int64_t stride, const float *codebook, int dsub, int padded,
                              int32_t *words) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) NAME(assign_tile)(z + i * stride, stride, codebook, dsub, padded, 4, words + i);
    for (; i < n; i++) NAME(assign_tile)(z + i * stride, stride, codebook, dsub, padded, 1, words + i);
}

#undef FLOAT_BYTES
#undef NAME
#undef MULTIPLY_ADD
#undef KEEP_LESS
#undef FLOATS
#undef INTS
#undef FLOAT_LANES
