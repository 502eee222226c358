"""What every room may use: arrays, bytes and threads. No noun of ours is in here.

`types` names the arrays that all rooms speak of. `errors` has the five errors, `arrays` and
`checks` look at arguments and raise them. `threads` is the pool, the lock of an index and the care
for forks. `safe_files` replaces files whole and reads bytes that are not trusted. `plain_data`
turns nested data into JSON and arrays, and into bytes. `sources` are rows that are read in blocks.
`neighbours` finds true nearest neighbours. `extras` imports packages that may be missing.

It imports nothing of deepq. What knows an encoder, a code or a label belongs into another room.
"""
