"""What is known of rows that are learned from: classes, tags, pairs, search logs.

`supervision` has the forms in which labels come, and what every objective asks of them: which rows
are similar, and what batches are made of. Codes that follow from labels alone, before any network:
`similarity_codes` (whose inner products are the similarities), `triplet_codes` (that keep triplets
apart), `class_codes` (far from each other). And codes of buckets, which follow from scores as well:
`buckets` deals items out at the least cost, `compound_codes` does so level by level.

A leaf: it imports `_common` alone, and no torch. A new form of labels: one class in `supervision`,
one line in `as_supervision`, and a test.
"""
