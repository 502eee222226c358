"""deepq in ann-benchmarks: codes alone, or codes and then the vectors."""

import faiss
import numpy as np

import deepq

from ..base.module import BaseANN

METRICS = {"euclidean": faiss.METRIC_L2, "angular": "cosine"}


class DeepQ(BaseANN):
    """An index that keeps M bytes of every vector.

    Parameters
    ----------
    metric : str
        "euclidean" or "angular".
    M : int
        Bytes of a vector.
    nlist : int
        Number of cells; 0 for none.
    rerank : int
        How many results a decoder ranks anew; 0 for none.
    """

    def __init__(self, metric, M, nlist, rerank):
        if metric not in METRICS:
            raise ValueError(f"expected a metric of {', '.join(METRICS)}, got {metric}")
        self.metric, self.M, self.nlist, self.rerank = metric, M, nlist, rerank
        self.nprobe = 1

    def fit(self, X):
        """Train on the rows of X (n, d), and store their codes."""
        d = X.shape[1]
        width = -(-d // self.M) * self.M
        parts = [f"Pad{width}"] if width != d else []
        parts += [f"OPQ{self.M}"] + ([f"IVF{self.nlist}"] if self.nlist else [])
        parts += [f"PQ{self.M}"] + ([f"Rerank{self.rerank}"] if self.rerank else [])
        self.index = deepq.index_factory(d, ",".join(parts), METRICS[self.metric])
        self.index.train(X)
        self.index.add(X)

    def set_query_arguments(self, nprobe):
        """Choose how many cells a search looks into."""
        self.nprobe = nprobe
        if self.nlist:
            self.index.nprobe = nprobe

    def search(self, X, n):
        """Ids (nq, n) of the nearest rows; -1 where there are not as many."""
        return self.index.search(np.ascontiguousarray(X, np.float32), n)[1]

    def query(self, q, n):
        """Ids of the at most n nearest rows, the nearest first."""
        ids = self.search(q[None], n)[0]
        return ids[ids >= 0]

    def batch_query(self, X, n):
        """Search for all rows of X (nq, d); the ids are for `get_batch_results`."""
        self.res = self.search(X, n)

    def get_batch_results(self):
        """Ids of each query."""
        return [ids[ids >= 0] for ids in self.res]

    def get_additional(self):
        """Return what is written down beside the results."""
        return {"bytes_per_vector": int(self.index.code_size)}

    def __str__(self):
        return f"{type(self).__name__}({self._settings()})"

    def _settings(self):
        return f"M={self.M}, nlist={self.nlist}, rerank={self.rerank}, nprobe={self.nprobe}"


class DeepQRefined(DeepQ):
    """The same, that keeps the vectors besides, and ranks the best results by them."""

    k_factor = 0

    def fit(self, X):
        """Train on the rows of X (n, d), and store codes and vectors."""
        super().fit(X)
        vectors = np.array(X, np.float32)
        if METRICS[self.metric] == "cosine":
            faiss.normalize_L2(vectors)
        self.refined = faiss.IndexRefineFlat(self.index, faiss.swig_ptr(vectors))  # which copies

    def set_query_arguments(self, nprobe, k_factor):
        """Choose cells, and how many times n results are ranked by their vectors."""
        super().set_query_arguments(nprobe)
        self.k_factor = k_factor
        self.refined.k_factor = max(1, k_factor)

    def search(self, X, n):
        """Ids (nq, n) of the nearest rows; -1 where there are not as many."""
        if not self.k_factor:
            return super().search(X, n)
        return self.refined.search(np.ascontiguousarray(X, np.float32), n)[1]

    def get_additional(self):
        """Return what is written down beside the results."""
        return {"bytes_per_vector": int(self.index.code_size) + 4 * self.index.d}

    def _settings(self):
        return f"{super()._settings()}, k_factor={self.k_factor}"
