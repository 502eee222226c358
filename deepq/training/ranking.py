"""Codewords that rank: moved so that look-up tables put the true neighbours first.

The mean of a cell is the codeword with the least squared error, but not the one that ranks best.
The expected squared distance of a query q to the vectors x of a code with the mean c is

    E |q - x|^2 = |q - c|^2 + E |x - c|^2,

and look-up tables leave the second term out. It is small where |c| is large: for a vector of given
length, what the code explains is missing from the error. So codes near the centre of the data are
preferred unduly. Codewords drawn towards the centre undo that: up to what does not matter for the
order, |q - b c|^2 weighs |c|^2 with b instead of 1. The best b is found on held-out rows; it is 0.9
for SIFT and 0.5 for embeddings of texts, in 8 bytes.

From there every codeword is moved by itself. A row of the training set is a query, whose true
neighbours must win against the codes that the tables put first: a listwise cross-entropy (Cao et
al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007), minimised with
Adam. A vector is stored as its nearest codewords, by C++ code too, so its words follow the moving
codewords. Where a decoder chooses the words, they stay, and far more can be gained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.neighbours import unit_of_tiny
from deepq._common.types import METRIC_INNER_PRODUCT, Floats, Ids, Progress
from deepq.quantizers.judging import TOP, Judge, Neighbours, pays
from deepq.quantizers.packing import pack
from deepq.quantizers.product import ProductQuantizer
from deepq.training.schedule import one_cycle

EPOCHS = 4
SHRINKS = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)

_WORSE = 2  # factors in a row that are worse than the best, after which no smaller one is tried
_RIVALS = 100  # best codes of a query, against which its neighbours must win
_LOOKED_AT = 2048  # rows among which a step looks for them by L2; each stands for others as well
_FEWEST_RIVALS = 10
_BATCH = 256
_RATE = 0.009  # longest step of a codeword's number, in root mean squares of the vectors' numbers
_TEMPERATURE = 0.2  # of scores, in mean squared quantization errors
_DECAYS = (0.9, 0.99)  # of Adam
_NEGLIGIBLE = 1e-6  # as a part of the largest root mean square of a gradient's numbers
_ROUNDING = 1e-6  # of products of vectors, as a part of their variance
_MEASURED = 2048  # rows that tell how large errors and variances are
_MOST_LOST = 0.01  # by it, in temperatures


def shrink(codebooks: Floats, mean: Floats, factor: float) -> Floats:
    """Codewords (M, ksub, dsub) drawn by a factor towards the mean (d_out,) of the data."""
    centre = mean.reshape(len(codebooks), 1, -1)
    drawn: Floats = centre + np.float32(factor) * (codebooks - centre)
    return drawn


def best_shrink(recall: Callable[[float], float]) -> float:
    """Return the factor of `SHRINKS` with the highest recall, of equals the first."""
    recalls: list[float] = []
    for factor in SHRINKS:
        recalls.append(recall(factor))
        if max(recalls[-_WORSE:]) < max(recalls):
            break
    return SHRINKS[int(np.argmax(recalls))]


def looks_at_all(metric: int, cells: Any) -> bool:
    """Whether every step looks for rivals among all rows.

    By inner product the same few long vectors are the rivals of all queries, and a part of the rows
    has hardly any of them.
    """
    return metric == METRIC_INNER_PRODUCT and cells is None


def learn_order(
    quantizer: ProductQuantizer,
    known: Neighbours,
    judge: Judge,
    *,
    epochs: int = EPOCHS,
    seed: int = 1234,
    progress: Progress | None = None,
) -> bool:
    """Move the codewords of a quantizer as long as they rank held-out rows better.

    Parameters
    ----------
    quantizer : ProductQuantizer
        Its codewords are moved in place; a decoder stays.
    known : Neighbours
        Among training rows.
    judge : Judge
        Held-out rows.
    epochs, seed
        Times around the queries, and the seed of their order.
    progress : callable, optional
        Called after each epoch with {"stage": "order", "iteration", "loss", "recall"}.

    Returns
    -------
    bool
        Whether the codewords have been moved.
    """
    best = start = quantizer.trained()
    plain = judge.by_tables(quantizer)
    try:
        _shrink(quantizer, known, judge)
        kind = Ranker if known.cells is None else CellRanker
        ranker, rng = kind(quantizer, known, epochs), np.random.default_rng(seed)
        most = plain.mean()
        for epoch in range(epochs):
            loss = ranker.epoch(rng)
            recall = judge.by_tables(quantizer)
            if progress is not None:
                entry = {"iteration": epoch, "loss": loss, "recall": float(recall.mean())}
                progress({"stage": "order", **entry})
            if pays(recall, plain) and recall.mean() > most:
                best, most = quantizer.trained(), recall.mean()
    finally:  # also where Ctrl-C ends it
        quantizer.share(best)
    return best is not start


def _shrink(quantizer: ProductQuantizer, known: Neighbours, judge: Judge) -> None:
    """Draw the codewords towards the centre as far as the tables rank better."""
    if known.metric == METRIC_INNER_PRODUCT:
        return  # a common factor does not change the order
    start, mean = quantizer.trained(), known.coded.mean(axis=0)

    def recall(factor: float) -> float:
        quantizer.share(shrink(start, mean, factor))
        return float(judge.by_tables(quantizer).mean())

    quantizer.share(shrink(start, mean, best_shrink(recall)))


class Ranker:
    """Moves the codewords of a quantizer so that they rank the known neighbours better.

    Parameters
    ----------
    quantizer : ProductQuantizer
        Its codebooks are replaced by moved ones.
    known : Neighbours
        Among training rows.
    epochs : int
        How often `epoch` will be called: the step's length follows it.
    """

    def __init__(self, quantizer: ProductQuantizer, known: Neighbours, epochs: int) -> None:
        # Where all vectors are tiny, float32 has no squares of them: then other units are used.
        self.unit = unit_of_tiny(known.base)
        self.given, self.rows = quantizer, known.coded
        self.looked_at = len(self.rows) if looks_at_all(known.metric, known.cells) else _LOOKED_AT
        self.quantizer = copy.copy(quantizer)
        self.quantizer.share(quantizer.trained() * self.unit)
        queries = known.queries if self.unit == 1 else known.queries * self.unit
        self.known = known = replace(known, queries=queries)
        self._store()
        rows = np.arange(0, len(self.rows), max(1, len(self.rows) // _MEASURED))
        base = self.rows[rows] * self.unit
        error = np.square(base - self.quantizer.gather(self.words[rows])).sum(axis=1)
        least = float(np.finfo(np.float32).tiny)
        self.temperature = max(_TEMPERATURE * float(error.mean(dtype=np.float64)), least)
        variances = base.var(axis=0, dtype=np.float64)
        self.rate = _RATE * float(np.sqrt(variances.mean()))
        self.cancels = _ROUNDING * variances.sum() > _MOST_LOST * self.temperature
        self.steps = epochs * -(-len(known.queries) // _BATCH)
        self.done = 0
        self.mean: NDArray[Any] = np.zeros_like(quantizer.trained())
        self.square = self.mean

    def _store(self) -> None:
        """Code the base."""
        self.words = self.given.choose(self.rows, self.known.cells)
        self._look_at(np.arange(len(self.rows)))

    def _look_at(self, rows: Ids) -> None:
        """Find rivals among these rows of the base from now on."""
        self.seen, self.codes = rows, pack(self.words[rows], self.quantizer.nbits)

    def epoch(self, rng: np.random.Generator) -> float:
        """Go through all queries once, in random order; return the mean loss.

        Every step looks for rivals among other rows.
        """
        if self.done and self.quantizer.decoder is None:
            self._store()
        order, rows = rng.permutation(len(self.known.queries)), rng.permutation(len(self.rows))
        losses = []
        for first in range(0, len(order), _BATCH):
            self._look_at(rows[: self.looked_at])
            rows = np.roll(rows, -self.looked_at)
            loss, gradient = self._loss(order[first : first + _BATCH])
            self._step(gradient)
            losses.append(loss)
        return float(np.mean(losses))

    def _step(self, gradient: Floats) -> None:
        """Move the codewords by a step of Adam (Kingma & Ba, ICLR 2015)."""
        first, second = _DECAYS
        self.done += 1
        self.mean = first * self.mean + (1 - first) * gradient
        self.square = second * self.square + (1 - second) * np.square(gradient)
        mean = self.mean / (1 - first**self.done)
        size = np.sqrt(self.square / (1 - second**self.done))
        # Gradients so small that float32 has no squares of them must not be divided by nothing.
        size += _NEGLIGIBLE * size.max() + np.finfo(np.float32).tiny
        move = self.rate * one_cycle(self.done / self.steps) * mean / size
        self.quantizer.share((self.quantizer.trained() - move).astype(np.float32))
        self.given.share(self.quantizer.trained() / self.unit)

    def _loss(self, batch: Ids) -> tuple[float, Floats]:
        """Return the mean loss of a batch of queries, and its gradient by the codewords.

        With e the cost of a code (squared distance, or negative inner product) and t the
        temperature, a true neighbour i with the rivals j has the loss

            log(1 + sum_j exp((e_i - e_j) / t)).
        """
        true, share = self.known.true[batch], len(self.seen) / len(self.rows)
        compared = self._compare(batch)
        found, own = self._rivals(compared, share), self.known.own[batch, None]
        no_rival = (found == own) | (found[:, :, None] == true[:, None]).any(2)
        rows = np.concatenate([true, found], axis=1)
        costs = self._costs(compared, batch, rows) / self.temperature
        costs[:, TOP:] += np.log(share)
        costs[:, TOP:][no_rival] = np.inf
        pressure = np.logaddexp.reduce(-costs[:, TOP:], axis=1, keepdims=True, initial=-np.inf)
        losses = np.logaddexp(0, costs[:, :TOP] + pressure)
        lack = -np.expm1(-losses)  # the derivative of a loss by its own cost
        with np.errstate(invalid="ignore"):
            blame = np.nan_to_num(np.exp(-costs[:, TOP:] - pressure)) * lack.sum(1, keepdims=True)
        slopes = np.concatenate([lack, -blame], axis=1) / (lack.size * self.temperature)
        return float(losses.mean()), self._gradient(batch, rows, slopes)

    def _compare(self, batch: Ids) -> Floats:
        """Return what costs of a batch of queries are read from: tables (nq, M, ksub)."""
        return self._tables(self.known.queries[batch])

    def _costs(self, tables: Floats, batch: Ids, rows: Ids) -> NDArray[Any]:  # noqa: ARG002
        """Costs (nq, c) of rows of the base."""
        words = self.words[rows]
        costs: NDArray[Any] = np.zeros(rows.shape)
        for m in range(tables.shape[1]):
            costs += np.take_along_axis(tables[:, m], words[:, :, m].astype(np.int64), axis=1)
        return costs

    def _rivals(self, tables: Floats, share: float) -> Ids:
        """Rows (nq, c) that tables (nq, M, ksub) put first among the share that is looked at."""
        k = self._count(share)
        I = np.empty((len(tables), k), np.int64)
        D, (M, nbits) = np.empty(I.shape, np.float32), (self.quantizer.M, self.quantizer.nbits)
        threads = self.quantizer.num_threads
        _scan.search(self.codes, M, nbits, D, I, luts=tables, num_threads=threads)
        found: Ids = self.seen[I]
        return found

    def _count(self, share: float) -> int:
        """Return how many rivals are looked for among a share of the rows."""
        return min(max(_FEWEST_RIVALS, round(_RIVALS * share)), len(self.seen))

    def _tables(self, queries: Floats) -> Floats:
        """Costs (nq, M, ksub) of words, less what all words have in common for a query.

        That has no part in a loss, and without it products of matrices are enough: unless vectors
        are so far apart that these lose what distances differ by.
        """
        quantizer, metric = self.quantizer, self.known.metric
        if self.cancels and metric != METRIC_INNER_PRODUCT:
            return quantizer.lookup_tables(queries, metric)
        if metric == METRIC_INNER_PRODUCT:
            return -quantizer.lookup_tables(queries, metric)
        books = quantizer.trained()
        centre = books.mean(axis=1, keepdims=True)  # from there little is lost by cancellation
        books = books - centre
        parts = queries.reshape(len(queries), len(books), -1).transpose(1, 0, 2)
        tables = np.empty((len(queries), *books.shape[:2]), np.float32)
        np.matmul(parts - centre, (-2 * books).transpose(0, 2, 1), out=tables.transpose(1, 0, 2))
        tables += np.square(books).sum(axis=2)
        return tables

    def _gradient(self, batch: Ids, rows: Ids, slopes: NDArray[Any]) -> Floats:
        """Turn derivatives by the costs of rows (nq, c) into those by codewords."""
        queries, words = self.known.queries[batch], self.words[rows].transpose(0, 2, 1)
        books = self.quantizer.trained()
        M, ksub, dsub = books.shape
        cells = words + np.arange(len(queries) * M).reshape(-1, M, 1) * ksub
        weights = np.broadcast_to(slopes[:, None], cells.shape)
        sums = np.bincount(cells.ravel(), weights.ravel(), len(queries) * M * ksub)
        by_table = sums.astype(np.float32).reshape(-1, M, ksub).transpose(1, 2, 0)
        pulls = by_table @ queries.reshape(-1, M, dsub).transpose(1, 0, 2)
        if self.known.metric == METRIC_INNER_PRODUCT:
            return -pulls
        gradient: Floats = 2 * (by_table.sum(axis=2, keepdims=True) * books - pulls)
        return gradient


class CellRanker(Ranker):
    """A `Ranker` of codes in cells: queries meet those in the cells that they look into."""

    def _compare(self, batch: Ids) -> Floats:
        """Return costs (nq, n) of the rows that are looked at, inf where a query does not meet one.

        They lack what they have in common.
        """
        known, whole = self.known, self._whole(self.seen)
        queries = known.queries[batch]
        if known.metric == METRIC_INNER_PRODUCT:
            costs = -(queries @ whole.T)
        else:
            middle = whole.mean(axis=0)  # from there little is lost by cancellation
            whole -= middle
            costs = np.square(whole).sum(axis=1) - 2 * ((queries - middle) @ whole.T)
        costs[~known.meets(batch, self.seen)] = np.inf
        found: Floats = costs
        return found

    def _whole(self, rows: Ids) -> Floats:
        """Return what the codes of rows stand for, with the centres of their cells."""
        whole, cells = self.quantizer.gather(self.words[rows.ravel()]), self.known.cells
        assert cells is not None
        whole += self.unit * cells.centres[cells.cells[rows.ravel()]]
        return whole.reshape(*rows.shape, -1)

    def _rivals(self, compared: Floats, share: float) -> Ids:
        k = self._count(share)
        found: Ids = self.seen[np.argpartition(compared, k - 1, axis=1)[:, :k]]
        return found

    def _costs(self, compared: Floats, batch: Ids, rows: Ids) -> NDArray[Any]:  # noqa: ARG002
        """Costs (nq, c) of rows; neighbours that a query does not meet have nothing to lose."""
        queries, whole = self.known.queries[batch][:, None], self._whole(rows)
        if self.known.metric == METRIC_INNER_PRODUCT:
            near = -(whole @ queries.transpose(0, 2, 1))[:, :, 0]
        else:
            near = np.square(whole - queries).sum(axis=2)
        costs: NDArray[Any] = near.astype(np.float64)
        missed = ~self.known.meets(batch, rows)
        costs[missed] = np.inf
        costs[:, :TOP][missed[:, :TOP]] = -np.inf
        return costs

    def _gradient(self, batch: Ids, rows: Ids, slopes: NDArray[Any]) -> Floats:
        quantizer, pulls = self.quantizer, self.known.queries[batch][:, None]
        if self.known.metric == METRIC_INNER_PRODUCT:
            pulls = -slopes[:, :, None] * pulls
        else:
            pulls = 2 * slopes[:, :, None] * (self._whole(rows) - pulls)
        pulls = pulls.reshape(rows.size, -1).astype(np.float32)
        sums = _scan.accumulate(pulls, self.words[rows.ravel()], quantizer.ksub)[0]
        return np.asarray(sums, np.float32)
