"""Everything that the benchmarks compare: one table of methods, each with the interface of faiss.

`METHODS` maps a name to a `Method`. Its `make` gives an index with `train`, `add`, `search` and
`sa_code_size`, of a number of dimensions, of bytes a vector and of a seed; or None where the method
cannot have that many bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from deepq import _scan

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Make = Callable[[int, int, int], Any]  # of dimensions, bytes a vector, seed

_ADDITIVE_ROWS = 30_000  # of training: more takes additive quantizers minutes
_BEAM = 16  # candidates kept while encoding
_TRAINING_BEAM = 5  # faiss's default; 16 takes longer and learns no better codebooks
_RERANKED = 100
_SWEEPS, _RIDGE = 10, 50  # of the tables of squared lengths
_LENGTH = faiss.AdditiveQuantizer.ST_norm_qint8
_RABITQ_BITS = (1, 2, 3, 4)  # a dimension
_BLOCK = 128  # queries re-ranked at once
_OPQ_ROWS, _OPQ_ITERATIONS = 20_000, 20  # of the rotation before 4-bit codes


@dataclass(frozen=True)
class Method:
    """How to make the indexes of a method.

    Attributes
    ----------
    make : callable
        (d, bytes a vector, seed) -> index, or None.
    sizes : callable, optional
        (d) -> the bytes it can have, where those are few; else it is asked for any.
    rows : int, optional
        Most rows it is trained on.
    largest : int, optional
        Most bytes that it is trained for in some minutes.
    """

    make: Make
    sizes: Callable[[int], Iterable[int]] | None = None
    rows: int | None = None
    largest: int | None = None

    def sizes_of(self, d: int, asked: Iterable[int]) -> list[int]:
        """Return the bytes to make it of: its own sizes, or what was asked for."""
        largest = float("inf") if self.largest is None else self.largest
        return [size for size in (self.sizes(d) if self.sizes else asked) if size <= largest]


# Product quantizers


def pq(d: int, size: int, seed: int) -> Any:
    """Make faiss's product quantizer."""
    if d % size:
        return None
    index = faiss.IndexPQ(d, size, 8)
    index.pq.cp.seed = seed
    return index


def opq(d: int, size: int, seed: int, *, identity: bool = False) -> Any:
    """Make faiss's OPQ, from its random start or from the identity."""
    index = pq(d, size, seed)
    if index is None:
        return None
    rotation = faiss.OPQMatrix(d, size)
    if identity:
        faiss.copy_array_to_vector(np.eye(d, dtype=np.float32).ravel(), rotation.A)
    return faiss.IndexPreTransform(rotation, index)


def fastscan(d: int, size: int, seed: int, *, rotated: bool = False) -> Any:
    """Make faiss's index of 4-bit codes, two a byte, behind OPQ if asked."""
    M = 2 * size
    if d % M:
        return None
    index = faiss.IndexPQFastScan(d, M, 4)
    index.pq.cp.seed = seed
    if not rotated:
        return index
    rotation = faiss.OPQMatrix(d, M)
    # Its own default, 8 bits and 50 iterations, takes far longer for codes that are not used.
    rotation.pq, rotation.niter = faiss.ProductQuantizer(d, M, 4), _OPQ_ITERATIONS
    rotation.max_train_points = _OPQ_ROWS
    return faiss.IndexPreTransform(rotation, index)


# Additive quantizers: a byte for each codebook, and in faiss's one more for the length


def rq(d: int, size: int, seed: int) -> Any:
    """Make faiss's residual quantizer."""
    index = faiss.IndexResidualQuantizer(d, size - 1, 8, faiss.METRIC_L2, _LENGTH)
    _set_up(index.rq, seed)
    return index


def lsq(d: int, size: int, seed: int) -> Any:
    """Make faiss's local-search quantizer."""
    index = faiss.IndexLocalSearchQuantizer(d, size - 1, 8, faiss.METRIC_L2, _LENGTH)
    _set_up(index.lsq, seed)
    return index


