"""What codes look like: entropy, codewords in use, shares of the variance."""

from __future__ import annotations

import copy
import math
from collections import Counter

import faiss
import numpy as np
import pytest

from deepq import DeepQuantIndex, DeepQuantIVFIndex
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq.decoders import Decoder
from deepq.evaluation.diagnosis import diagnose

from .builders import correlated, normal, small_index


def diagnosis_by_loops(index: DeepQuantIndex, x: np.ndarray) -> dict[str, list[float]]:
    quantizer = index.quantizer
    z = index.encoder.encode(x).astype(np.float64)
    z_hat = quantizer.decode(index.sa_encode(x)).astype(np.float64)
    words = [
        [tuple(row) for row in np.split(rows, quantizer.M)]
        for rows in quantizer.decode(index.sa_encode(x))  # a codeword stands for its word
    ]
    expected: dict[str, list[float]] = {
        "usage": [],
        "perplexity": [],
        "distortion": [],
        "variance": [],
    }
    for m in range(quantizer.M):
        counts = Counter(row[m] for row in words)
        entropy = -sum(c / len(x) * math.log2(c / len(x)) for c in counts.values())
        columns = slice(m * quantizer.dsub, (m + 1) * quantizer.dsub)
        mean = z[:, columns].mean(axis=0)
        expected["usage"].append(len(counts) / quantizer.ksub)
        expected["perplexity"].append(2**entropy)
        expected["distortion"].append(np.mean(((z - z_hat)[:, columns] ** 2).sum(axis=1)))
        expected["variance"].append(np.mean(((z[:, columns] - mean) ** 2).sum(axis=1)))
    return expected


@pytest.mark.parametrize(("M", "nbits"), [(1, 3), (4, 4), (3, 6), (6, 8)])
@pytest.mark.parametrize("block", [7, 1 << 14])
def test_diagnosis_by_loops(M, nbits, block, monkeypatch):
    monkeypatch.setattr("deepq.evaluation.diagnosis._BLOCK", block)
    index, x = small_index(M, nbits), correlated(300, 12, 1)
    expected = diagnosis_by_loops(index, x)
    of_x, of_codes = diagnose(index, x), diagnose(index)
    assert (of_x.n, of_x.ksub) == (of_codes.n, of_codes.ksub) == (300, 2**nbits)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(of_x, name), values, rtol=1e-4)
    for name in ("usage", "perplexity"):
        np.testing.assert_array_equal(getattr(of_codes, name), getattr(of_x, name))
    assert of_codes.distortion is of_codes.variance is of_codes.error is None
    assert of_x.dead == round(sum((1 - u) * 2**nbits for u in expected["usage"]))
    assert of_x.bits == pytest.approx(sum(map(math.log2, expected["perplexity"])))
    assert of_x.error == pytest.approx(
        sum(expected["distortion"]) / sum(expected["variance"]), rel=1e-4
    )
    assert index.ntotal == 300


def test_extremes_of_usage():
    index = small_index(n=0)
    index.add_sa_codes(np.repeat(np.arange(16, dtype=np.uint8)[:, None] * 17, 2, axis=1))
    even = diagnose(index)
    np.testing.assert_allclose(even.usage, 1)
    np.testing.assert_allclose(even.perplexity, 16)
    assert (even.dead, even.bits) == (0, pytest.approx(16))
    one = diagnose(index, correlated(1, 12))
    np.testing.assert_allclose(one.usage, 1 / 16)
    np.testing.assert_allclose(one.perplexity, 1)
    np.testing.assert_allclose(one.variance, 0, atol=1e-9)
    assert (one.dead, one.bits, one.error) == (60, 0, 0)


def test_variance_far_from_the_origin():
    index = small_index()
    x = correlated(300, 12, 1)
    near, far = diagnose(index, x), diagnose(index, x + np.float32(1000))
    np.testing.assert_allclose(far.variance, near.variance, rtol=1e-2)


def test_diagnosis_of_an_index_of_faiss():
    x = correlated(500, 12)
    index = faiss.index_factory(12, "RR12,PQ3x4np")
    index.train(x)
    index.add(x)
    found = diagnose(index, x)
    x_hat = index.reconstruct_n(0, 500)
    assert found.distortion.sum() == pytest.approx(((x - x_hat) ** 2).sum() / 500, rel=1e-3)
    np.testing.assert_array_equal(diagnose(index).perplexity, found.perplexity)


