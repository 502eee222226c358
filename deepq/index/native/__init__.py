"""The faiss objects under an index; everything that knows faiss's C++ classes and SWIG.

`chain` puts an encoder's transforms before an index of faiss's, and reads and writes the encoder
and the codebooks; `flat` does so for the codes of an IndexPQ, `cells` over `centres` for those of
an IndexIVFPQ, whose coarse quantizers are in `coarse`, lists in `lists`, and scans of faiss's own
in `cell_scans`. `transforms` turns encoders into faiss's and back, `plain` is both as plain data,
`refused` what is not converted. `payload` hides bytes of ours among faiss's numbers. `composites`
knows indexes around ours. Where faiss has no class for it, a C++ object of ours stands in its
place, or has functions of ours: an encoder of any kind (`bridge`), codes that stay in a file
(`mapped`, `mapped_lists`), what composites ask for (`called`). `known_faiss` says where that is
tested, `originals` are functions of faiss's that may be patched. `fast_scan` explains one.

Of deepq it imports `_common` and `encoders` alone. An index over another class of faiss: a file
beside `flat` with what its codes are.
"""
