"""How an index uses its codewords and its cells, and what it loses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_vectors
from deepq._common.errors import StateError
from deepq._common.types import Codes, Floats, Ids, InCells
from deepq.encoders.base import embed
from deepq.evaluation.bucket_use import BucketUse, bucket_use
from deepq.evaluation.measures import Numbers, image_shape, require_some
from deepq.hash_table.index import HashTableIndex
from deepq.index.flat import DeepQuantIndex
from deepq.index.interop import from_faiss
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.quantizers.packing import unpack

_BLOCK = 1 << 14
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """How the codebooks of an index are used, sub-space by sub-space.

    Attributes
    ----------
    n : int
        Vectors that were looked at.
    ksub : int
        Codewords in each codebook.
    usage : (M,) float64
        Part of the codewords that occur.
    perplexity : (M,) float64
        2**H with H the entropy of the words in bits: as many codewords, used equally often, would
        tell the vectors apart as well. From 1 to ksub.
    distortion : (M,) float64 or None
        Mean squared distance of an encoded sub-vector to its reconstruction.
    variance : (M,) float64 or None
        Mean squared distance of a sub-vector to the mean of all, which is the distortion that a
        single codeword would leave.
    cells : (nlist,) int64 or None
        Vectors in each cell. Of an index of cells, whose sub-vectors are those of residuals.
    """

    n: int
    ksub: int
    usage: Numbers
    perplexity: Numbers
    distortion: Numbers | None = None
    variance: Numbers | None = None
    cells: Counts | None = None

    @property
    def empty_cells(self) -> int:
        """Cells without a vector; 0 where there are no cells."""
        return 0 if self.cells is None else int((self.cells == 0).sum())

    @property
    def imbalance(self) -> float:
        """How many times more codes a search for one of the vectors meets than in equal cells.

        nlist sum n_c^2 / n^2 for cells of n_c vectors: 1 where all are equal, or there are none.
        """
        if self.cells is None:
            return 1.0
        return float(len(self.cells) * np.square(self.cells / self.n).sum())

    @property
    def dead(self) -> int:
        """Codewords that do not occur, in all codebooks."""
        return round(float((1 - self.usage).sum()) * self.ksub)

    @property
    def bits(self) -> float:
        """Sum of the entropies of all words; at most M * nbits."""
        return float(np.log2(self.perplexity).sum())

    @property
    def error(self) -> float | None:
        """Distortion over variance, of whole vectors; None where there were no vectors."""
        if self.distortion is None or self.variance is None:
            return None
        return _part(float(self.distortion.sum()), float(self.variance.sum()))

    def __str__(self) -> str:
        M = len(self.usage)
        lines = [
            f"{self.n:,} vectors, {M} codebooks of {self.ksub} codewords: "
            f"{self.bits:.1f} of {M * np.log2(self.ksub):.0f} bits, {self.dead} dead codewords"
            + ("" if self.error is None else f", relative error {self.error:.3f}"),
            "sub-space  usage  perplexity",
        ]
        lines += [f"{m:9}  {self.usage[m]:5.3f}  {self.perplexity[m]:10.1f}" for m in range(M)]
        if self.distortion is not None and self.variance is not None:
            lines[1] += "  distortion  of variance"
            for m, (lost, of) in enumerate(zip(self.distortion, self.variance, strict=True)):
                lines[m + 2] += f"  {lost:10.4g}  {_part(lost, of):11.3f}"
        if self.cells is not None:
            lines.append(
                f"{len(self.cells):,} cells of up to {self.cells.max():,} vectors, "
                f"{self.empty_cells:,} empty, imbalance {self.imbalance:.2f}"
            )
        return "\n".join(lines)


def diagnose(index: Any, x: Any = None) -> Diagnosis | BucketUse:
    """Return how the codebooks are used, by the stored codes or by those of `x`.

    Parameters
    ----------
    index : DeepQuantIndex, DeepQuantIVFIndex, HashTableIndex, or what `from_faiss` takes
        A trained index. Of a hash table it is told how the buckets are used.
    x : (n, d) array, optional
        Finite vectors, encoded for this and not added; without them the stored codes are looked
        at, and nothing is known of the distortion.

    Raises
    ------
    StateError
        If the index is not trained.
    InputError
        If there is nothing to look at: neither stored codes nor rows of `x`; or if a row is not
        finite.
    DimensionError, KindError
        If `x` is not an (n, d) array of real numbers, or `index` is another kind of index.
    """
    if not isinstance(index, DeepQuantIndex | DeepQuantIVFIndex | HashTableIndex):
        index = from_faiss(index)
    if not index.is_trained:
        raise StateError("expected a trained index, got one before train()")
    if isinstance(index, HashTableIndex):
        return bucket_use(index, x)
    if x is not None:
        image = image_shape(index)
        return _of_vectors(index, as_vectors(x, index.d, finite=True, image=image))
    quantizer, counts = index.product_quantizer, _no_counts(index)
    cells = _sizes(index) if isinstance(index, DeepQuantIVFIndex) else None
    for codes in _stored(index):
        _count(counts, unpack(codes, quantizer.M, quantizer.nbits))
    if not counts.any():
        require_some(np.empty(0))
    return Diagnosis(*_use(counts), cells=cells)


def _sizes(index: DeepQuantIVFIndex) -> Counts:
    return np.array([index.get_list_size(i) for i in range(index.nlist)], np.int64)


def _stored(index: DeepQuantIndex | DeepQuantIVFIndex) -> Iterable[Codes]:
    """Codes (m, code_size) of all that is stored, in parts."""
    if isinstance(index, DeepQuantIndex):
        return index.code_blocks(_BLOCK)
    return (index.get_list(cell)[1] for cell in range(index.nlist))


def _of_vectors(index: DeepQuantIndex | DeepQuantIVFIndex, x: Floats) -> Diagnosis:
    require_some(x)
    quantizer, counts = index.product_quantizer, _no_counts(index)
    cells = np.zeros(index.nlist, np.int64) if isinstance(index, DeepQuantIVFIndex) else None
    lost, first, second, offset = np.zeros((4, index.encoder.d_out))
    for i in range(0, len(x), _BLOCK):
        coded = _coded(index, x[i : i + _BLOCK])
        _count(counts, unpack(coded.codes, quantizer.M, quantizer.nbits))
        if cells is not None and coded.cells is not None:
            cells += np.bincount(coded.cells, minlength=len(cells))
        if i == 0:  # so that squares do not cancel
            offset = coded.z.mean(axis=0, dtype=np.float64)
        lost += np.square(coded.z - coded.z_hat).sum(axis=0, dtype=np.float64)
        first += (coded.z - offset).sum(axis=0, dtype=np.float64)
        second += np.square(coded.z - offset).sum(axis=0, dtype=np.float64)
    distortion, variance = (
        columns.reshape(quantizer.M, -1).sum(axis=1)
        for columns in (lost / len(x), second / len(x) - np.square(first / len(x)))
    )
    return Diagnosis(*_use(counts), distortion, variance, cells)


class _Coded(NamedTuple):
    """What is quantized of vectors (n, d_out), its codes, what these stand for, and cells (n,)."""

    z: Floats
    codes: Codes
    z_hat: Floats
    cells: Ids | None = None


def _coded(index: DeepQuantIndex | DeepQuantIVFIndex, x: Floats) -> _Coded:
    z, codes = embed(index.encoder, x), index.sa_encode(x)
    if isinstance(index, DeepQuantIndex):
        return _Coded(z, codes, index.product_quantizer.decode(codes))
    size = index.sa_code_size() - index.code_size
    numbers = np.zeros((len(codes), 8), np.uint8)
    numbers[:, :size] = codes[:, :size]
    cells, own = numbers.view("<i8")[:, 0], np.ascontiguousarray(codes[:, size:])
    if not index.by_residual:
        return _Coded(z, own, index.product_quantizer.decode(own), cells)
    distinct, rows = np.unique(cells, return_inverse=True)
    known = InCells(index.quantizer.reconstruct_batch(distinct), rows)
    z = z - known.centres[rows]
    return _Coded(z, own, index.product_quantizer.decode(own, known), cells)


def _no_counts(index: DeepQuantIndex | DeepQuantIVFIndex) -> Counts:
    quantizer = index.product_quantizer
    return np.zeros((quantizer.M, quantizer.ksub), np.int64)


def _count(counts: Counts, words: NDArray[Any]) -> None:
    """Add to counts (M, ksub) how often each codeword occurs in `words` (n, M)."""
    for m, row in enumerate(counts):
        row += np.bincount(words[:, m], minlength=len(row))


def _use(counts: Counts) -> tuple[int, int, Numbers, Numbers]:
    """Return n, ksub, usage and perplexity."""
    n = int(counts[0].sum())
    p = counts / n
    entropy = -(p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=1)
    return n, counts.shape[1], (counts > 0).mean(axis=1), np.exp2(entropy)


def _part(lost: float, of: float) -> float:
    return lost / of if of else 0.0
