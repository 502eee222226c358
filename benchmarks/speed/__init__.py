"""How fast deepq is: ratios of times, ours and faiss's taking turns in one run.

`bench_scan` times searches among 8-bit codes in all their cases, `bench_codes` those of 4-bit codes
and hashes, `bench_cells` those in cells, `bench_rerank` those with a decoder; `bench_encode` adding
and k-means, `bench_train` a whole training, `bench_files` saving and loading. `bench_install` and
`bench_first_result` are about what a newcomer meets. `goals` says what was to be reached.
"""
