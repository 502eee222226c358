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

/* Predict for all candidates of a vector what they would change, in units of the summands: for the summands s of the
 * word and t of a candidate |t - s|^2 - 2 rest.(t - s) = t.(t - 2 (s + rest)) - s.(s - 2 (s + rest)). */
static inline __attribute__((always_inline)) void NAME(predict_all)(const choose_job *job, choose_slot *slot) {
    int A = job->candidates, d = job->network.d, ksub = job->network.ksub;
    float *aim = job->aim;
    for (int m = 0; m < job->network.M; m++) {
        const int8_t *book = job->summands + (int64_t)m * ksub * d, *own = book + (int64_t)slot->words[m] * d;
        for (int t = 0; t < d; t += FLOAT_LANES) {
            FLOATS s = AS_FLOATS(own + t);
            s += *(const FLOATS *)(slot->rest + t) * job->scale;
            *(FLOATS *)(aim + t) = s + s;
        }
        float base = NAME(dot_less)(own, aim, d);
        for (int a = 0; a < A; a++) {
            int32_t word = slot->given[m * A + a];
            float change = NAME(dot_less)(book + (int64_t)word * d, aim, d) - base;
            slot->changes[m * A + a] = word == slot->words[m] ? INFINITY : change;
        }
    }
}

/* to = base + the row of a new word - that of an old one. */
static inline __attribute__((always_inline)) void NAME(replace)(
        const float *base, const float *table, int64_t old, int64_t new, int width, float *to) {
    const float *from = table + old * width, *row = table + new * width;
    for (int t = 0; t < width; t += FLOAT_LANES)
        *(FLOATS *)(to + t) = *(const FLOATS *)(base + t) - *(const FLOATS *)(from + t) + *(const FLOATS *)(row + t);
}

/* The sums of a slot after the change that it tries. */
static inline __attribute__((always_inline)) void NAME(change)(
        const choose_job *job, const choose_slot *slot, float *hidden, float *inside, float *sums) {
    const decode_network *network = &job->network;
    int m = slot->tried / job->candidates;
    int64_t first = (int64_t)m * network->ksub, old = first + slot->words[m], new = first + slot->given[slot->tried];
    NAME(replace)(slot->hidden, network->features, old, new, network->h, hidden);
    NAME(replace)(slot->inside, network->entered, old, new, network->h, inside);
    NAME(replace)(slot->sums, network->tables, old, new, network->d, sums);
}

/* Put what a slot tries into row i of what goes through the network. */
static inline __attribute__((always_inline)) void NAME(enter)(const choose_job *job, choose_slot *slot, int i) {
    const decode_network *network = &job->network;
    int M = network->M, ksub = network->ksub, h = network->h, d = network->d;
    float *hidden = job->hidden + (int64_t)i * h, *inside = job->inside + (int64_t)i * h, *z = job->z + (int64_t)i * d;
    if (slot->tried < 0) {
        NAME(add_up)(network->features, slot->words, 1, M, ksub, h, slot->hidden);
        NAME(add_up)(network->entered, slot->words, 1, M, ksub, h, slot->inside);
        NAME(add_up)(network->tables, slot->words, 1, M, ksub, d, slot->sums);
        memcpy(hidden, slot->hidden, sizeof(float) * h);
        memcpy(inside, slot->inside, sizeof(float) * h);
        memcpy(z, slot->sums, sizeof(float) * d);
    } else {
        NAME(change)(job, slot, hidden, inside, z);
    }
    NAME(rectify)(inside, network->bias, h);
}

/* Take over what a slot tried if it is the start or has lowered the error; what it decodes to is in row i. */
static inline __attribute__((always_inline)) void NAME(judge)(const choose_job *job, choose_slot *slot, int i) {
    int d = job->network.d;
    float *rest = job->z + (int64_t)i * d;
    FLOATS sums[16 / FLOAT_LANES] = {{0}};
    for (int at = 0; at < d; at += 16)
        for (int l = 0; l < 16 / FLOAT_LANES; l++) {
            FLOATS *part = (FLOATS *)(rest + at + l * FLOAT_LANES);
            *part = *(const FLOATS *)(slot->wanted + at + l * FLOAT_LANES) - *part;
            sums[l] = MULTIPLY_ADD(*part, *part, sums[l]);
        }
    float error = NAME(sum_lanes)(sums);
    if (slot->tried >= 0) {
        slot->changes[slot->tried] = INFINITY;
        if (!(error < slot->error)) return;
        NAME(change)(job, slot, slot->hidden, slot->inside, slot->sums);
        slot->words[slot->tried / job->candidates] = slot->given[slot->tried];
    }
    slot->error = error;
    memcpy(slot->rest, rest, sizeof(float) * d);
    NAME(predict_all)(job, slot);
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
        NAME(multiply)(job->inside, live, network->h, network->outer, network->h, job->hidden, 1);
        NAME(multiply)(job->hidden, live, network->h, network->output, network->d, job->z, 0);
        for (int i = 0; i < live; i++) NAME(judge)(job, slots + i, i);
        for (int i = live - 1; i >= 0; i--)
            if (!choose_next(job, slots + i)) {
                memcpy(words + slots[i].row * network->M, slots[i].words, sizeof(int32_t) * network->M);
                choose_slot done = slots[i];
                slots[i] = slots[--live];
                slots[live] = done;
            }
    }
}