def test_the_table_of_a_diagnosis():
    index = small_index()
    found = diagnose(index, correlated(300, 12, 1))
    lines = str(found).splitlines()
    assert len(lines) == 6
    assert f"{found.bits:.1f} of 16 bits" in lines[0]
    assert f"relative error {found.error:.3f}" in lines[0]
    for m, line in enumerate(lines[2:]):
        part = found.distortion[m] / found.variance[m]
        numbers = [m, found.usage[m], found.perplexity[m], found.distortion[m], part]
        assert list(map(float, line.split())) == pytest.approx(numbers, rel=0.01, abs=1e-3)
    lines = str(diagnose(index)).splitlines()
    assert [len(line.split()) for line in lines[2:]] == [3] * 4
    assert "error" not in lines[0]


def test_nothing_to_diagnose():
    with pytest.raises(StateError, match="trained"):
        diagnose(DeepQuantIndex(12, 4, 4))
    with pytest.raises(KindError, match="IndexFlat"):
        diagnose(faiss.IndexFlatL2(12))
    index = small_index(n=0)
    for x in (None, normal(0, 12)):
        with pytest.raises(InputError, match="got none"):
            diagnose(index, x)
    with pytest.raises(DimensionError):
        diagnose(index, normal(5, 11))
    with pytest.raises(InputError, match="NaN"):
        diagnose(index, np.full((1, 12), np.nan))


# ---- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("coarse", ["kmeans", "imi"])
@pytest.mark.parametrize("by_residual", [True, False])
def test_diagnosis_of_cells_by_loops(coarse, by_residual) -> None:
    index = DeepQuantIVFIndex(12, 16, 3, 4, coarse=coarse, by_residual=by_residual)
    index.train(correlated(700, 12))
    x = correlated(300, 12, 1)
    index.add(x)
    of_x, of_codes = diagnose(index, x), diagnose(index)
    _, cells = index.quantizer.search(index.encoder.encode(x), 1)
    counts = np.bincount(cells[:, 0], minlength=16)
    for found in (of_x, of_codes):
        np.testing.assert_array_equal(found.cells, counts)
        assert found.empty_cells == (counts == 0).sum()
        assert found.imbalance == pytest.approx(16 * sum((c / 300) ** 2 for c in counts))
        assert "16 cells of up to" in str(found)
    np.testing.assert_array_equal(of_x.usage, of_codes.usage)
    np.testing.assert_array_equal(of_x.perplexity, of_codes.perplexity)
    lost = np.square(x - index.sa_decode(index.sa_encode(x))).sum(axis=1).mean()
    assert of_x.distortion is not None
    assert of_x.distortion.sum() == pytest.approx(lost, rel=1e-3)
    assert of_x.variance is not None
    assert of_x.error is not None
    assert 0 < of_x.error < 1


def test_a_decoder_of_cells_is_told_them() -> None:
    index = DeepQuantIVFIndex(12, 8, 3, 4)
    index.train(correlated(700, 12))
    rng, M, ksub, d, h = np.random.default_rng(0), 3, 16, 12, 5
    shapes = {
        "tables": (M, ksub, d),
        "features": (M, ksub, h),
        "inner": (h, h),
        "bias": (h,),
        "outer": (h, h),
        "output": (h, d),
        "centre": (d,),
        "cells": (d, h),
    }
    numbers = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    quantizer = copy.copy(index.product_quantizer)
    quantizer.decoder = Decoder({"sites": quantizer.trained(), **numbers})
    index._inject(index.encoder, quantizer)
    x = correlated(60, 12, 1)
    found = diagnose(index, x)
    lost = np.square(x - index.sa_decode(index.sa_encode(x))).sum(axis=1).mean()
    assert index.product_quantizer.decoder is not None
    assert found.distortion is not None
    assert found.distortion.sum() == pytest.approx(lost, rel=1e-3)


def test_equal_cells_are_balanced() -> None:
    assert diagnose(small_index()).imbalance == 1
    assert diagnose(small_index()).empty_cells == 0
