"""What can happen to an index: damage, kills, full disks, odd paths, hostile pickles, threads.

`bench_faults.py` runs it all and records what came of it, for deepq and for faiss.
"""
