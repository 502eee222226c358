/* Decoding of words by a network (see decoders.py): what it is made of.
 *
 * A vector of the result is a chain of sums in one order, whatever is decoded beside it. Where multiplications and
 * additions are fused, with AVX2 and AVX-512, the bits are the same.
 */
#ifndef DEEPQ_DECODE_H
#define DEEPQ_DECODE_H

#include "simd.h"

/* Columns of a panel: weights (rows, columns) are laid out as panels, each (rows, DECODE_PANEL). Widths are padded
 * with zeros to whole panels. */
enum { DECODE_PANEL = 32, DECODE_ROWS = 64 /* decoded at a time: what they need stays in the cache */ };

typedef struct {
    int M, ksub;
    int h, inside, d;      /* padded widths of the hidden layer, of what is inside the block, and of vectors */
    const float *tables;   /* (M, ksub, d): T */
    const float *features; /* (M, ksub, h): U */
    const float *entered;  /* (M, ksub, inside): U after the first weights of the block, W1 U */
    const float *bias;     /* (inside,) */
    const float *outer;    /* W2, panels of (inside, h) */
    const float *output;   /* O, panels of (h, d) */
    const int32_t *cells;  /* (n,): the cell of every vector; NULL where the network is told none */
    const float *cell_features; /* (.., h): what the hidden layer has besides of each cell: V */
    const float *cell_entered;  /* (.., inside): W1 V */
} decode_network;

#endif
