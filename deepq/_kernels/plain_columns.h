/* What cell_scan.h takes of columns.h, without instructions for it: a tile on its side, and sums of bounds. */

#define LANES 64
#define AT_ONCE 8
#define BLOCKS (TILE / LANES)
#define PIECE_OF(lane) ((lane) % 16 * (LANES / 16) + (lane) / 16)
#define NAME(x) x##_portable
#define PORTABLE 1

typedef float NAME(eight) __attribute__((vector_size(32), may_alias));

static void NAME(turn_tile)(const uint8_t *codes, int bytes, int per, const uint8_t *ahead, uint8_t *columns) {
    (void)ahead;
    for (int at = 0; at < TILE; at++) {
        int64_t row = row_of(at / LANES, PIECE_OF(at % LANES), LANES, per);
        for (int b = 0; b < bytes; b++) columns[b * TILE + at] = codes[row * bytes + b];
    }
}

static uint64_t NAME(bound_codes)(const uint8_t *columns, scan_terms terms, const uint8_t *bounds, int bytes, int bits,
                                  int units, uint64_t *hits) {
    uint64_t any = 0;
    (void)bits;
    for (int h = 0; h < AT_ONCE; h++) {
        hits[h] = 0;
        for (int lane = 0; lane < LANES; lane++) {
            int sum = terms.levels ? terms.levels[h * LANES + lane] * terms.factor >> 8 : 0;
            for (int b = 0; b < bytes; b++) sum += bounds[b * 256 + columns[b * TILE + h * LANES + lane]];
            hits[h] |= (uint64_t)(sum <= units) << lane;
        }
        any |= hits[h];
    }
    return any;
}

static int NAME(bounds_of_query)(const scan_job *job, const float *tables, float *lowest, float bound,
                                 uint8_t *bounds, scan_limit *limit) {
    float base = 0, size = 0;
    for (int b = 0; b < job->bytes; b++) {
        lowest[b] = tables[b * 256];
        for (int v = 1; v < 256; v++) lowest[b] = tables[b * 256 + v] < lowest[b] ? tables[b * 256 + v] : lowest[b];
        base += lowest[b];
        size += fabsf(lowest[b]);
    }
    limit->bits = 8;
    if (!limit_scale(limit, job, bound, base, size)) return 0;
    for (int e = 0; e < job->bytes * 256; e++) {
        float units = (tables[e] - lowest[e / 256]) * limit->scale;
        bounds[e] = (uint8_t)(units < 255 ? units : 255);
    }
    return 1;
}

#include "cell_scan.h"

#undef LANES
#undef AT_ONCE
#undef BLOCKS
#undef PIECE_OF
#undef NAME
#undef PORTABLE
