/* Choosing the words of additive codes; included once per instruction set. */

/* Add numbers (count,) to sums. */
static inline __attribute__((always_inline)) void NAME(add_to)(float *sums, const float *numbers, int count) {
    int t = 0;
    for (; t + FLOAT_LANES <= count; t += FLOAT_LANES) *(FLOATS *)(sums + t) += *(const FLOATS *)(numbers + t);
    for (; t < count; t++) sums[t] += numbers[t];
}

/* Fetch numbers (count,) that are needed soon. */
static inline __attribute__((always_inline)) void NAME(fetch)(const float *numbers, int count) {
    for (int t = 0; t < count; t += 16) __builtin_prefetch(numbers + t);
}

/* Errors (ksub,) of a beginning of m words with each word of the next codebook. */
static inline __attribute__((always_inline)) void NAME(with_next)(
        const beam_job *job, const int32_t *words, int m, float error, const float *costs, float *errors) {
    int ksub = job->ksub;
    int64_t square = (int64_t)ksub * ksub;
    const float *pairs = job->cross + square * m * (m - 1) / 2;
    for (int k = 0; k < ksub; k++) errors[k] = error + costs[k];
    for (int j = 0; j < m; j++) {
        if (j + 1 < m) NAME(fetch)(pairs + square * (j + 1) + (int64_t)words[j + 1] * ksub, ksub);
        NAME(add_to)(errors, pairs + square * j + (int64_t)words[j] * ksub, ksub);
    }
}

static void NAME(beam_rows)(const beam_job *job, const float *costs, int64_t n, int32_t *words) {
    int M = job->M, ksub = job->ksub, size = job->width * M;
    for (int64_t i = 0; i < n; i++) {
        int32_t *own = job->words, *longer = own + size;
        int count = 1;
        job->errors[0] = 0;
        for (int m = 0; m < M; m++, costs += ksub) {
            for (int b = 0; b < count; b++)
                NAME(with_next)(job, own + b * M, m, job->errors[b], costs, job->next + (int64_t)b * ksub);
            int all = count * ksub;
            count = all < job->width ? all : job->width;
            least(job->next, all, count, job->spare, job->errors, job->places);
            for (int b = 0; b < count; b++) {
                memcpy(longer + b * M, own + job->places[b] / ksub * M, sizeof(int32_t) * m);
                longer[b * M + m] = job->places[b] % ksub;
            }
            int32_t *shorter = own;
            own = longer;
            longer = shorter;
        }
        memcpy(words + i * M, own, sizeof(int32_t) * M);
    }
}
