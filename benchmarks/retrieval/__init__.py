"""Retrieval by class and by tag: what training with labels gives.

`bench_retrieval` trains DQN's family, hashing and `baselines` on labelled `images`, each from a
`trunk`, and has them judged (`judge`); its settings are chosen by `tuning`. `bench_hashing` says
what deep hashing takes and how its settings matter, `bench_labels` does the same on embeddings of
texts. `bench_multi_index` learns cells and codes, `two_levels`, apart and together.
`bench_hierarchical` compares learned buckets with other `bucketings`, on data of `class_splits`.
`plots`, `hashing_plots` and `bucket_plots` draw what was recorded; `axes` has the points of the
first two.
"""
