"""How an index uses its codewords and its cells, and what it loses."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from deepq._common.arrays import as_vectors
from deepq._common.checks import as_real
from deepq._common.errors import InputError, KindError, StateError
from deepq._common.types import Codes, Floats, Ids, InCells
from deepq.encoders.base import embed
from deepq.evaluation.bucket_use import BucketUse, bucket_use
from deepq.evaluation.measures import Numbers, image_shape, require_some
from deepq.hash_table.index import HashTableIndex
from deepq.index.flat import DeepQuantIndex
from deepq.index.interop import from_faiss
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.quantizers.usage import Counts, count, entropies, expected_bits, no_counts
from deepq.training.trainer import HELD_OUT

_BLOCK = 1 << 14

_log = logging.getLogger("deepq.evaluation")


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
    expected_error : float or None
        Mean squared distance, of whole vectors, that is expected of rows like those of the
        training; None where it is not known.
    expected_bits : float or None
        Sum of the entropies of the words of very many such rows.
    fingerprint : str or None
        That of the index; None where its encoder has no state.
    """

    n: int
    ksub: int
    usage: Numbers
    perplexity: Numbers
    distortion: Numbers | None = None
    variance: Numbers | None = None
    cells: Counts | None = None
    expected_error: float | None = None
    expected_bits: float | None = None
    fingerprint: str | None = None

    @property
    def drift(self) -> float | None:
        """How much more these vectors lose than is expected: 0 as much, 1 twice as much.

        Below 0 they lose less. None where it is not known what is expected, or there were no
        vectors.
        """
        if self.distortion is None or not self.expected_error:
            return None
        return float(self.distortion.sum()) / self.expected_error - 1

    @property
    def idle(self) -> float | None:
        """Bits of a code that tell these vectors apart no more, but told apart those expected.

        None where that is not known. It grows where new vectors are of few kinds.
        """
        if self.expected_bits is None:
            return None
        return self.expected_bits - self._bits_of_many

    @property
    def _bits_of_many(self) -> float:
        return expected_bits(self.n, np.log2(self.perplexity), self.usage * self.ksub)

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
        if self.drift is not None and self.idle is not None:
            lines.append(f"drift {self.drift:+.3f}, {self.idle:+.1f} bits idle")
        if self.cells is not None:
            lines.append(
                f"{len(self.cells):,} cells of up to {self.cells.max():,} vectors, "
                f"{self.empty_cells:,} empty, imbalance {self.imbalance:.2f}"
            )
        return "\n".join(lines)


def diagnose(
    index: Any, x: Any = None, *, like: Diagnosis | None = None, warn_above: float | None = None
) -> Diagnosis | BucketUse:
    """Return how the codebooks are used, by the stored codes or by those of `x`, and what drifts.

    The training leaves in `history` what it lost of rows that it had held out. Vectors that lose
    more have drifted from those that the codebooks were learned from.

    Parameters
    ----------
    index : DeepQuantIndex, DeepQuantIVFIndex, HashTableIndex, or what `from_faiss` takes
        A trained index. Of a hash table it is told how the buckets are used.
    x : (n, d) array, optional
        Finite vectors, encoded for this and not added; without them the stored codes are looked
        at, and nothing is known of the distortion.
    like : Diagnosis, optional
        Of vectors to compare with, of the same index. Without it those held out of the training,
        if the index is what a training without labels has left.
    warn_above : float, optional
        `drift` above which a warning is logged; one is, too, where it is not known.

    Raises
    ------
    StateError
        If the index is not trained.
    InputError
        If there is nothing to look at: neither stored codes nor rows of `x`; or if a row, or
        `warn_above`, is not finite; or if `like` is of another training.
    DimensionError, KindError
        If `x` is not an (n, d) array of real numbers, `index` is another kind of index, or `like`
        no Diagnosis.
    """
    most = None if warn_above is None else as_real(warn_above, "warn_above")
    if not isinstance(index, DeepQuantIndex | DeepQuantIVFIndex | HashTableIndex):
        index = from_faiss(index)
    if not index.is_trained:
        raise StateError("expected a trained index, got one before train()")
    if isinstance(index, HashTableIndex):
        if like is not None or most is not None:
            raise InputError("expected an index of codes to tell drift, got a HashTableIndex")
        return bucket_use(index, x)
    if x is not None:
        image = image_shape(index)
        found = _of_vectors(index, as_vectors(x, index.d, finite=True, image=image))
    else:
        found = _of_codes(index)
    own = _fingerprint(index)
    expected = _of_training(index, own) if like is None else _of_others(like, own)
    found = replace(found, fingerprint=own, **expected)
    if most is not None:
        _warn(found, most)
    return found


def _fingerprint(index: DeepQuantIndex | DeepQuantIVFIndex) -> str | None:
    try:
        return index.fingerprint
    except KindError:
        return None


def _of_training(
    index: DeepQuantIndex | DeepQuantIVFIndex, fingerprint: str | None
) -> dict[str, Any]:
    """Return what the training has left in `history`, if it was that of these codebooks."""
    for entry in reversed(index.history):
        if isinstance(entry, dict) and entry.get("stage") == HELD_OUT:
            if entry.get("fingerprint") != fingerprint:
                break
            known = {f"expected_{name}": entry.get(name) for name in ("error", "bits")}
            return {name: value for name, value in known.items() if isinstance(value, float)}
    return {}


def _of_others(like: Any, fingerprint: str | None) -> dict[str, Any]:
    if not isinstance(like, Diagnosis):
        raise KindError(f"expected a Diagnosis to compare with, got {type(like).__name__}")
    if like.fingerprint != fingerprint:
        raise InputError(
            f"expected a Diagnosis of the same training to compare with, {fingerprint}, got one "
            f"of {like.fingerprint}"
        )
    expected = {"expected_bits": like._bits_of_many}
    if like.distortion is not None:
        expected["expected_error"] = float(like.distortion.sum())
    return expected


def _warn(found: Diagnosis, most: float) -> None:
    if found.distortion is None:
        _log.warning("drift of stored codes is not known: it takes vectors")
    elif found.drift is None:
        _log.warning("drift is not known: what the training lost of held-out rows is not there")
    elif found.drift > most:
        _log.warning(
            "drift %.3f of %d vectors is above %g: they lose more than what was learned from",
            found.drift,
            found.n,
            most,
        )


def _of_codes(index: DeepQuantIndex | DeepQuantIVFIndex) -> Diagnosis:
    quantizer = index.product_quantizer
    counts = no_counts(quantizer)
    cells = _sizes(index) if isinstance(index, DeepQuantIVFIndex) else None
    for codes in _stored(index):
        count(counts, codes, quantizer)
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
    quantizer = index.product_quantizer
    counts = no_counts(quantizer)
    cells = np.zeros(index.nlist, np.int64) if isinstance(index, DeepQuantIVFIndex) else None
    lost, first, second, offset = np.zeros((4, index.encoder.d_out))
    for i in range(0, len(x), _BLOCK):
        coded = _coded(index, x[i : i + _BLOCK])
        count(counts, coded.codes, quantizer)
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


def _use(counts: Counts) -> tuple[int, int, Numbers, Numbers]:
    """Return n, ksub, usage and perplexity."""
    n = int(counts[0].sum())
    return n, counts.shape[1], (counts > 0).mean(axis=1), np.exp2(entropies(counts))


def _part(lost: float, of: float) -> float:
    return lost / of if of else 0.0
