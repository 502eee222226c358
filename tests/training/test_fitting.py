"""How decoders are set beside held-out rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deepq.decoders import AdditiveDecoder
from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer
from deepq.quantizers.judging import Judge
from deepq.training import fitting
from deepq.training.additive import learn_additive

from .clusters import NBITS, M, X, clustered

METRICS = pytest.mark.parametrize("metric", [METRIC_L2, METRIC_INNER_PRODUCT], ids=["l2", "ip"])


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def fitted(x: np.ndarray, judge: Any, metric: int) -> ProductQuantizer:
    made, centre = ProductQuantizer(M, NBITS), 0 * x[0]
    coder = learn_additive(x, centre, M, made.ksub, rounds=2)
    assert coder is not None
    fitting.fit_tables(made, coder, x, metric, judge)
    return made


@METRICS
def test_vectors_of_one_length_are_decoded_to_vectors_of_one_length(metric: int) -> None:
    judge = Judge(unit(clustered(4000, 22)), metric)
    made = fitted(unit(clustered(3000, 12)), judge, metric)
    coder = made.decoder
    assert isinstance(coder, AdditiveDecoder)
    assert coder.levelling > 0
    assert coder.length == pytest.approx(1)
    better = judge.reranked(made).mean()
    made.decoder = coder.with_settings(levelling=0)
    assert better > judge.reranked(made).mean()


@METRICS
@pytest.mark.parametrize(("gain", "levelling"), [(-0.1, 0), (0, 0), (0.1, 1)])
def test_lengths_are_those_by_which_most_is_found(metric, gain, levelling) -> None:
    def reranked(made: ProductQuantizer) -> np.ndarray:
        assert made.decoder is not None
        return np.array([0.5 + gain * made.decoder.levelling])

    made = fitted(X, SimpleNamespace(length=2.0, reranked=reranked), metric)
    assert made.decoder is not None
    assert made.decoder.levelling == levelling


def test_tables_and_decoded_vectors_are_drawn_each_as_it_is_best() -> None:
    """Vectors without levels find most at a shrink of .6, others at 1."""

    def reranked(made: ProductQuantizer) -> np.ndarray:
        coder = made.decoder
        assert coder is not None
        best = 1 if coder.levelling == 1 else 0.6
        return np.array([0.5 + coder.levelling / 10 - abs(coder.shrink - best)])

    made = fitted(X, SimpleNamespace(length=2.0, reranked=reranked), METRIC_L2)
    coder = made.decoder
    assert isinstance(coder, AdditiveDecoder)
    assert (coder.shrink, coder.levelling, coder.length) == (1, 1, 2)
    own = coder.arrays["tables"] / coder.arrays["shares"][:, None, None]
    np.testing.assert_allclose(made.trained()[:, :, :-1], 0.6 * own, rtol=1e-5)
