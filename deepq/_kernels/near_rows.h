/* The nearest codewords of n vectors z (n, dsub), `count` each, the nearest first, to `found`; included by assign_rows.h.
 * Returns 0 where scores overflow. */
static int NAME(near_rows)(const assign_codebook *book, const float *z, int64_t n, near_scratch *s, int64_t count, int64_t *found) {
    int dsub = book->dsub;
    for (int64_t i = 0; i < n;) {
        int rows = n - i >= NEAR_ROWS ? NEAR_ROWS : 1;
        FLOATS low[ASSIGN_TILE][2];
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < dsub; t++) s->centred[r * dsub + t] = (z[(i + r) * dsub + t] - book->centre[t]) * book->unit;
        four_floats slack = assign_slack(book, s->centred, rows);
        for (int first = 0; first < book->padded; first += NEAR_STRETCH) {
            int some = book->padded - first < NEAR_STRETCH ? book->padded - first : NEAR_STRETCH;
            float (*scores)[NEAR_STRETCH] = s->scores + first / NEAR_STRETCH * NEAR_ROWS;
            if (rows == 1) NAME(score)(book, s->centred, 1, first, some, scores, low);
            else NAME(score)(book, s->centred, NEAR_ROWS, first, some, scores, low);
        }
        for (int r = 0; r < rows; r++, i++) {
            for (int first = 0; first < book->padded; first += NEAR_STRETCH) {
                int some = book->padded - first < NEAR_STRETCH ? book->padded - first : NEAR_STRETCH;
                memcpy(s->row + first, s->scores[first / NEAR_STRETCH * NEAR_ROWS + r], sizeof(float) * some);
            }
            if (!near_pick(book, z + i * dsub, s, slack[r], count, found + i * count)) return 0;
        }
    }
    return 1;
}
