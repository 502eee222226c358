"""Benchmarks: what deepq's speed, recall and safety are, beside faiss and others.

`common` has what all share: the harness of a run, the methods compared, vectors, pairs of indexes.
`speed` times scans, encoding, training and files; `recall` counts neighbours found, and draws them;
`retrieval` is by class and tag, of images and texts; `distributed` is about clusters; `faults`
breaks things. `results` has the JSON lines of all runs, which `pages` puts into the tables of
README.md and docs/.

`bench_*.py` measure, each as `python -m benchmarks.ROOM.bench_NAME`; `make bench-smoke` runs all of
them. A new one: a file `bench_NAME.py` in its room, its options by `harness.parser`. An import sets
nothing, and pictures and tables import nothing that measures: tests/house/test_benchmarks.py.
"""
