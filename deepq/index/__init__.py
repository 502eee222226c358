"""Indexes: the surface of a faiss class over an encoder, a quantizer and codes.

`learned` has what any index of ours knows: training, encoding, decoding; `settings` what is set.
`flat_codes` edits codes that lie one after the other, `flat_search` searches them, and `flat` joins
both with the surface of faiss.IndexPQ (`surface`) to `DeepQuantIndex`. So do `cell_training`,
`cell_lists`, `cell_codes`, `cell_editing`, `cell_parameters`, `cell_search` and `ivf` for cells and
faiss.IndexIVFPQ; `queries` and `merging` are theirs in common. `native` holds the faiss objects
underneath. `state` is an index as plain data, `carried` what faiss's files have
of it, `interop` goes from and to faiss, `revival` mends what faiss reads. `search_parameters` are
those of a call, `steps` a search in several processes, `training_data` what is trained on;
`tensors` and `torch_data` let torch in.

It imports the rooms below it but `metrics` and `datasets`. An index over another class of faiss:
its codes in `native`, its strand of editing and searching, and the join in a file of its own.
"""

from deepq.index.flat import DeepQuantIndex, restore
from deepq.index.ivf import DeepQuantIVFIndex, restore_cells

__all__ = ["DeepQuantIVFIndex", "DeepQuantIndex", "restore", "restore_cells"]

for _public in (
    DeepQuantIndex,
    DeepQuantIVFIndex,
    restore,
    restore_cells,
):  # pickles and messages name this front
    _public.__module__ = __name__