def prq(d: int, size: int, seed: int) -> Any:
    """Make faiss's product of two residual quantizers; an even size becomes one less."""
    index = faiss.IndexProductResidualQuantizer(d, 2, (size - 1) // 2, 8, faiss.METRIC_L2, _LENGTH)
    return _set_up_halves(index, index.prq, seed)


def plsq(d: int, size: int, seed: int) -> Any:
    """Make faiss's product of two local-search quantizers; an even size becomes one less."""
    index = faiss.IndexProductLocalSearchQuantizer(
        d, 2, (size - 1) // 2, 8, faiss.METRIC_L2, _LENGTH
    )
    return _set_up_halves(index, index.plsq, seed)


def _set_up_halves(index: Any, product: Any, seed: int) -> Any:
    for half in range(2):
        _set_up(faiss.downcast_AdditiveQuantizer(product.subquantizer(half)), seed)
    return index


def _set_up(quantizer: Any, seed: int) -> None:
    if isinstance(quantizer, faiss.LocalSearchQuantizer):
        quantizer.random_seed = seed
    else:
        quantizer.cp.seed, quantizer.max_beam_size, quantizer.use_beam_LUT = seed, _BEAM, 1


def one_more(make: Make) -> Make:
    """Give a method as many codebooks as it is asked for bytes, and the length besides."""
    return lambda d, size, seed: make(d, size + 1, seed)


class RerankedRQ:
    """Residual codes without a byte for the length: an additive scan, and its best re-ranked.

    The squared length of a decoded vector is not stored but approximated by a sum of table
    entries, one for each word of the code, so that a scan of look-up tables ranks all codes. The
    distances of the first 100 to the query are then computed from the decoded vectors.

    Parameters
    ----------
    d, size, seed : int
        Dimensions, bytes a vector (one for each codebook), seed.
    """

    def __init__(self, d: int, size: int, seed: int) -> None:
        self._rq = faiss.ResidualQuantizer(d, size, 8)
        _set_up(self._rq, seed)
        self._codes = np.empty((0, size), np.uint8)

    def train(self, x: Floats) -> None:
        """Learn the codebooks from the first rows, the lengths from all."""
        self._rq.max_beam_size = _TRAINING_BEAM
        self._rq.train(x[:_ADDITIVE_ROWS])
        self._rq.max_beam_size = _BEAM
        self._codebooks = faiss.vector_to_array(self._rq.codebooks).reshape(-1, self._rq.d)
        codes = self._rq.compute_codes(x)
        self._lengths = fit_sums(codes, np.square(self._rq.decode(codes)).sum(axis=1))

    def add(self, x: Floats) -> None:
        """Store codes."""
        self._codes = np.concatenate([self._codes, self._rq.compute_codes(x)])

    def search(self, x: Floats, k: int) -> tuple[Floats, Ints]:
        """Return the squared distances and ids (nq, k) of the nearest decoded vectors."""
        blocks = [self._search(x[i : i + _BLOCK], k) for i in range(0, len(x), _BLOCK)]
        D, I = map(np.concatenate, zip(*blocks, strict=True))
        return D, I

    def sa_code_size(self) -> int:
        """Return the bytes of a vector."""
        return self._codes.shape[1]

    def _search(self, x: Floats, k: int) -> tuple[Floats, Ints]:
        M = self.sa_code_size()
        luts = self._lengths - 2 * (x @ self._codebooks.T).reshape(len(x), M, -1)
        shape = (len(x), min(max(k, _RERANKED), len(self._codes)))
        D, I = np.empty(shape, np.float32), np.empty(shape, np.int64)
        _scan.search(self._codes, M, 8, D, I, luts=luts)
        found = self._rq.decode(self._codes[I.ravel()]).reshape(*shape, -1)
        D = np.square(found - x[:, None]).sum(axis=2)
        order = np.argsort(D, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(D, order, axis=1), np.take_along_axis(I, order, axis=1)


def fit_sums(codes: NDArray[np.uint8], values: Floats) -> Floats:
    """Return the table (M, 256) whose sums over the words of each code are nearest the values.

    Ridge regression on the words, one codebook after the other (Gauss-Seidel).
    """
    sums = np.zeros((codes.shape[1], 256))
    rest = values - values.mean(dtype=np.float64)
    for _ in range(_SWEEPS):
        for m, words in enumerate(codes.T):
            rest += sums[m, words]
            counts = np.bincount(words, minlength=256)
            sums[m] = np.bincount(words, rest, minlength=256) / (counts + _RIDGE)
            rest -= sums[m, words]
    sums[0] += values.mean()
    return sums.astype(np.float32)


# Others


def scalar(d: int, size: int, seed: int) -> Any:  # noqa: ARG001
    """Make faiss's scalar quantizer of 4, 6 or 8 bits a dimension."""
    kinds = {4: faiss.ScalarQuantizer.QT_4bit, 6: faiss.ScalarQuantizer.QT_6bit}
    kinds[8] = faiss.ScalarQuantizer.QT_8bit
    bits, rest = divmod(8 * size, d)
    return None if rest or bits not in kinds else faiss.IndexScalarQuantizer(d, kinds[bits])


def rabitq(d: int, size: int, seed: int) -> Any:
    """Make faiss's RaBitQ behind a random rotation, in the layout that it scans the fastest."""
    for bits in _RABITQ_BITS:
        index = faiss.IndexRaBitQFastScan(d, faiss.METRIC_L2, 32, bits)
        if index.sa_code_size() == size:
            rotation = faiss.RandomRotationMatrix(d, d)
            rotation.init(seed)
            return faiss.IndexPreTransform(rotation, index)
    return None


class Turbovec:
    """turbovec's index with the methods of faiss's.

    Parameters
    ----------
    d, size : int
        Dimensions, and bytes a vector, 4 of which hold its length.
    """

    def __init__(self, d: int, size: int) -> None:
        from turbovec import TurboQuantIndex

        self._index, self._size = TurboQuantIndex(d, 8 * (size - 4) // d), size

    def train(self, x: Floats) -> None:
        """Calibrate."""
        self._index.calibrate(x)

    def add(self, x: Floats) -> None:
        """Store vectors."""
        self._index.add(x)
        self._index.prepare()

    def search(self, x: Floats, k: int) -> tuple[Floats, Ints]:
        """Return the scores and ids (nq, k) of the nearest."""
        return self._index.search(x, k)

    def sa_code_size(self) -> int:
        """Return the bytes of a vector."""
        return self._size


class ScaNN:
    """ScaNN's 4-bit asymmetric hashing, without partitions or re-ranking, in faiss's interface.

    It trains on what it stores, so `train` only keeps the number of rows.

    Parameters
    ----------
    d, size : int
        Dimensions and bytes a vector.
    """

    def __init__(self, d: int, size: int) -> None:
        self._d, self._size = d, size

    def train(self, x: Floats) -> None:
        """Keep how many rows to train on."""
        self._rows = len(x)

    def add(self, x: Floats) -> None:
        """Train and store vectors."""
        from scann import scann_ops_pybind

        builder = scann_ops_pybind.builder(x, 10, "squared_l2").score_ah(
            self._d // (2 * self._size),
            training_sample_size=self._rows,
            anisotropic_quantization_threshold=0.2,
        )
        self._searcher = builder.build()

    def search(self, x: Floats, k: int) -> tuple[Floats, Ints]:
        """Return the distances and ids (nq, k) of the nearest."""
        I, D = self._searcher.search_batched(x, final_num_neighbors=k)
        return D, I

    def sa_code_size(self) -> int:
        """Return the bytes of a vector."""
        return self._size


def turbovec(d: int, size: int, seed: int) -> Any:  # noqa: ARG001
    """Make turbovec's index if it is installed."""
    return Turbovec(d, size) if find_spec("turbovec") else None


def scann(d: int, size: int, seed: int) -> Any:  # noqa: ARG001
    """Make ScaNN's index if it is installed."""
    return ScaNN(d, size) if find_spec("scann") and d % (2 * size) == 0 else None


# Ours


def deepquant(d: int, size: int, seed: int, *, rerank: int = 0, **training: Any) -> Any:
    """Make ours, as a user would."""
    config = deepq.TrainConfig(seed=seed, **training)
    return deepq.DeepQuantIndex(d, size, rerank=rerank, training=config)


def bits(*numbers: int, more: int = 0) -> Callable[[int], list[int]]:
    """Return what gives the bytes of vectors with so many bits a dimension, and `more`."""
    return lambda d: [d * number // 8 + more for number in numbers]


def _rabitq_sizes(d: int) -> list[int]:
    return [
        faiss.IndexRaBitQFastScan(d, faiss.METRIC_L2, 32, number).sa_code_size()
        for number in _RABITQ_BITS
    ]


# In the order of what they cost.
METHODS: dict[str, Method] = {
    "faiss PQ": Method(pq),
    "faiss FastScan": Method(fastscan),
    "faiss SQ": Method(scalar, sizes=bits(4, 6, 8)),
    "faiss RaBitQ": Method(rabitq, sizes=_rabitq_sizes),
    "turbovec": Method(turbovec, sizes=bits(2, 3, 4, more=4)),
    "ScaNN": Method(scann),
    "faiss OPQ + FastScan": Method(partial(fastscan, rotated=True)),
    "deepq, fast, re-ranked": Method(partial(deepquant, rerank=_RERANKED, preset="fast")),
    "deepq": Method(deepquant),
    "deepq, re-ranked": Method(partial(deepquant, rerank=_RERANKED)),
    "deepq, best, re-ranked": Method(partial(deepquant, rerank=_RERANKED, preset="best")),
    "RQ, re-ranked": Method(RerankedRQ),
    "faiss RQ +1": Method(one_more(rq), rows=_ADDITIVE_ROWS, largest=32),
    "faiss RQ": Method(rq, rows=_ADDITIVE_ROWS, largest=32),
    "faiss PRQ +1": Method(one_more(prq), rows=_ADDITIVE_ROWS, largest=32),
    "faiss PRQ": Method(prq, rows=_ADDITIVE_ROWS, largest=32),
    "faiss OPQ": Method(opq),
    "faiss OPQ, identity": Method(partial(opq, identity=True)),
    "faiss PLSQ +1": Method(one_more(plsq), rows=_ADDITIVE_ROWS, largest=16),
    "faiss PLSQ": Method(plsq, rows=_ADDITIVE_ROWS, largest=16),
    "faiss LSQ +1": Method(one_more(lsq), rows=_ADDITIVE_ROWS, largest=16),
    "faiss LSQ": Method(lsq, rows=_ADDITIVE_ROWS, largest=16),
}
