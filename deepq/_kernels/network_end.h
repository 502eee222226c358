/* Ends a part of networks.h for one instruction set. */
#undef FLOAT_BYTES
#undef TILE_ROWS
#undef NAME
#undef MULTIPLY_ADD
#undef AS_FLOATS
#undef AS_SHORTS
#undef FLOATS
#undef FLOAT_LANES
