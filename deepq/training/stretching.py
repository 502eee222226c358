"""Errors that count: those along which near vectors differ.

Of a vector x that is decoded with an error e, the squared distance to a query q is wrong by

    |q - x + e|^2 - |q - x|^2 = 2 (q - x).e + |e|^2.

Where codes are fine the first part decides, and what is needed is not the least |e|^2 but the least
E ((q - x).e)^2 = e' W e, W the second moment of the differences of queries and near vectors. Guo et
al., "Quantization based fast inner product search" (AISTATS 2016), weigh errors by the second
moment of queries likewise.

But |e|^2 is not small, so errors are weighed by the root of W, which lies between both. Words are
chosen, and decoders learned, for vectors times its root, W^(1/4), in a *stretched* space. What is
decoded is as long as ever.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deepq._common.types import Floats, Progress
from deepq.decoders.neural import Decoder
from deepq.decoders.panels import block_diagonal, diagonal_blocks
from deepq.encoders.rotation import FRESH_STEPS, ITERATIONS, learn_rotation
from deepq.quantizers.judging import Neighbours, pays
from deepq.quantizers.numbering import numbered
from deepq.quantizers.product import ProductQuantizer
from deepq.training.embedded import Embedded

_FLOOR = 1e-4  # of the eigenvalues of W, as a part of their mean
_POWER = 1 / 4  # of W
_STEPS = 10  # of k-means in the stretched space
_TRIED = 2  # words of every sub-space, as in learning


class Start(NamedTuple):
    """Where a decoder starts from.

    Attributes
    ----------
    sites : (M, ksub, dsub) float32
        What words are near to.
    stretch : (d, d) float32, or None
        What vectors are multiplied by where errors count alike.
    by_nearest, by_chosen : (nq,) float32
        What held-out queries find by the sites, as plain codewords: of the nearest words, and of
        those that are chosen.
    """

    sites: Floats
    stretch: Floats | None
    by_nearest: Floats
    by_chosen: Floats


class Turned(NamedTuple):
    """A start along other axes (d, d), the rows along these, and codebooks for them."""

    axes: Floats
    rows: Embedded
    codebooks: Floats
    start: Start

    def finds_more_than(self, other: Start) -> bool:
        """Whether nearest words surely find more than along the axes there are.

        Learning begins with nearest words.
        """
        return pays(self.start.by_nearest, other.by_nearest)


def start_of(quantizer: ProductQuantizer, rows: Embedded, seed: int) -> Start:
    """Start from the codebooks of a quantizer, or stretched if plain codewords find more then.

    `seed` is that of k-means.
    """
    plain, stretch = _judged(quantizer, quantizer.trained(), None, rows), stretch_of(rows.known())
    return plain if stretch is None else _better(plain, quantizer, stretch, rows, seed)


def along_learned_axes(
    quantizer: ProductQuantizer,
    stretch: Floats,
    rows: Embedded,
    iterations: int | None,
    seed: int,
    progress: Progress | None = None,
) -> Turned:
    """Start along axes of a rotation that is learned for stretched vectors, in some iterations."""

    def told(entry: dict[str, Any]) -> None:
        if progress is not None:
            progress({**entry, "stage": "axes"})

    given = ITERATIONS if iterations is None else iterations
    axes = learn_rotation(
        rows.z @ stretch, quantizer.fresh(), iterations=given, seed=seed, progress=told
    )
    rows, trial = rows.turned(axes), quantizer.fresh()
    trial.train(rows.z, iterations=FRESH_STEPS, seed=seed)
    trial.codebooks = numbered(trial.trained())
    plain = _judged(trial, trial.trained(), None, rows)
    there = (axes @ stretch @ axes.T).astype(np.float32)
    start = _better(plain, trial, there, rows, seed)
    return Turned(axes, rows, trial.trained(), start)


def _better(
    plain: Start, quantizer: ProductQuantizer, stretch: Floats, rows: Embedded, seed: int
) -> Start:
    """Of a plain and a stretched start the one by which plain codewords find more."""
    sites = _moved(quantizer, rows.z, stretch, seed)
    stretched = _judged(quantizer, sites, stretch, rows)
    return stretched if pays(stretched.by_chosen, plain.by_chosen) else plain


def stretch_of(known: Neighbours, power: float = _POWER) -> Floats | None:
    """Power (d, d) of W, whose eigenvalues are 1 on average; None where no vectors differ.

    W is that of the queries in `known` and their true neighbours.
    """
    moment = np.zeros((known.base.shape[1],) * 2)
    for nearest in known.true.T:
        gaps = (known.queries - known.base[nearest]).astype(np.float64)
        moment += gaps.T @ gaps
    variances, axes = np.linalg.eigh(moment)
    mean = variances.mean()
    if not mean > 0:
        return None
    roots = np.maximum(variances / mean, _FLOOR) ** power
    stretch: Floats = ((axes * roots) @ axes.T).astype(np.float32)
    return stretch


def _moved(quantizer: ProductQuantizer, z: Floats, stretch: Floats, seed: int) -> Floats:
    """Sites near the codewords of a quantizer, by k-means on sub-vectors that are stretched."""
    book, blocks = quantizer.fresh(), diagonal_blocks(stretch, quantizer.M)
    book.codebooks = quantizer.trained() @ blocks
    book.train(z @ block_diagonal(blocks), iterations=_STEPS, seed=seed)
    moved: Floats = (book.trained() @ np.linalg.inv(blocks.astype(np.float64))).astype(np.float32)
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
    return Decoder(arrays if stretch is None else {**arrays, "stretch": stretch}, candidates=_TRIED)


def _judged(
    quantizer: ProductQuantizer, sites: Floats, stretch: Floats | None, rows: Embedded
) -> Start:
    """Measure what plain codewords find."""
    trial, decoder = quantizer.fresh(), plain_decoder(sites, stretch)
    trial.codebooks, trial.decoder = sites, decoder.with_settings(candidates=1)
    by_nearest = by_chosen = rows.among.reranked(trial)
    if stretch is not None:  # plain errors are least with the nearest words
        trial.decoder = decoder
        by_chosen = rows.among.reranked(trial)
    return Start(sites, stretch, by_nearest, by_chosen)
