"""Ranking anew: by decoded vectors, block by block, of all results or of those that seem good."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from deepq import _decode, _scan
from deepq.decoders import Decoder
from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer, reranking
from deepq.quantizers.reranking import Decoded

from .builders import both_metrics, normal, scores

LARGEST = np.finfo(np.float32).max


def results(nq: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((nq, k), np.float32), np.empty((nq, k), np.int64)


@both_metrics
@pytest.mark.parametrize("rows", [1, 7, 1 << 15])
@pytest.mark.parametrize("k", [1, 4, 6])
def test_rerank_sorts_by_decoded_vectors(metric: int, rows: int, k: int, monkeypatch) -> None:
    monkeypatch.setattr(reranking, "_NUMBERS", rows)
    rng = np.random.default_rng(0)
    vectors, queries = rng.integers(-2, 3, (40, 4)).astype("f4"), normal(9, 4)
    queries[::2] = np.round(queries[::2])  # scores that tie
    found = np.stack([rng.permutation(40)[:6] for _ in queries])
    found[2, 3:] = found[5] = -1
    asked: list[np.ndarray] = []

    def decode(codes: np.ndarray) -> np.ndarray:
        asked.append(codes[:, 0])
        return vectors[codes[:, 0]]

    codes = np.arange(40, dtype=np.uint8)[:, None]
    quantizer = SimpleNamespace(decoder=None, narrow=lambda z: z, decode_narrow=decode)
    D, I = results(9, k)
    Decoded().rerank(queries, found, codes, quantizer, metric, D, I)
    for i, ids in enumerate(found):
        cost = scores(queries[i : i + 1], vectors, metric)[0]
        want = sorted(ids[ids >= 0], key=lambda j: (np.float32(cost[j]), j))
        want += [-1] * (6 - len(want))
        assert I[i].tolist() == want[:k]
        signed = -cost if metric == METRIC_INNER_PRODUCT else cost
        worst = -LARGEST if metric == METRIC_INNER_PRODUCT else LARGEST
        right = [worst if j < 0 else signed[j] for j in want[:k]]
        np.testing.assert_allclose(D[i], right, rtol=1e-5, atol=1e-5)
    assert all(len(np.unique(ids)) == len(ids) for ids in asked)
    assert len(asked) == (9 if rows < 6 * 2 else 1)


def scene(nbits: int = 4) -> tuple[ProductQuantizer, np.ndarray, np.ndarray]:
    """A quantizer with a decoder, codes, and queries."""
    rng, (M, d, h) = np.random.default_rng(1), (3, 12, 5)
    quantizer = ProductQuantizer(M, nbits)
    quantizer.codebooks = rng.standard_normal((M, 1 << nbits, d // M))
    shapes = {"tables": (M, 1 << nbits, d), "features": (M, 1 << nbits, h), "inner": (h, h)}
    shapes |= {"bias": (h,), "outer": (h, h), "output": (h, d), "centre": (d,)}
    arrays = {name: 0.4 * rng.standard_normal(shape) for name, shape in shapes.items()}
    quantizer.decoder = Decoder({"sites": quantizer.codebooks, **arrays}, shrink=0.8, weight=0.7)
    codes = quantizer.encode(rng.standard_normal((3000, d)).astype(np.float32))
    return quantizer, codes, normal(20, d, seed=2)


@both_metrics
@pytest.mark.parametrize("nbits", [4, 5, 8])
def test_a_decoder_with_spare_decodes_what_its_summands_put_first(metric, nbits) -> None:
    quantizer, codes, queries = scene(nbits)
    rng = np.random.default_rng(3)
    found = np.stack([rng.choice(len(codes), 100, replace=False) for _ in queries])
    found[4, 20:] = -1
    decoder = quantizer.decoder
    all_of = results(20, 5)
    Decoded(keeps=False).rerank(queries, found, codes, quantizer, metric, *all_of)
    decoded, hits = [], []
    for spare in (1, 30, 90):
        quantizer.decoder = decoder.with_settings(spare=spare)
        D, I = results(20, 5)
        ids = Decoded(keeps=False)._worth(queries, found, 5, codes, quantizer, metric)
        Decoded(keeps=False).rerank(queries, found, codes, quantizer, metric, D, I)
        decoded.append(ids.shape[1])
        assert all(set(row) <= set(some) for row, some in zip(I, ids, strict=True))
        exact = scores(queries, quantizer.decode(codes), metric)
        want = np.take_along_axis(exact, np.maximum(I, 0), axis=1)
        want = -want if metric == METRIC_INNER_PRODUCT else want
        np.testing.assert_allclose(D[I >= 0], want[I >= 0], rtol=1e-4, atol=1e-4)
        hits.append((I[:, :, None] == all_of[1][:, None]).any(axis=2).mean())
        assert (np.sort(I[4][I[4] >= 0]) <= np.sort(found[4])[-1]).all()
    assert decoded == [11, 40, 100]
    assert hits[0] > 0.5
    assert hits[1] > 0.95
    assert hits[2] == 1


def test_settings_and_codebooks_of_what_ranks_roughly_count_at_once() -> None:
    quantizer, codes, queries = scene()
    quantizer.decoder = quantizer.decoder.with_settings(spare=5)
    found = np.broadcast_to(np.arange(200), (20, 200)).copy()
    warm = Decoded(keeps=False)
    for change in ("nothing", "shrink", "codebooks"):
        if change == "shrink":
            quantizer.decoder.shrink = 0.3
        if change == "codebooks":
            quantizer.share(2 * quantizer.trained())
        (D1, I1), (D2, I2) = results(20, 5), results(20, 5)
        warm.rerank(queries, found, codes, quantizer, METRIC_L2, D1, I1)
        Decoded(keeps=False).rerank(queries, found, codes, quantizer, METRIC_L2, D2, I2)
        np.testing.assert_array_equal(I1, I2)
        np.testing.assert_array_equal(D1, D2)


@both_metrics
@pytest.mark.parametrize("level", _scan.simd_levels())
def test_sums_of_whole_numbers_rank_the_same_everywhere(metric, level) -> None:
    rng, before = np.random.default_rng(0), _scan.simd()
    summands = rng.integers(-127, 128, (258, 4, 32)).astype(np.int8)
    summands[:, 0] = 127
    words = rng.integers(0, 4, (5 * 40, 258)).astype(np.uint8)
    words[::7] = 0
    queries = np.rint(normal(5, 32) * 1000)
    ids = rng.permutation(5 * 40).reshape(5, 40)
    ids[3, 2:20] = -1
    sums = summands[np.arange(258), words].astype(np.float32).sum(axis=1).reshape(5, 40, 32)
    cost = np.stack([scores(q[None], x, metric)[0] for q, x in zip(queries, sums, strict=True)])
    cost[ids < 0] = np.inf
    want = [ids[q, np.sort(np.argsort(cost[q], kind="stable")[:25])] for q in range(5)]
    _scan.set_simd(level)
    inner_product = metric == METRIC_INNER_PRODUCT
    got = _decode.roughly_first(queries, ids, words, summands, 25, inner_product)
    _scan.set_simd(before)
    np.testing.assert_array_equal(got, want)


def test_rerank_of_nothing() -> None:
    quantizer, codes, queries = scene()
    D, I = results(20, 0)
    Decoded().rerank(queries, np.empty((20, 0), np.int64), codes, quantizer, METRIC_L2, D, I)


@pytest.mark.parametrize("metric", [METRIC_L2, METRIC_INNER_PRODUCT])
def test_scores_that_overflow_come_last(metric) -> None:
    vectors = np.array([[1, 1], [3e38, -3e38], [2, 2]], np.float32)
    queries = np.array([[3e38, 3e38]], np.float32)
    quantizer = SimpleNamespace(
        decoder=None, narrow=lambda z: z, decode_narrow=lambda codes: vectors[codes[:, 0]]
    )
    codes, found = np.arange(3, dtype=np.uint8)[:, None], np.array([[1, 2, 0, -1]])
    D, I = results(1, 4)
    Decoded().rerank(queries, found, codes, quantizer, metric, D, I)
    assert I[0, 3] == -1
    assert set(I[0, :3]) == {0, 1, 2}


def test_what_is_not_known_is_told() -> None:
    codes = np.arange(12, dtype=np.uint8).reshape(6, 2)
    kept, known = codes.copy(), np.ones(6, np.uint8)
    kept[2, 1] = 99
    known[4] = 0
    ids = np.array([[0, 4, -1], [2, 5, 4]])
    assert _decode.unknown(ids, codes, kept, known).tolist() == [4, 2, 4]


def test_numbers_that_reach_and_arrays_that_are_the_same() -> None:
    x = np.zeros((2, 3), np.float32)
    assert not _decode.reaches(x, 1.0)
    x[1, 2] = -1
    assert _decode.reaches(x, 1.0)
    a = normal(6, 2).reshape(2, 3, 2)
    assert _decode.same(a, a.copy())
    b = a.copy()
    b[1, 2, 1] += 1
    assert not _decode.same(a, b)
    assert not _decode.same(a, a[:1])
