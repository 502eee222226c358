/* Nearest codewords; included once per instruction set.
 *
 * Defined by the includer: FLOAT_BYTES (of a float register), NAME(x), SUBTRACT_PRODUCT(a, b, c) = a - b * c,
 * LESS(a, b): the lesser, b where a is NaN; ABOVE(a, limit): a bit for each lane of a, 1 where it is above.
 */

typedef float NAME(floats) __attribute__((vector_size(FLOAT_BYTES), may_alias));
typedef int32_t NAME(ints) __attribute__((vector_size(FLOAT_BYTES), may_alias));
#define FLOATS NAME(floats)
#define INTS NAME(ints)
#define FLOAT_LANES ((int)(FLOAT_BYTES / sizeof(float)))

/* Scores of `rows` centred sub-vectors with `count` codewords from the `first` on, and the least of every lane,
 * which has those of numbers that are 2 * FLOAT_LANES apart. */
static inline __attribute__((always_inline)) void NAME(score)(
        const assign_codebook *book, const float *centred, int rows, int first, int count,
        float (*scores)[ASSIGN_STRETCH], FLOATS (*low)[2]) {
    for (int r = 0; r < rows; r++) low[r][0] = low[r][1] = (FLOATS){0} + INFINITY;
    for (int j = 0; j < count; j += 2 * FLOAT_LANES) {
        const FLOATS *half_norms = (const FLOATS *)(book->half_norms + first + j);
        FLOATS left[ASSIGN_TILE], right[ASSIGN_TILE];
        for (int r = 0; r < rows; r++) {
            left[r] = half_norms[0];
            right[r] = half_norms[1];
        }
        const float *panel = book->codewords + (int64_t)((first + j) / ASSIGN_PAD) * ASSIGN_PAD * book->dsub + (first + j) % ASSIGN_PAD;
        for (int t = 0; t < book->dsub; t++, panel += ASSIGN_PAD) {
            const FLOATS *c = (const FLOATS *)panel;
            for (int r = 0; r < rows; r++) {
                FLOATS x = centred[r * book->dsub + t] - (FLOATS){0}; /* not +, which would not be folded */
                left[r] = SUBTRACT_PRODUCT(left[r], x, c[0]);
                right[r] = SUBTRACT_PRODUCT(right[r], x, c[1]);
            }
        }
        for (int r = 0; r < rows; r++) {
            FLOATS *kept = (FLOATS *)(scores[r] + j);
            kept[0] = left[r];
            kept[1] = right[r];
            low[r][0] = LESS(left[r], low[r][0]);
            low[r][1] = LESS(right[r], low[r][1]);
        }
    }
}

/* Bits of the places of a lane, 1 where its score is not above the limit. */
static inline __attribute__((always_inline)) uint32_t NAME(places)(const float *score, int count, float limit) {
    const int step = 2 * FLOAT_LANES;
    uint32_t places = 0;
    int bit = 0, end = count / step;
    for (; bit + 4 <= end; bit += 4, score += 4 * step) {
        four_floats four = {score[0], score[step], score[2 * step], score[3 * step]};
        places |= (15 ^ above_of_four(four, limit)) << bit;
    }
    for (; bit < end; bit++, score += step) places |= (uint32_t)!(*score > limit) << bit;
    return places;
}

/* Words of `rows` (at most ASSIGN_TILE, known at compile time) sub-vectors, as they are and `dsub` centred. */
static inline __attribute__((always_inline)) void NAME(assign_tile)(
        const assign_codebook *book, const float *z, int64_t stride, const float *centred, int rows, int32_t *words) {
    const uint32_t all = (uint32_t)((1ull << 2 * FLOAT_LANES) - 1);
    float scores[ASSIGN_TILE][ASSIGN_STRETCH] __attribute__((aligned(64)));
    assign_best best = {z, stride, assign_slack(book, centred, rows), (four_floats){0} + INFINITY,
                        {-1, -1, -1, -1}, {-1, -1, -1, -1}};
    for (int first = 0; first < book->padded; first += ASSIGN_STRETCH) {
        int count = book->padded - first < ASSIGN_STRETCH ? book->padded - first : ASSIGN_STRETCH;
        FLOATS low[ASSIGN_TILE][2];
        NAME(score)(book, centred, rows, first, count, scores, low);
        four_floats of_rows[ASSIGN_TILE] = {{0}};
        for (int r = 0; r < rows; r++) {
            FLOATS both = LESS(low[r][0], low[r][1]);
            of_rows[r] = least_of_fours(&both, FLOAT_LANES / 4);
        }
        four_floats least = least_of_each(of_rows), limits = least + best.slack;
        uint32_t open[ASSIGN_TILE];
        for (int r = 0; r < rows; r++)
            open[r] = all & ~(ABOVE(low[r][0], limits[r]) | ABOVE(low[r][1], limits[r]) << FLOAT_LANES);
        for (int r = 0; r < rows; r++) {
            if (first && least[r] > best.scores[r] + best.slack[r]) continue;
            int lane = __builtin_ctz(open[r]);
            const float *score = scores[r] + lane;
            uint32_t places = count == ASSIGN_STRETCH ? NAME(places)(score, ASSIGN_STRETCH, limits[r])
                                                      : NAME(places)(score, count, limits[r]);
            if (!first && is_single(open[r]) && is_single(places)) {
                best.words[r] = lane + __builtin_ctz(places) * 2 * FLOAT_LANES;
                best.scores[r] = least[r];
            } else {
                consider_lanes(book, &best, r, scores[r], first, count, 2 * FLOAT_LANES, open[r], limits[r]);
            }
        }
    }
    for (int r = 0; r < rows; r++) words[r] = best.words[r];
}

/* Words of n sub-vectors, `stride` floats apart; `centred` has room for n * dsub floats. */
static void NAME(assign_rows)(const assign_codebook *book, const float *z, int64_t n, int64_t stride, float *centred,
                              int32_t *words) {
    int dsub = book->dsub;
    for (int64_t i = 0; i < n; i++)
        for (int t = 0; t < dsub; t++) centred[i * dsub + t] = (z[i * stride + t] - book->centre[t]) * book->unit;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) NAME(assign_tile)(book, z + i * stride, stride, centred + i * dsub, 4, words + i);
    for (; i < n; i++) NAME(assign_tile)(book, z + i * stride, stride, centred + i * dsub, 1, words + i);
}

#include "near_rows.h"

#undef FLOAT_BYTES
#undef NAME
#undef SUBTRACT_PRODUCT
#undef LESS
#undef ABOVE
#undef FLOATS
#undef INTS
#undef FLOAT_LANES
