"""Embedded rows: what is known of their neighbours, and who judges."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer
from deepq.quantizers.judging import Judge
from deepq.quantizers.judging_cells import CellJudge
from deepq.training import embedded
from deepq.training.embedded import Embedded, Places

from .clusters import XB, D, M, X

HELD = XB[:1000]


def rows(metric: int = METRIC_L2, places: Places | None = None) -> Embedded:
    return Embedded(X, HELD, metric, 3, places)


@pytest.fixture
def places() -> Places:
    """Rows by turns in one of five cells, of which those with the nearest numbers are near."""
    centres = X[:5]

    def nearest(z: np.ndarray, count: int) -> np.ndarray:
        return np.argsort(np.square(z[:, None] - centres).sum(axis=2), axis=1)[:, :count]

    return Places(centres, np.arange(len(X)) % 5, np.arange(len(HELD)) % 5, nearest)


def test_neighbours_and_judges_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = rows()
    first = given.known(), given.among, given.among_few, given.apart
    monkeypatch.setattr(embedded, "Judge", None)
    monkeypatch.setattr(embedded, "Neighbours", None)
    again = given.known(), given.among, given.among_few, given.apart
    assert all(a is b for a, b in zip(first, again, strict=True))


def test_rows_that_are_turned_keep_their_neighbours() -> None:
    axes = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0].astype(np.float32)
    first, later = (Embedded(np.rint(X), HELD, METRIC_L2, 3) for _ in range(2))
    true = first.known().true
    for given in (first, later):
        np.testing.assert_array_equal(given.turned(axes).known().true, true)


@pytest.mark.parametrize(
    ("metric", "most", "count"),
    [
        (METRIC_L2, None, 700),
        (METRIC_L2, 900, 700),
        (METRIC_L2, 500, 500),
        (METRIC_INNER_PRODUCT, None, len(X)),
        (METRIC_INNER_PRODUCT, 900, 900),
    ],
)
def test_order_is_learned_from_some_rows(metric, most, count, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "_MOST_RANKED", 700)
    known = rows(metric).known(most)
    assert known.base.shape == (count, D)
    assert len(np.unique(known.base, axis=0)) == len(np.unique(X[:count], axis=0)) == count
    assert known.cells is None


def test_those_held_out_judge_alone_and_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MOST_CHOSEN", 1000)
    given, quantizer = rows(), ProductQuantizer(M, 8)
    quantizer.train(X, iterations=4)
    for judge, others in (
        (given.apart, X[:0]),
        (given.among, X[:1000]),
        (given.among_few, X[:500]),
    ):
        wanted = Judge(HELD, METRIC_L2, others).by_tables(quantizer)
        np.testing.assert_array_equal(judge.by_tables(quantizer), wanted)


def test_in_cells_neighbours_are_those_of_whole_vectors(places: Places) -> None:
    given = rows(places=places)
    known = given.known()
    assert known.cells is not None
    assert known.probed is not None
    own = known.cells.cells
    np.testing.assert_allclose(known.base - places.centres[own], known.coded, atol=1e-5)
    assert {tuple(row) for row in np.round(known.coded, 3)} <= {tuple(r) for r in np.round(X, 3)}
    assert known.probed.shape == (len(known.queries), 5)
    assert isinstance(given.among, CellJudge)
    assert isinstance(given.apart, CellJudge)
