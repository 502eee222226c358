"""Decoders beside held-out rows: how they are set, and whether they pay."""

from __future__ import annotations

import logging
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from deepq._common.types import METRIC_INNER_PRODUCT, Floats, Progress
from deepq.decoders.additive import MOST_KSUB, MOST_WORDS, AdditiveDecoder
from deepq.quantizers.judging import Judge, pays
from deepq.quantizers.product import ProductQuantizer
from deepq.training import ranking
from deepq.training.additive import fit_lengths

if TYPE_CHECKING:
    from deepq.training.embedded import Embedded
    from deepq.training.settings import TrainConfig

_SPARES = (10, 20, 40)  # the first by which little is lost
_MOST_NUMBERS = 1 << 24  # of the matrix that makes vectors wide
_LITTLE = 0.001  # of 10-recall@10
_HOPE = 0.02  # of 10-recall@10 that additive codes may gain after their first round
_LEVELLINGS = (0.5, 0.75, 1.0)
_WEIGHTS = (1.0, 0.8, 0.6, 0.4)  # beside the codewords, the first that does no harm

_log = logging.getLogger("deepq.training")


def is_worth(
    trial: ProductQuantizer, before: ProductQuantizer, rows: Embedded, report: Progress
) -> bool:
    """Whether re-ranking by a decoder finds more than what there is before finds.

    Among rows that it has learned from a decoder looks too good; among the held-out ones alone
    neighbours are far apart, and other things count. So it must pay in both.
    """
    verdict, kind = True, "additive" if isinstance(trial.decoder, AdditiveDecoder) else "decoder"
    for judge in (rows.apart, rows.among):
        recall = judge.reranked(trial)
        plain = _recall(before, judge)
        entry = {"iteration": 0, "recall": float(recall.mean()), "plain": float(plain.mean())}
        report({"stage": f"{kind}, judged", **entry})
        verdict = verdict and pays(recall, plain)
    if not verdict:
        _log.info("no %s: it does not find more neighbours of held-out rows", kind)
    return verdict


def draw(quantizer: ProductQuantizer, metric: int, among: Judge, apart: Judge) -> None:
    """Set the lengths of a neural decoder's vectors, and how they are drawn to the codewords.

    Lengths as they rank best; to the codewords until re-ranking does no harm to codes of the
    nearest codewords, which C++ code adds.
    """
    _shrink(quantizer, metric, among)
    _level(quantizer, among)
    decoder = quantizer.decoder
    if decoder is None:
        return
    for weight in _WEIGHTS:
        quantizer.decoder = decoder.with_settings(weight=weight)
        if not any(judge.nearest_suffer(quantizer) for judge in (among, apart)):
            break
    else:
        _log.warning(
            "re-ranking finds less than the tables where C++ code adds the vectors: use add"
        )


def may_be_additive(quantizer: ProductQuantizer, d: int, config: TrainConfig) -> bool:
    """Whether codes of vectors (n, d) could be additive.

    Not where they must be those of the nearest codewords, nor where the tables of all pairs, or
    the matrix that makes vectors wide in faiss, would take too much memory.
    """
    few = quantizer.M <= MOST_WORDS and quantizer.ksub <= MOST_KSUB
    few = few and quantizer.M * (d + 1) * d <= _MOST_NUMBERS
    wanted = config.additive and config.ranking and config.preset != "fast"
    return few and wanted and not quantizer.is_frozen


def fit_tables(
    trial: ProductQuantizer, decoder: AdditiveDecoder, z: Floats, metric: int, among: Judge
) -> None:
    """Give a quantizer an additive decoder, and codebooks that make look-up tables for its codes.

    How it is set is for held-out rows to say; `z` (n, d) are some that were learned from.
    """
    lengths = None
    if metric != METRIC_INNER_PRODUCT:
        lengths = fit_lengths(decoder, decoder.choose(z, trial.num_threads))
    trial.codebooks, trial.decoder = decoder.codebooks(lengths), decoder
    _shrink(trial, metric, among)
    trial.share(decoder.codebooks(lengths, trial.decoder.shrink))
    _level(trial, among)


def is_hopeful(
    early: AdditiveDecoder, before: ProductQuantizer, metric: int, rows: Embedded
) -> bool:
    """Whether a decoder that is not learned to its end finds nearly what there is before finds."""
    trial, judge = before.fresh(), rows.among_few
    fit_tables(trial, early, rows.few, metric, judge)
    gap = _recall(before, judge).mean() - judge.reranked(trial).mean()
    if gap > _HOPE:
        _log.info("no additive codes: they find %.1f %% fewer neighbours", 100 * gap)
    return bool(gap <= _HOPE)


def spare(quantizer: ProductQuantizer, judge: Judge) -> None:
    """Set how few vectors are decoded in a search, where that finds hardly less."""
    decoder = quantizer.decoder
    if decoder is None:
        return
    least = judge.reranked(quantizer).mean() - _LITTLE
    for count in _SPARES:
        quantizer.decoder = decoder.with_settings(spare=count)
        if judge.reranked(quantizer).mean() >= least:
            return
    quantizer.decoder = decoder


def _recall(quantizer: ProductQuantizer, judge: Judge) -> Floats:
    """Measure what a quantizer finds, re-ranked if it has a decoder."""
    return judge.by_tables(quantizer) if quantizer.decoder is None else judge.reranked(quantizer)


def _shrink(quantizer: ProductQuantizer, metric: int, judge: Judge) -> None:
    """Draw decoded vectors to the centre by the factor that ranks held-out rows best.

    For inner products a common factor does not change the order.
    """
    decoder = quantizer.decoder
    if decoder is None or metric == METRIC_INNER_PRODUCT:
        return

    def recall(factor: float) -> float:
        quantizer.decoder = decoder.with_settings(shrink=factor)
        return float(judge.reranked(quantizer).mean())

    quantizer.decoder = decoder.with_settings(shrink=ranking.best_shrink(recall))


def _level(quantizer: ProductQuantizer, judge: Judge) -> None:
    """Make decoded vectors more alike in length, if that ranks held-out rows better."""
    decoder = quantizer.decoder
    if decoder is None:
        return
    length, shrinks = judge.length, sorted({1.0, decoder.shrink})
    levels: list[dict[str, float]] = [
        {"shrink": factor, "levelling": levelling, "length": length}
        for levelling, factor in product(_LEVELLINGS, shrinks)
    ]
    trials, recalls = [{}, *levels], []
    for settings in trials:
        quantizer.decoder = decoder.with_settings(**settings)
        recalls.append(judge.reranked(quantizer).mean())
    quantizer.decoder = decoder.with_settings(**trials[int(np.argmax(recalls))])
