"""What the benchmarks share.

`harness` has the options of a run, its one thread, paired timings and record; `results` writes and
reads the lines of `benchmarks/results/` and makes tables of them. `methods` is the table of all
that is compared. `vectors` draws as many vectors as a benchmark of speed wants, `pairs` puts the
same codes into an index of ours and one of faiss's. `make_wordnet_cut` makes the small set that
all of them take by default.

It imports none of the other rooms.
"""
