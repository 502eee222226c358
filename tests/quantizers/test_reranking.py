"""Ranking anew: by decoded vectors, block by block."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, reranking

from .builders import both_metrics, normal, scores


@both_metrics
@pytest.mark.parametrize("rows", [1, 7, 1 << 15])
def test_rerank_sorts_by_decoded_vectors(metric: int, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(reranking, "_NUMBERS", rows)
    rng = np.random.default_rng(0)
    vectors, queries = rng.integers(-2, 3, (40, 4)).astype("f4"), normal(9, 4)
    queries[::2] = np.round(queries[::2])  # scores that tie
    found = np.stack([rng.permutation(40)[:6] for _ in queries])
    found[2, 3:] = found[5] = -1
    given = found.copy()
    asked: list[np.ndarray] = []

    def decode(ids: np.ndarray) -> np.ndarray:
        asked.append(ids)
        return vectors[ids]

    D = reranking.rerank(queries, found, decode, metric)
    assert (D.dtype, D.shape) == (np.float32, found.shape)
    for i, ids in enumerate(given):
        cost = scores(queries[i : i + 1], vectors, metric)[0]
        want = sorted(ids[ids >= 0], key=lambda j: (np.float32(cost[j]), j))
        want += [-1] * (6 - len(want))
        assert found[i].tolist() == want
        signed = -cost if metric == METRIC_INNER_PRODUCT else cost
        worst = -np.inf if metric == METRIC_INNER_PRODUCT else np.inf
        right = [worst if j < 0 else signed[j] for j in want]
        np.testing.assert_allclose(D[i], right, rtol=1e-5, atol=1e-5)
    assert all(len(np.unique(ids)) == len(ids) for ids in asked)
    assert len(asked) == (9 if rows < 6 * 2 else 1)


def test_rerank_of_nothing() -> None:
    D = reranking.rerank(
        normal(3, 4), np.empty((3, 0), np.int64), lambda i: np.empty((len(i), 4), "f4"), METRIC_L2
    )
    assert D.shape == (3, 0)
