"""The C behind `deepq._scan`, `deepq._cells` and `deepq._decode`, and the same in NumPy.

`reference` is the definition of what is right: slow, short, and what tests compare with. In C,
`job.h` says what a scan is asked for, `query.h` makes the tables of a query, `block.h` and
`columns.h` prove most codes useless, `kernels.h` compiles these for every instruction set and
chooses. `cell_job.h` and `cell_scan.h` do so for codes in cells, by the tiles of `columns.h`, or of
`plain_columns.h` without SIMD, or `cell_lanes.h`; `heap.h` keeps the k best. `assign_book.h`
prepares codebooks; `assign.h`, `assign_rows.h`, `assign_few.h` find nearest codewords, `near.h` and
`near_rows.h` several; `cell_sums.h` adds up cells. `networks.h` is for decoders: `network.h` and
`decode.h` decode, `choose.h`, `choose_rows.h`, `least.h` choose words, `beam.h` and `beam_rows.h`
words that add up, `rank.h` and `rank_rows.h` rank. `simd.h` names levels.

It imports nothing of deepq but `_common`. A new kernel comes with its plain form in `reference`,
its case in tests/scan/scan_driver.c, and a property test on every instruction set.
"""
