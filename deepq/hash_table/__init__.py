"""Hash tables with learned buckets: `HashTableIndex`.

`kept` says what is stored of a vector, `rows` in the order of buckets, and `store` lets rows come
and go. `probes` says which buckets a query looks into, `ranking` which of the rows there are the
best, by embeddings or by codes. `training` learns the metric and then the buckets; `state` is a
table as plain data. `parts` has what a table is made of, and `index` joins all.

It imports `index` and all below. docs/hierarchical.md explains the method.
"""

from deepq.hash_table.index import HashTableIndex, restore_table

__all__ = ["HashTableIndex", "restore_table"]

for _public in (HashTableIndex, restore_table):  # pickles and messages name this front
    _public.__module__ = __name__
