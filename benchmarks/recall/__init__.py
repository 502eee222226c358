"""How many of the true neighbours are found, by every method, at which cost.

`bench_recall` has all methods of `common.methods` by bytes a vector, `bench_metrics` the main ones
under each metric, `bench_alternatives` recall and speed beside what one would take instead.
`bench_cells_recall` has codes in cells by the cells that a search looks into. `curves` draws what
`bench_recall` recorded.
"""
