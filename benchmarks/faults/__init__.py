"""What can happen to an index: damage, kills, full disks, odd paths, hostile pickles, threads.

`bench_faults.py` runs it all on deepq, and on nothing else, and records what came of it. What is
hostile here carries harmless stand-ins.
"""
