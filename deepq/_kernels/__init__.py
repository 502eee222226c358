"""The C behind `deepq._scan`, `deepq._cells` and `deepq._decode`, and the same in NumPy.

`reference` is the definition of what is right: slow, short, and what tests compare with. In C,
`job.h` says what a scan is asked for, `query.h` makes the tables of a query, `block.h` and
`columns.h` prove most codes useless, `kernels.h` compiles these for every instruction set and
chooses. `cell_job.h` and `cell_scan.h` do so for codes in cells, by the tiles of `columns.h`, or of
`plain_columns.h` without SIMD, or `cell_lanes.h`; `heap.h` keeps the k best. `assign_book.h`
prepares codebooks, `assign.h` and `assign_rows.h` find nearest codewords, `assign_few.h` those of
few rows, `near.h` and `near_rows.h` several; `cell_sums.h` adds up cells. `networks.h` compiles
those of decoders: `network.h` and `decode.h` decode, `choose.h` and `choose_rows.h` choose words,
`beam.h` and `beam_rows.h` those of additive codes, `least.h` finds near sites, `rank.h` and
`rank_rows.h` rank anew. `simd.h` names instruction sets.

It imports nothing of deepq but `_common`. A new kernel comes with its plain form in `reference`,
its case in tests/scan/scan_driver.c, and a property test on every instruction set.
"""
