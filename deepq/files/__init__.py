"""What leaves the process: index files, pickles, and the files of faiss.

`index_files` reads and writes; `format` has the bytes of a file, and docs/format.md explains them.
`pickles` follows those of an index without running anything; `kinds` names what both hold.
`faiss_files` parses the files of faiss in Python: `faiss_transforms` what stands before an index,
`faiss_cells` one of cells, `faiss_values` numbers and vectors. All of it treats what it reads as
not trusted. `faiss_patch` lets faiss's own reader give back indexes of ours. `lance_files` exports
to Lance.

It imports `hash_table`, `index` and `encoders`. A new version of the format: `format` reads the old
one as well, and a folder of golden files is added beside the others.
"""
