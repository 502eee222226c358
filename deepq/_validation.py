"""Whether something learned pays, on rows that nothing was learned from."""

from __future__ import annotations

import numpy as np

from deepq._checks import Floats
from deepq._neighbours import TOP, Neighbours, scan
from deepq._rerank import rerank
from deepq.decoders import Words
from deepq.quantizers import ProductQuantizer, pack

FEWEST_ROWS = 200  # held out, below which chance decides

_MOST_QUERIES = 1000
_SHORT_LIST = 100


class Judge:
    """Held-out rows, some as queries and the others as base.

    Parameters
    ----------
    z : (n, d_out) float32
        Embeddings of held-out rows, at least `FEWEST_ROWS`.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    """

    def __init__(self, z: Floats, metric: int) -> None:
        self._test = Neighbours.apart(z, min(_MOST_QUERIES, len(z) // 4), metric)
        self.base = self._test.base

    def by_tables(self, quantizer: ProductQuantizer, words: Words) -> Floats:
        """10-recall@10 (nq,) of look-up tables, where the base is stored as `words`."""
        codes = pack(words, quantizer.nbits)
        return self._test.recall(scan(quantizer, codes, self._test.queries, TOP, self._test.metric))

    def by_nearest(self, quantizer: ProductQuantizer) -> Floats:
        """10-recall@10 (nq,) of look-up tables, for the words of the nearest codewords."""
        return self.by_tables(quantizer, quantizer.assign(self.base))

    def reranked(self, quantizer: ProductQuantizer, words: Words) -> Floats:
        """10-recall@10 (nq,) after the best 100 of the tables are ranked by decoded vectors."""
        test, decoded = self._test, quantizer.reconstruct(words)
        codes = pack(words, quantizer.nbits)
        found = scan(quantizer, codes, test.queries, min(_SHORT_LIST, len(codes)), test.metric)
        rerank(test.queries, found, decoded.__getitem__, test.metric)
        return test.recall(found)


def pays(new: Floats, old: Floats) -> bool:
    """Whether recalls of the same queries (nq,) have risen by more than their standard error."""
    gain = np.asarray(new, np.float64) - old
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
