"""Errors that count: those along which near vectors differ.

Of a vector x that is decoded with an error e, the squared distance to a query q is wrong by

    |q - x + e|^2 - |q - x|^2 = 2 (q - x).e + |e|^2.

Where codes are fine the first part decides, and what is needed is not the least |e|^2 but the least
E ((q - x).e)^2 = e' W e, W the second moment of the differences of queries and near vectors. Guo et
al., "Quantization based fast inner product search" (AISTATS 2016), weigh errors by the second
moment of queries likewise.

So words are chosen, and decoders learned, in a *stretched* space: every sub-space times the root of
its block of W. What is decoded is as long as ever. Codes of few bits gain nothing: their |e|^2 is
large. Most is gained along principal axes, dealt out so that every sub-space has some of each size.
Plain codewords say whether to stretch, and along which axes, before a network is learned.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from deepq._common.types import Floats
from deepq.decoders.neural import Decoder
from deepq.decoders.panels import block_diagonal
from deepq.encoders.rotation import FRESH_STEPS, eigenvalue_allocation, rotate
from deepq.quantizers.judging import Judge, Neighbours, pays
from deepq.quantizers.numbering import numbered
from deepq.quantizers.product import ProductQuantizer

_FLOOR = 1e-4  # of a block's eigenvalues, as a part of the mean of all
_STEPS = 10  # of k-means in the stretched space


class Start(NamedTuple):
    """Where a decoder starts from.

    Attributes
    ----------
    sites : (M, ksub, dsub) float32
        What words are near to.
    stretch : (M, dsub, dsub) float32, or None
        What sub-vectors are multiplied by where errors count alike.
    recall : (nq,) float32
        What held-out queries find by the sites, as plain codewords.
    """

    sites: Floats
    stretch: Floats | None
    recall: Floats

    def or_better(self, other: Start) -> Start:
        """Return the other if it surely finds more, else this."""
        return other if pays(other.recall, self.recall) else self


def start_of(
    quantizer: ProductQuantizer, z: Floats, known: Neighbours, judge: Judge, seed: int
) -> Start:
    """Start from the codebooks of a quantizer, which stays, or stretched from sites near them.

    Parameters
    ----------
    z : (n, d) float32
        Vectors to learn from.
    known : Neighbours
        Among such vectors.
    judge : Judge
        Held-out rows.
    seed : int
        Of k-means.
    """
    sites = quantizer.trained()
    plain = Start(sites, None, _recall(quantizer, judge, sites, None))
    stretch = stretch_of(known, quantizer.M)
    if stretch is None:
        return plain
    moved = _moved(quantizer, z, stretch, seed)
    return plain.or_better(Start(moved, stretch, _recall(quantizer, judge, moved, stretch)))


class Turned(NamedTuple):
    """A start along other axes (d, d), what is turned to them, and codebooks for it."""

    axes: Floats
    z: Floats
    held: Floats
    known: Neighbours
    codebooks: Floats
    start: Start


def along_principal_axes(
    quantizer: ProductQuantizer, z: Floats, held: Floats, known: Neighbours, most: int, seed: int
) -> Turned:
    """Find the start along principal axes, dealt out to the sub-spaces.

    `held` (m, d) are held-out rows, judged among the first `most` of `z`.
    """
    axes = eigenvalue_allocation(z, quantizer.M).astype(np.float32)
    z, held = rotate(z, axes), rotate(held, axes)
    base, queries = rotate(known.base, axes), rotate(known.queries, axes)
    known = replace(known, base=base, queries=queries)
    trial = quantizer.fresh()
    trial.train(z, iterations=FRESH_STEPS, seed=seed)
    trial.codebooks = numbered(trial.trained())
    start = start_of(trial, z, known, Judge(held, known.metric, z[:most]), seed)
    return Turned(axes, z, held, known, trial.trained(), start)


def stretch_of(known: Neighbours, M: int) -> Floats | None:
    """Roots (M, dsub, dsub) of the blocks of W, 1 on average; None where no vectors differ.

    Symmetric ones, of the queries in `known` and their true neighbours.
    """
    moments = []
    for part in np.split(np.arange(known.base.shape[1]), M):
        base, queries = known.base[:, part], known.queries[:, part]
        gaps = (queries[:, None] - base[known.true]).reshape(-1, len(part)).astype(np.float64)
        moments.append(gaps.T @ gaps / len(gaps))
    variances, axes = np.linalg.eigh(np.stack(moments))
    mean = variances.mean()
    if not mean > 0:
        return None
    roots = np.sqrt(np.maximum(variances / mean, _FLOOR))
    stretch: Floats = ((axes * roots[:, None]) @ axes.transpose(0, 2, 1)).astype(np.float32)
    return stretch


def _moved(quantizer: ProductQuantizer, z: Floats, stretch: Floats, seed: int) -> Floats:
    """Sites near the codewords of a quantizer, by k-means on stretched vectors (n, d)."""
    book = quantizer.fresh()
    book.codebooks = quantizer.trained() @ stretch
    book.train(z @ block_diagonal(stretch), iterations=_STEPS, seed=seed)
    moved: Floats = (book.trained() @ np.linalg.inv(stretch.astype(np.float64))).astype(np.float32)
    return moved


def plain_decoder(sites: Floats, stretch: Floats | None) -> Decoder:
    """Make a decoder whose network adds nothing to the sites (M, ksub, dsub)."""
    M, ksub, dsub = sites.shape
    d, nothing = M * dsub, np.zeros((1, 1), np.float32)
    tables = np.zeros((M, ksub, M, dsub), np.float32)
    tables[np.arange(M), :, np.arange(M)] = sites
    arrays = {
        "sites": sites,
        "tables": tables.reshape(M, ksub, d),
        "features": np.zeros((M, ksub, 1), np.float32),
        **dict.fromkeys(("inner", "outer"), nothing),
        "bias": nothing[0],
        "output": np.zeros((1, d), np.float32),
        "centre": np.zeros(d, np.float32),
    }
    return Decoder(arrays if stretch is None else {**arrays, "stretch": stretch}, candidates=1)


def _recall(
    quantizer: ProductQuantizer, judge: Judge, sites: Floats, stretch: Floats | None
) -> Floats:
    """Measure what plain codewords find."""
    trial = quantizer.fresh()
    trial.codebooks, trial.decoder = sites, plain_decoder(sites, stretch)
    return judge.reranked(trial)
