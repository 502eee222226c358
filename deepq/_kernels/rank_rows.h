/* Ranking; included once per instruction set. No multiplication is fused, and sums have one order everywhere. */

/* Squared distance or negative inner product: eight sums side by side, and the rest. */
static inline float NAME(rank_cost)(const float *x, const float *y, int64_t d, int inner_product) {
    eight_floats sums = {0};
    int64_t i = 0;
    float rest = 0, total = 0;
    for (; i + 8 <= d; i += 8) {
        eight_floats a = *(const eight_floats *)(x + i), b = *(const eight_floats *)(y + i);
        if (inner_product) sums -= a * b;
        else sums += (a - b) * (a - b);
    }
    for (; i < d; i++) rest += inner_product ? -x[i] * y[i] : (x[i] - y[i]) * (x[i] - y[i]);
    for (int j = 0; j < 8; j++) total += sums[j];
    return rest + total;
}

/* Fill D and I (k,) with the best of `found` ids, those of vectors (.., d) at `places`; a score that is NaN is the
 * worst. Negative ids are none. */
static void NAME(rank_query)(
        const float *query, const float *vectors, int64_t d, const int64_t *ids, const int64_t *places, int64_t found,
        int inner_product, float *D, int64_t *I, int64_t k) {
    for (int64_t j = 0; j < k; j++) {
        D[j] = INFINITY;
        I[j] = NO_ID;
    }
    for (int64_t i = 0; i < found; i++) {
        if (i + 4 < found && ids[i + 4] >= 0)
            for (int64_t t = 0; t < d; t += 16) __builtin_prefetch(vectors + places[i + 4] * d + t);
        if (ids[i] < 0) continue;
        float cost = NAME(rank_cost)(query, vectors + places[i] * d, d, inner_product);
        if (!(cost < INFINITY)) cost = INFINITY;
        if (ranks_before(cost, ids[i], D[0], I[0])) heap_sift_down(D, I, k, 0, cost, ids[i]);
    }
    heap_finish(D, I, k, inner_product);
}

/* Rough costs of `found` codes, of words (found, M): of the query with sums of summands (M, ksub, d), d a multiple of
 * 16. `whole` has room for d. */
static void NAME(rough_costs)(
        const int8_t *summands, int M, int ksub, int d, const uint8_t *words, int64_t found, const float *query,
        int inner_product, float *whole, float *costs) {
    for (int64_t i = 0; i < found; i++, words += M) {
        for (int t = 0; t < d; t += 16) {
            sixteen_shorts sum = {0};
            for (int m = 0; m < M; m++) {
                const int8_t *row = summands + ((int64_t)m * ksub + words[m]) * d + t;
                sum += AS_SHORTS(row);
            }
            *(sixteen_floats *)(whole + t) = __builtin_convertvector(sum, sixteen_floats);
        }
        costs[i] = NAME(rank_cost)(query, whole, d, inner_product);
    }
}
