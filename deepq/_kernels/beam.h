/* Choosing the words of additive codes, one codebook after the other, with the best few beginnings kept.
 *
 * Of words w_1 .. w_m with the codewords c_1 .. c_m half of the squared error to x, less |x|^2 / 2, is
 *
 *     sum_j (|c_j|^2 / 2 - x.c_j) + sum_{i<j} c_i.c_j.
 *
 * The first terms are costs of the vector; the second are a table of all pairs of codewords.
 */
#ifndef DEEPQ_BEAM_H
#define DEEPQ_BEAM_H

#include <stdint.h>
#include <string.h>

#include "least.h"

typedef struct {
    int M, ksub;
    int width;          /* beginnings that are kept */
    const float *cross; /* (M (M - 1) / 2, ksub, ksub): of every codeword of j with those of m, for all j < m */
    int32_t *words;     /* (2, width, M): beginnings, and the next ones */
    float *errors;      /* (width,) of them */
    float *next;        /* (width, ksub): errors with one word more */
    int32_t *places;    /* (width,) */
    int32_t *spare;     /* (width * ksub,) */
} beam_job;

/* Choose words (n, M) of vectors with costs (n, M, ksub). */
typedef void (*beam_fn)(const beam_job *, const float *costs, int64_t n, int32_t *words);

#endif
