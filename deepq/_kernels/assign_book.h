/* A codebook in the form in which its nearest codewords are found fastest. */
#ifndef DEEPQ_ASSIGN_BOOK_H
#define DEEPQ_ASSIGN_BOOK_H

#include "simd.h"

/* One sub-space. The nearest codeword is the one with the least score c.c / 2 - x.c, which is one
 * multiplication an element. Both x and c are taken from near the middle of the codewords, in units in
 * which these are about 1, so that little is lost where they are far from the origin, tiny or huge. */
typedef struct {
    int dsub, ksub, padded; /* padded: ksub, up to a multiple of ASSIGN_PAD */
    float unit;             /* a power of two, by which centred numbers are multiplied */
    float longest;          /* the largest c.c / 2 */
    float *centre;          /* (dsub,) */
    float *farthest;        /* (dsub,): the largest |c| */
    float *half_norms;      /* (padded,); infinity behind the last codeword, and for one that is there before */
    float *codewords;       /* (padded / ASSIGN_PAD, dsub, ASSIGN_PAD), less the centre, in units */
    const float *given;     /* (ksub, dsub): the codewords as they are; not owned */
    void *memory;
} assign_codebook;

/* Codewords are padded to a multiple of this many, whatever the kernel. */
enum { ASSIGN_PAD = 32, ASSIGN_MOST_SHIFT = 100 };

/* Set the centre, near the middle, in steps so coarse that few bits are used, and the unit. */
static void assign_book_place(assign_codebook *book, double *middle) {
    int ksub = book->ksub, dsub = book->dsub;
    double spread = FLT_MIN;
    for (int t = 0; t < dsub; t++) middle[t] = 0;
    for (int j = 0; j < ksub; j++)
        for (int t = 0; t < dsub; t++) middle[t] += (double)book->given[(int64_t)j * dsub + t] / ksub;
    for (int j = 0; j < ksub; j++)
        for (int t = 0; t < dsub; t++) { /* no fmax: with it gcc 12 for aarch64 fails at -O3 */
            double far = fabs(book->given[(int64_t)j * dsub + t] - middle[t]);
            if (far > spread) spread = far;
        }
    int power = ilogb(spread), shift = power;
    for (int t = 0; t < dsub; t++) book->centre[t] = (float)ldexp(rint(ldexp(middle[t], -power)), power);
    if (shift > ASSIGN_MOST_SHIFT) shift = ASSIGN_MOST_SHIFT;
    if (shift < -ASSIGN_MOST_SHIFT) shift = -ASSIGN_MOST_SHIFT;
    book->unit = ldexpf(1, -shift);
}

/* Set the half norm of codewords that are there before to infinity: they need not be compared. */
static void assign_book_leave_out(assign_codebook *book, int32_t *table, uint32_t slots) {
    size_t size = sizeof(float) * book->dsub;
    for (uint32_t i = 0; i < slots; i++) table[i] = -1;
    for (int32_t j = 0; j < book->ksub; j++) {
        uint32_t at, bits;
        memcpy(&bits, book->half_norms + j, sizeof(bits));
        for (at = (bits * 2654435769u) >> 7 & (slots - 1); table[at] >= 0; at = (at + 1) & (slots - 1))
            if (!memcmp(book->given + (int64_t)table[at] * book->dsub, book->given + (int64_t)j * book->dsub, size)) break;
        if (table[at] < 0) table[at] = j;
        else book->half_norms[j] = INFINITY;
    }
}

/* Make the form of `ksub` codewords (ksub, dsub), which must stay where they are, all or the `distinct` ones; -1 without
 * memory for it. */
static int assign_book_new(assign_codebook *book, const float *given, int ksub, int dsub, int distinct) {
    int padded = (ksub + ASSIGN_PAD - 1) / ASSIGN_PAD * ASSIGN_PAD;
    uint32_t slots = 2;
    while (slots < 2 * (uint32_t)ksub) slots *= 2;
    size_t table = sizeof(int32_t) * slots, middle = sizeof(double) * dsub;
    char *spare = malloc(table > middle ? table : middle);
    char *memory = malloc(64 + sizeof(float) * ((size_t)(dsub + 1) * padded + 2 * (size_t)dsub));
    if (!spare || !memory) {
        free(spare);
        free(memory);
        return -1;
    }
    float *codewords = (float *)(((uintptr_t)memory + 63) / 64 * 64), *half_norms = codewords + (size_t)dsub * padded;
    *book = (assign_codebook){.dsub = dsub, .ksub = ksub, .padded = padded, .given = given, .memory = memory,
                              .codewords = codewords, .half_norms = half_norms, .centre = half_norms + padded,
                              .farthest = half_norms + padded + dsub};
    assign_book_place(book, (double *)spare);
    for (int t = 0; t < dsub; t++) book->farthest[t] = 0;
    for (int j = 0; j < padded; j++) {
        double norm = 0;
        for (int t = 0; t < dsub; t++) {
            float c = j < ksub ? (given[(int64_t)j * dsub + t] - book->centre[t]) * book->unit : 0;
            codewords[((int64_t)j / ASSIGN_PAD * dsub + t) * ASSIGN_PAD + j % ASSIGN_PAD] = c;
            norm += (double)c * c;
            if (fabsf(c) > book->farthest[t]) book->farthest[t] = fabsf(c);
        }
        half_norms[j] = j < ksub ? (float)(norm / 2) : INFINITY;
        if (j < ksub && half_norms[j] > book->longest) book->longest = half_norms[j];
    }
    if (distinct) assign_book_leave_out(book, (int32_t *)spare, slots);
    free(spare);
    return 0;
}

static void assign_book_free(assign_codebook *book) { free(book->memory); }

#endif
