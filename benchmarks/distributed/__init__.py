"""What a cluster of shards takes, and what it would take at other sizes.

`bench_cluster` measures workers on Ray. `bench_sizing` needs none: it measures one shard in this
process (`one_shard`), simulates many of them (`simulation`: queues, hedged calls, slow answers) and
plans a cluster for ten billion vectors (`formulas`). `sizing_plots` draws tail latency against the
number of shards.
"""
