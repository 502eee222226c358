"""Codebooks, words and codes: how vectors become bytes, and how much those bytes find.

`product` has codebooks for every sub-space; `binary` is the kind with frozen codewords of +-1, and
lists the kinds by name; `packing` makes bytes of words. `numbering` gives near codewords near
numbers, which the scan uses. `judging` says how many true neighbours codes find, on rows that
nothing was learned from, `judging_cells` how many in cells, `usage` how often codewords occur.
`reranking` orders results by decoded vectors. `kmeans` is what codebooks need besides their steps,
`parted` k-means of rows in several places.

It imports `_scan`, `_common` and `decoders`. A new kind of quantizer: a subclass in a file of its
own, one line in `TYPES`, one line here; tests/quantizers has what each must do.
"""

from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2
from deepq.quantizers.binary import TYPES, BinaryQuantizer
from deepq.quantizers.packing import pack, unpack
from deepq.quantizers.product import ProductQuantizer

__all__ = [
    "METRIC_INNER_PRODUCT",
    "METRIC_L2",
    "TYPES",
    "BinaryQuantizer",
    "ProductQuantizer",
    "pack",
    "unpack",
]
