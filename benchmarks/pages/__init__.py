"""The tables of README.md and docs/, from the results of all rooms; nothing is measured here.

`fill` says which table stands on which page, what it is made of, and puts the newest results into
it. `recall_tables` lays out recall, `speed_tables` chooses what is shown of speed, `cell_tables`
lays out cells, `deep_tables` retrieval with labels, `fault_tables` what came of faults.

A new table: two marks on its page, and a line in `fill.PAGES`.
"""
