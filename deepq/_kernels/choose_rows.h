/* Choosing words under a decoder; included once per instruction set, behind network.h. */

/* Sum sixteen lanes, in one order for every instruction set. */
static inline __attribute__((always_inline)) float NAME(sum_lanes)(const FLOATS *sums) {
    float lanes[16];
    for (int i = 0; i < 16 / FLOAT_LANES; i++) *(FLOATS *)(lanes + i * FLOAT_LANES) = sums[i];
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

/* t.(t - aim) for summands t. */
static inline __attribute__((always_inline)) float NAME(dot_less)(const int8_t *summands, const float *aim, int d) {
    FLOATS sums[16 / FLOAT_LANES] = {{0}};
    for (int at = 0; at < d; at += 16)
        for (int i = 0; i < 16 / FLOAT_LANES; i++) {
            int t = at + i * FLOAT_LANES;
            FLOATS s = AS_FLOATS(summands + t);
            sums[i] = MULTIPLY_ADD(s, s - *(const FLOATS *)(aim + t), sums[i]);
        }
    return NAME(sum_lanes)(sums);
}

/* Aim for predictions of a word: 2 (s + rest), with its summands s and a rest in their units. With that, candidates of
 * summands t change the error by |t - s|^2 - 2 rest.(t - s) = t.(t - aim) - s.(s - aim). */
static inline __attribute__((always_inline)) void NAME(aim_at)(const int8_t *own, const float *rest, float *aim, int d) {
    for (int t = 0; t < d; t += FLOAT_LANES) {
        FLOATS s = AS_FLOATS(own + t) + *(const FLOATS *)(rest + t);
        *(FLOATS *)(aim + t) = s + s;
    }
}

/* Predict for all candidates of a vector what they would change, in units of the summands. */
static inline __attribute__((always_inline)) void NAME(foretell)(const choose_job *job, choose_slot *slot) {
    int A = job->candidates, d = job->network.d, ksub = job->network.ksub;
    for (int m = 0; m < job->network.M; m++) {
        const int8_t *book = job->summands + (int64_t)m * ksub * d, *own = book + (int64_t)slot->words[m] * d;
        NAME(aim_at)(own, slot->rest, job->aim, d);
        float base = NAME(dot_less)(own, job->aim, d);
        for (int a = 0; a < A; a++) {
            int32_t word = slot->given[m * A + a];
            float change = NAME(dot_less)(book + (int64_t)word * d, job->aim, d) - base;
            slot->changes[m * A + a] = word == slot->words[m] ? INFINITY : change;
        }
    }
    slot->foretold = 1;
}

/* Put changes on trial that seem good together, one sub-space after the other; return how many. */
static inline __attribute__((always_inline)) int NAME(join)(const choose_job *job, choose_slot *slot) {
    int A = job->candidates, d = job->network.d, ksub = job->network.ksub, count = 0;
    float *rest = job->rest;
    memcpy(rest, slot->rest, sizeof(float) * d);
    for (int m = 0; m < job->network.M; m++) {
        const int8_t *book = job->summands + (int64_t)m * ksub * d, *own = book + (int64_t)slot->words[m] * d;
        NAME(aim_at)(own, rest, job->aim, d);
        float base = NAME(dot_less)(own, job->aim, d), least = 0;
        int32_t best = slot->words[m];
        for (int a = 0; a < A; a++) {
            int32_t word = slot->given[m * A + a];
            float change = NAME(dot_less)(book + (int64_t)word * d, job->aim, d) - base;
            if (change < least) {
                least = change;
                best = word;
            }
        }
        if (best == slot->words[m]) continue;
        const int8_t *new = book + (int64_t)best * d;
        for (int t = 0; t < d; t += FLOAT_LANES) *(FLOATS *)(rest + t) += AS_FLOATS(own + t) - AS_FLOATS(new + t);
        slot->tried[m] = best;
        count++;
    }
    return count;
}

/* Put the next changes of a slot on trial; 0 if there are none to hope for. */
static inline __attribute__((always_inline)) int NAME(next)(const choose_job *job, choose_slot *slot) {
    int M = job->network.M, best = 0;
    slot->change = -1;
    if (slot->left-- <= 0) return 0;
    if (slot->together && slot->together--) {
        if (NAME(join)(job, slot)) return 1;
        slot->together = 0;
    }
    if (!slot->foretold) NAME(foretell)(job, slot);
    for (int i = 1; i < M * job->candidates; i++)
        if (slot->changes[i] < slot->changes[best]) best = i;
    if (!(slot->changes[best] < job->hope * slot->error)) return 0;
    slot->change = best;
    slot->tried[best / job->candidates] = slot->given[best];
    return 1;
}

/* Add to sums the row of a new word less that of an old one. */
static inline __attribute__((always_inline)) void NAME(replace)(
        float *sums, const float *table, int64_t old, int64_t new, int width) {
    const float *from = table + old * width, *row = table + new * width;
    for (int t = 0; t < width; t += FLOAT_LANES)
        *(FLOATS *)(sums + t) += *(const FLOATS *)(row + t) - *(const FLOATS *)(from + t);
}

/* Make sums of the rows of a slot's words those of what it tries. */
static inline __attribute__((always_inline)) void NAME(change)(
        const choose_job *job, const choose_slot *slot, float *hidden, float *inside, float *sums) {
    const decode_network *network = &job->network;
    for (int m = 0; m < network->M; m++) {
        if (slot->tried[m] == slot->words[m]) continue;
        int64_t first = (int64_t)m * network->ksub, old = first + slot->words[m], new = first + slot->tried[m];
        NAME(replace)(hidden, network->features, old, new, network->h);
        NAME(replace)(inside, network->entered, old, new, network->inside);
        NAME(replace)(sums, network->tables, old, new, network->d);
    }
}

/* Put what a slot tries into row i of what goes through the network. */
static inline __attribute__((always_inline)) void NAME(enter)(const choose_job *job, choose_slot *slot, int i) {
    const decode_network *network = &job->network;
    int M = network->M, ksub = network->ksub, h = network->h, w = network->inside, d = network->d;
    float *hidden = job->hidden + (int64_t)i * h, *inside = job->inside + (int64_t)i * w, *z = job->z + (int64_t)i * d;
    if (slot->starts) {
        NAME(add_up)(network->features, slot->words, 1, M, ksub, h, slot->hidden);
        NAME(add_up)(network->entered, slot->words, 1, M, ksub, w, slot->inside);
        NAME(add_up)(network->tables, slot->words, 1, M, ksub, d, slot->sums);
        if (network->cells) {
            NAME(add_cells)(network->cell_features, network->cells + slot->row, 1, h, slot->hidden);
            NAME(add_cells)(network->cell_entered, network->cells + slot->row, 1, w, slot->inside);
        }
    }
    memcpy(hidden, slot->hidden, sizeof(float) * h);
    memcpy(inside, slot->inside, sizeof(float) * w);
    memcpy(z, slot->sums, sizeof(float) * d);
    NAME(change)(job, slot, hidden, inside, z);
    NAME(rectify)(inside, network->bias, w);
}

/* Take over what a slot tried if it is the start or has lowered the error; what it decodes to is in row i. */
static inline __attribute__((always_inline)) void NAME(judge)(const choose_job *job, choose_slot *slot, int i) {
    int M = job->network.M, d = job->network.d;
    float *rest = job->z + (int64_t)i * d;
    FLOATS sums[16 / FLOAT_LANES] = {{0}};
    for (int at = 0; at < d; at += 16)
        for (int l = 0; l < 16 / FLOAT_LANES; l++) {
            FLOATS *part = (FLOATS *)(rest + at + l * FLOAT_LANES);
            *part = (*(const FLOATS *)(slot->wanted + at + l * FLOAT_LANES) - *part) * job->scale;
            sums[l] = MULTIPLY_ADD(*part, *part, sums[l]);
        }
    float error = NAME(sum_lanes)(sums);
    if (slot->starts || error < slot->error) {
        NAME(change)(job, slot, slot->hidden, slot->inside, slot->sums);
        memcpy(slot->words, slot->tried, sizeof(int32_t) * M);
        memcpy(slot->rest, rest, sizeof(float) * d);
        slot->error = error;
        slot->starts = slot->foretold = 0;
    } else {
        memcpy(slot->tried, slot->words, sizeof(int32_t) * M);
        if (slot->change < 0) slot->together = 0;
        else slot->changes[slot->change] = INFINITY;
    }
}

/* Choose words (n, M) for vectors z (n, d) out of candidates (n, M, candidates), with DECODE_ROWS slots. */
static void NAME(choose_rows)(
        const choose_job *job, choose_slot *slots, const float *z, const int32_t *candidates, int64_t n, int32_t *words) {
    const decode_network *network = &job->network;
    int64_t next = 0;
    for (int live = 0; live || next < n;) {
        for (; live < DECODE_ROWS && next < n; next++)
            choose_start(job, slots + live++, z, candidates, next);
        for (int i = 0; i < live; i++) NAME(enter)(job, slots + i, i);
        NAME(multiply)(job->inside, live, network->inside, network->outer, network->h, job->hidden, 1);
        NAME(multiply)(job->hidden, live, network->h, network->output, network->d, job->z, 0);
        for (int i = 0; i < live; i++) NAME(judge)(job, slots + i, i);
        for (int i = live - 1; i >= 0; i--)
            if (!NAME(next)(job, slots + i)) {
                memcpy(words + slots[i].row * network->M, slots[i].words, sizeof(int32_t) * network->M);
                choose_slot done = slots[i];
                slots[i] = slots[--live];
                slots[live] = done;
            }
    }
}
