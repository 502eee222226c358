"""An index measured, and settings suggested.

`measures` has `evaluate`: recall, mAP, precision and time of a search. `diagnosis` looks at how
codewords are used and what codes lose, `bucket_use` at the buckets of hash tables. `suggestion`
sweeps over settings and measures each.

It imports `hash_table` and all below, `metrics` and `datasets`. A new measure: one row in
`measures`, and one in docs/evaluation.md.
"""
