/* Nearest codewords; included once per instruction set.
 *
 * Defined by the includer: FLOAT_BYTES (of a float register), NAME(x), SUBTRACT_PRODUCT(a, b, c) = a - b * c,
 * KEEP_LESS(score, at, best, best_at): where score < best, best = score and best_at = at.
 */

typedef float NAME(floats) __attribute__((vector_size(FLOAT_BYTES), may_alias));
typedef int32_t NAME(ints) __attribute__((vector_size(FLOAT_BYTES), may_alias));
#define FLOATS NAME(floats)
#define INTS NAME(ints)
#define FLOAT_LANES ((int)(FLOAT_BYTES / sizeof(float)))

/* Words of `rows` (at most 4, known at compile time) centred sub-vectors, `dsub` floats apart. */
static inline __attribute__((always_inline)) void NAME(assign_tile)(
        const assign_codebook *book, const float *z, int rows, int32_t *words) {
    FLOATS best[4];
    INTS best_at[4], at;
    for (int r = 0; r < rows; r++) {
        best[r] = (FLOATS){0} + FLT_MAX;
        best_at[r] = (INTS){0};
    }
    for (int j = 0; j < FLOAT_LANES; j++) at[j] = j;
    for (int j = 0; j < book->padded; j += 2 * FLOAT_LANES) {
        const FLOATS *half_norms = (const FLOATS *)(book->half_norms + j);
        FLOATS left[4], right[4];
        for (int r = 0; r < rows; r++) {
            left[r] = half_norms[0];
            right[r] = half_norms[1];
        }
        for (int t = 0; t < book->dsub; t++) {
            const FLOATS *c = (const FLOATS *)(book->codewords + (int64_t)t * book->padded + j);
            for (int r = 0; r < rows; r++) {
                FLOATS x = z[(int64_t)r * book->dsub + t] - (FLOATS){0}; /* not +, which would not be folded */
                left[r] = SUBTRACT_PRODUCT(left[r], x, c[0]);
                right[r] = SUBTRACT_PRODUCT(right[r], x, c[1]);
            }
        }
        for (int r = 0; r < rows; r++) {
            KEEP_LESS(left[r], at, best[r], best_at[r]);
            KEEP_LESS(right[r], at + FLOAT_LANES, best[r], best_at[r]);
        }
        at += 2 * FLOAT_LANES;
    }
    for (int r = 0; r < rows; r++) words[r] = least_lane(best + r, best_at + r, FLOAT_LANES / 4);
}

/* Words of n sub-vectors, `stride` floats apart; `centred` has room for n * dsub floats. */
static void NAME(assign_rows)(const assign_codebook *book, const float *z, int64_t n, int64_t stride, float *centred,
                              int32_t *words) {
    int dsub = book->dsub;
    for (int64_t i = 0; i < n; i++)
        for (int t = 0; t < dsub; t++) centred[i * dsub + t] = z[i * stride + t] - book->centre[t];
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) NAME(assign_tile)(book, centred + i * dsub, 4, words + i);
    for (; i < n; i++) NAME(assign_tile)(book, centred + i * dsub, 1, words + i);
}

#undef FLOAT_BYTES
#undef NAME
#undef SUBTRACT_PRODUCT
#undef KEEP_LESS
#undef FLOATS
#undef INTS
#undef FLOAT_LANES
