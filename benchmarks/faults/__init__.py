"""What can happen to an index: damage, kills, full disks, odd paths, hostile pickles, threads.

`bench_faults` runs it all on deepq, and on nothing else, and records what came of it. What is
hostile here carries harmless stand-ins.

`files` makes files of every kind and says where their fields lie; `damage` changes them, `reading`
says what came of that. `saving`, `places`, `pickles`, `memory` and `threads` are an event each.
Whatever may crash or hang does so in one of its `children`. `fuzz` looks for more (`make fuzz`).
"""
