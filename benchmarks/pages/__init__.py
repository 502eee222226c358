"""The tables of README.md and docs/, from the results of all rooms; nothing is measured here.

`fill` says which table stands on which page and puts the newest results into it. `deep_tables` lays
out retrieval with labels, `fault_tables` what came of faults.
"""
