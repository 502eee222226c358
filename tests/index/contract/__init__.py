"""The contract of ``faiss.IndexPQ``, proven on faiss itself and then asked of deepq's index.

Most of it is that of ``faiss.IndexIVFPQ``, too, and asked of indexes of cells. ``kinds`` lists the
indexes, ``oracle`` says in NumPy what is right, ``conftest`` hands both to the tests. A test that
takes ``index`` runs on every kind and on both metrics; one marked ``kinds.flat_only`` is not for
cells, and one marked ``kinds.ours_only`` asks for what deepq does better than faiss.
"""
