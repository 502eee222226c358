/* Choosing words that decode to near a vector.
 *
 * From the words of its nearest sites on, a vector tries changes of words and takes what lowers its squared error.
 * What is worth a trial is cheap to tell: were the decoder a sum of summands S_m[w_m], a change would change the error
 * by |dS|^2 - 2 rest.dS. The summands are its linear part (see decoders.py). At first changes of many words are tried
 * together, then one after the other. Many vectors are tried at a time, each with a slot of its own, so that the
 * network reads its weights once for all of them; no number depends on what the others try.
 */
#ifndef DEEPQ_CHOOSE_H
#define DEEPQ_CHOOSE_H

#include "decode.h"

enum { CHOOSE_TOGETHER = 2 };

typedef struct {
    int64_t row;          /* of the vector */
    int32_t *words;       /* (M,): the best so far */
    int32_t *tried;       /* (M,): those on trial */
    const int32_t *given; /* (M, candidates) */
    const float *wanted;  /* (d,): the vector */
    float *hidden, *inside, *sums; /* sums of the rows of the words: U, W1 U and T */
    float *rest;          /* (d,): the vector less what the words decode to, in units of the summands */
    float *changes;       /* (M, candidates): what would change the error by how much; infinity: tried, or no change */
    float error;          /* in the same */
    int starts;           /* whether the trial is the first */
    int change;           /* the candidate on trial; -1 for several, or the first words */
    int together;         /* how often changes of many words may still be tried together */
    int foretold;         /* whether `changes` are those of the words */
    int left;             /* trials that are left */
} choose_slot;

typedef struct {
    decode_network network;
    const int8_t *summands; /* (M, ksub, d), in whole units, of which a number has `scale` */
    float scale;
    int candidates;
    int trials;            /* most of them for a vector */
    float hope;            /* a change is tried if it is predicted to be less than this part of the error */
    float *inside, *hidden, *z; /* what goes through the network: a row for every slot */
    float *aim, *rest;     /* (d,) each, of predictions */
} choose_job;

/* Numbers of memory that a slot takes besides its words. */
static int64_t choose_room(const choose_job *job) {
    const decode_network *network = &job->network;
    return (int64_t)network->h + network->inside + 2 * (int64_t)network->d + (int64_t)network->M * job->candidates;
}

/* Give slots their memory: DECODE_ROWS * choose_room numbers, and (DECODE_ROWS, 2, M) words. */
static void choose_place(const choose_job *job, choose_slot *slots, float *numbers, int32_t *words) {
    int M = job->network.M, d = job->network.d;
    for (int i = 0; i < DECODE_ROWS; i++, words += 2 * M, numbers += choose_room(job)) {
        float *inside = numbers + job->network.h, *sums = inside + job->network.inside;
        slots[i] = (choose_slot){.words = words, .tried = words + M, .hidden = numbers, .inside = inside, .sums = sums,
                                 .rest = sums + d, .changes = sums + 2 * d};
    }
}

/* Let a slot begin with a row of z (n, d), at the first of its candidates (n, M, candidates). */
static void choose_start(const choose_job *job, choose_slot *slot, const float *z, const int32_t *candidates, int64_t row) {
    int M = job->network.M, A = job->candidates;
    slot->row = row;
    slot->wanted = z + row * job->network.d;
    slot->given = candidates + row * M * A;
    for (int m = 0; m < M; m++) slot->words[m] = slot->tried[m] = slot->given[m * A];
    slot->starts = 1;
    slot->change = -1;
    slot->together = CHOOSE_TOGETHER;
    slot->left = job->trials;
}

typedef void (*choose_fn)(const choose_job *, choose_slot *, const float *z, const int32_t *candidates, int64_t n,
                          int32_t *words);

#endif
