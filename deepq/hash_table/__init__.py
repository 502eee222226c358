"""Hash tables with learned buckets: `HashTableIndex`.

`rows` are what is stored, in the order of buckets; `probes` says which buckets a query looks into,
`ranking` which of the rows there are the best, by embeddings or by codes. `training` learns the
metric and then the buckets; `state` is a table as plain data. `index` joins them.

It imports `index` and all below. docs/hierarchical.md explains the method.
"""

from deepq.hash_table.index import HashTableIndex, restore_table

__all__ = ["HashTableIndex", "restore_table"]

for _public in (HashTableIndex, restore_table):  # pickles and messages name this front
    _public.__module__ = __name__
