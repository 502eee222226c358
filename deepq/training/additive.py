"""Learning additive codebooks: sums of codewords of the vectors' whole length.

Codebooks begin as those of residual quantization, each learned by k-means from what the ones before
leave (Chen, Guan & Wang, "Approximate nearest neighbor search by residual vector quantization",
Sensors 2010). Then codes and codewords are improved by turns: a beam search chooses words for all
codebooks, and least squares give the codewords of all of them for these words, one codebook after
the other (Babenko & Lempitsky, CVPR 2014; Gauss-Seidel).

A codeword has few rows to learn from, and counts some zeros besides (ridge regression). Without,
the error of rows that were not learned from is much larger.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deepq import _scan
from deepq._common.types import Floats, Progress, Words
from deepq.decoders.additive import AdditiveDecoder
from deepq.quantizers.product import ProductQuantizer

ROUNDS = 8
_STEPS = 12  # of k-means, for every codebook
_ZEROS, _MOST_ZEROS = 1 / 12, 10.0  # that a codeword counts besides its rows, as a part of these
_BEAM, _LONG, _BEAM_OF_LONG = 8, 16, 4  # beginnings of codes that are kept; of more than 16 words
_SWEEPS = 2  # of least squares over the codebooks
_SWEEPS_OF_LENGTHS, _RIDGE_OF_LENGTHS = 10, 20


def learn_additive(
    z: Floats,
    centre: Floats,
    M: int,
    ksub: int,
    *,
    rounds: int = ROUNDS,
    seed: int = 1234,
    num_threads: int = 1,
    progress: Progress | None = None,
    goes_on: Callable[[AdditiveDecoder], bool] | None = None,
) -> AdditiveDecoder | None:
    """Learn tables of M codewords for vectors less a centre.

    Parameters
    ----------
    z : (n, d) float32
        Training vectors, n at least ksub.
    centre : (d,) float32
        What all are sums from.
    M, ksub : int
        Codebooks, and codewords in each.
    rounds : int
        How often words and codewords are improved.
    seed : int
        Seed of the first codewords.
    num_threads : int
        Threads that choose words; no number depends on it.
    progress : callable, optional
        Called after each round with {"stage": "additive", "iteration", "error"}, the mean squared
        error of the words with the codewords before.
    goes_on : callable, optional
        Asked after the first round, with a decoder, whether to go on.

    Returns
    -------
    AdditiveDecoder, or None if it has not gone on
    """
    x = z - centre
    tables = _residual(x, M, ksub, seed)
    for i in range(rounds):
        words = _quick(tables, centre).choose(z, num_threads)
        rest = x - _scan.add_up(tables, words)
        if progress is not None:
            error = float(np.square(rest).sum(axis=1, dtype=np.float64).mean())
            progress({"stage": "additive", "iteration": i, "error": error})
        tables = _fitted(rest, words, tables)
        if i == 0 and goes_on is not None and not goes_on(_quick(tables, centre)):
            return None
    return decoder_of(tables, centre)


def fit_lengths(decoder: AdditiveDecoder, words: Words) -> Floats:
    """Numbers (M, ksub) whose sums are nearest to squared lengths of sums of codewords (n, M).

    Ridge regression, one codebook after the other.
    """
    tables = decoder.arrays["tables"]
    M, ksub, _ = tables.shape
    given = np.square(_scan.add_up(tables, words)).sum(axis=1, dtype=np.float64)
    numbers, rest = np.zeros((M, ksub)), given - given.mean()
    counts = [np.bincount(own, minlength=ksub) for own in words.T]
    for _ in range(_SWEEPS_OF_LENGTHS):
        for m, own in enumerate(words.T):
            rest += numbers[m, own]
            sums = np.bincount(own, rest, minlength=ksub)
            numbers[m] = sums / (counts[m] + _RIDGE_OF_LENGTHS)
            rest -= numbers[m, own]
    numbers[0] += given.mean()
    return numbers.astype(np.float32)


def decoder_of(tables: Floats, centre: Floats) -> AdditiveDecoder:
    """Make the decoder of tables; shares in which wide queries have them follow their lengths."""
    sizes = np.sqrt(np.square(tables).mean(axis=(1, 2), dtype=np.float64))
    sizes = np.maximum(sizes, max(1e-3 * sizes.max(), np.finfo(np.float32).tiny))
    arrays = {"tables": tables, "centre": centre, "shares": np.sqrt(sizes / sizes.sum())}
    return AdditiveDecoder(arrays, beam=_BEAM if len(tables) <= _LONG else _BEAM_OF_LONG)


def _quick(tables: Floats, centre: Floats) -> AdditiveDecoder:
    """Make a decoder that keeps half as many beginnings, for learning."""
    decoder = decoder_of(tables, centre)
    return decoder.with_settings(beam=decoder.beam // 2)


def _residual(x: Floats, M: int, ksub: int, seed: int) -> Floats:
    """Learn tables (M, ksub, d) one after the other, each from what the ones before leave."""
    rest, tables = x.copy(), []
    for m in range(M):
        book = ProductQuantizer(1, ksub.bit_length() - 1)
        book.train(rest, iterations=_STEPS, seed=seed + m)
        words = book.assign(rest)[:, 0]
        tables.append(_means(rest, words, ksub))
        rest -= tables[-1][words]
    return np.stack(tables)


def _fitted(rest: Floats, words: Words, tables: Floats) -> Floats:
    """Fit tables to words (n, M), whose sums leave a `rest` (n, d) with those before, in place."""
    tables = tables.copy()
    for _ in range(_SWEEPS):
        for m, own in enumerate(words.T):
            own = np.ascontiguousarray(own)
            rest += tables[m][own]
            tables[m] = _means(rest, own, tables.shape[1])
            rest -= tables[m][own]
    return tables


def _means(x: Floats, words: Words, ksub: int) -> Floats:
    """Means (ksub, d) of the rows with each word, and of some more rows of zeros."""
    sums, counts = _scan.sum_cells(x, words, ksub)
    zeros = min(_MOST_ZEROS, _ZEROS * len(x) / ksub)
    means: Floats = (sums / (counts + zeros)[:, None]).astype(np.float32)
    return means
