/* Sums of bounds of the codes of a cell for many queries, a query in every lane; included once for each number of lanes,
 * where a register looks up too few bytes at a time for a code in every lane.
 *
 * The bounds of the queries, (bytes, 256) each, are turned on their side, so that one load brings the entries of all.
 *
 * Defined by the includer: LANES (16 or 32), NAME(x), BYTES (a register of LANES bytes), LOAD_PIECES(p, q) (16 bytes from
 * each of the pointers; LANES / 16 of them are used), UNPACK_LOW and UNPACK_HIGH (interleave bytes of 16-byte parts),
 * ADD_SATURATED and AT_MOST as in block.h.
 */

/* Lay the tables of `count` queries, `stride` apart from each other, in lanes: (bytes, 256, LANES); those of lanes behind
 * the last query are anything. Of a query whose bounds are by fewer bits, `masks` has those. */
static void NAME(lay_tables)(const uint8_t *const *bounds, const int *masks, int count, int bytes, uint8_t *lanes) {
    for (int piece = 0; piece < bytes * 16; piece++, lanes += 16 * LANES) {
        BYTES x[16], y[16];
        for (int i = 0; i < 16; i++) {
            int low = i < count ? i : 0, high = i + 16 < count ? i + 16 : 0, table = piece & -16, at = piece & 15;
            x[i] = LOAD_PIECES(bounds[low] + (table + (at & masks[low])) * 16, bounds[high] + (table + (at & masks[high])) * 16);
        }
#define SHUFFLE(from, to)                                  \
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) {  \
        to[2 * i] = UNPACK_LOW(from[i], from[i + 8]);      \
        to[2 * i + 1] = UNPACK_HIGH(from[i], from[i + 8]); \
    }
        SHUFFLE(x, y)
        SHUFFLE(y, x)
        SHUFFLE(x, y)
        SHUFFLE(y, x)
#undef SHUFFLE
        for (int v = 0; v < 16; v++) *(BYTES *)(lanes + v * LANES) = x[v];
    }
}

/* Put the costs of all levels of terms behind the tables. */
static void NAME(lay_terms)(const int *factors, uint8_t *lanes) {
    for (int level = 0; level < 256; level++)
        for (int q = 0; q < LANES; q++) {
            int units = level * factors[q] >> 8;
            lanes[level * LANES + q] = (uint8_t)(units < 255 ? units : 255);
        }
}

/* Write which lanes of which rows may be within the units of their queries, row * LANES + lane, to `found`; returns how
 * many. Code i has the level levels[places[i]]; or there are no levels. */
static inline __attribute__((always_inline)) int NAME(bound_lanes)(
        const uint8_t *lanes, const uint8_t *codes, int bytes, int rows, const uint8_t *levels, const uint16_t *places,
        const uint8_t *units, uint64_t open, int32_t *found) {
    BYTES limit = *(const BYTES *)units;
    const uint8_t *terms = lanes + bytes * 256 * LANES;
    int count = 0;
    for (int i = 0; i < rows; i++, codes += bytes) {
        BYTES sum = {0};
        if (levels) sum = *(const BYTES *)(terms + levels[places[i]] * LANES);
        for (int b = 0; b < bytes; b++) sum = ADD_SATURATED(sum, *(const BYTES *)(lanes + (b * 256 + codes[b]) * LANES));
        for (uint64_t left = AT_MOST(sum, limit) & open; left; left &= left - 1) found[count++] = i * LANES + __builtin_ctzll(left);
    }
    return count;
}

static int NAME(scan_rows)(const uint8_t *lanes, const uint8_t *codes, int bytes, int rows, const uint8_t *levels,
                           const uint16_t *places, const uint8_t *units, uint64_t open, int32_t *found) {
    if (bytes == 8) return NAME(bound_lanes)(lanes, codes, 8, rows, levels, places, units, open, found);
    if (bytes == 16) return NAME(bound_lanes)(lanes, codes, 16, rows, levels, places, units, open, found);
    return NAME(bound_lanes)(lanes, codes, bytes, rows, levels, places, units, open, found);
}

#undef LANES
#undef NAME
#undef BYTES
#undef LOAD_PIECES
#undef UNPACK_LOW
#undef UNPACK_HIGH
#undef ADD_SATURATED
#undef AT_MOST
