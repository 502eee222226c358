"""A small index with a decoder, and what it must answer."""

from __future__ import annotations

from functools import cache
from typing import Any

import faiss
import numpy as np

import deepq
from deepq import encoders
from deepq.decoders import Decoder
from deepq.quantizers import ProductQuantizer

D, M, RERANK = 16, 4, 20
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
WORST = {L2: np.finfo("f4").max, IP: np.finfo("f4").min}


def clustered(n: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((30, D))
    rng = np.random.default_rng(seed)
    x = (centres[rng.integers(30, size=n)] + 0.5 * rng.standard_normal((n, D))).astype("f4")
    x.flags.writeable = False
    return x


XT, XB, XQ = clustered(1000, 1), clustered(600, 2), clustered(15, 3)
TURN = np.linalg.qr(np.random.default_rng(4).standard_normal((D, D)))[0]


@cache
def parts(metric: Any, nbits: int) -> tuple[encoders.Encoder, ProductQuantizer]:
    """A rotation, and a quantizer whose codewords and decoder differ."""
    rng = np.random.default_rng(5)
    encoder: encoders.Encoder = encoders.Rotation.of(TURN)
    if metric == "cosine":
        encoder = encoders.Chain([encoders.Normalize(D), encoder])
    z = encoder.encode(XT)
    quantizer = ProductQuantizer(M, nbits)
    quantizer.train(z, iterations=3)
    books, scale = quantizer.trained(), float(z.std())
    tables = np.zeros((M, quantizer.ksub, M, D // M))
    tables[np.arange(M), :, np.arange(M)] = books
    shapes = {"features": (M, quantizer.ksub, 6), "inner": (6, 6), "bias": (6,), "outer": (6, 6)}
    numbers = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    numbers["tables"] = tables.reshape(M, quantizer.ksub, D)
    numbers["tables"] += 0.1 * scale * rng.standard_normal(numbers["tables"].shape)
    numbers["output"] = 0.2 * scale * rng.standard_normal((6, D))
    numbers["centre"], numbers["sites"] = z.mean(axis=0), books
    shrink = 0.9 if metric == L2 else 1.0
    quantizer.decoder = Decoder(numbers, shrink=shrink, candidates=4, sweeps=2)
    quantizer.share((0.9 * books + 0.02 * scale).astype(np.float32))
    return encoder, quantizer


def empty(metric: Any = L2, nbits: int = 4, rerank: int = RERANK) -> deepq.DeepQuantIndex:
    encoder, quantizer = parts(metric, nbits)
    number = IP if metric == "cosine" else metric
    return deepq.DeepQuantIndex(
        D, M, nbits, number, encoder=encoder, quantizer=quantizer, rerank=rerank
    )


def filled(metric: Any = L2, nbits: int = 4, rerank: int = RERANK) -> deepq.DeepQuantIndex:
    index = empty(metric, nbits, rerank)
    index.add(XB)
    return index


def exact(index: deepq.DeepQuantIndex, x: np.ndarray) -> np.ndarray:
    """Scores (nq, ntotal) float64 of queries and reconstructions."""
    if isinstance(index.encoder, encoders.Chain):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x, x_hat = x.astype(np.float64), index.reconstruct_n().astype(np.float64)
    if index.metric_type == IP:
        return x @ x_hat.T
    return np.square(x[:, None] - x_hat[None]).sum(axis=2)


def tables(count: int = 0, **settings: Any) -> deepq.SearchParameters:
    return deepq.SearchParameters(rerank=count, **settings)


def check(index: deepq.DeepQuantIndex, got: Any, short: np.ndarray, x: np.ndarray = XQ) -> None:
    """Hold (D, I) against a short list of ids (-1 at its end), ranked by reconstructions."""
    (D, I), right = got, exact(index, x)
    sign = -1 if index.metric_type == IP else 1
    k = D.shape[1]
    for i, ids in enumerate(short):
        ids = ids[ids >= 0]
        found = I[i, : len(ids)]
        assert (I[i, len(ids) :] == -1).all()
        assert (D[i, len(ids) :] == WORST[index.metric_type]).all()
        assert len(np.unique(found)) == len(found)
        assert set(found) <= set(ids)
        np.testing.assert_allclose(D[i, : len(found)], right[i, found], rtol=2e-4, atol=2e-4)
        want = np.sort(sign * right[i, ids])[:k]
        np.testing.assert_allclose(sign * D[i, : len(found)], want, rtol=2e-4, atol=2e-4)
        assert (np.diff(sign * D[i]) >= 0).all()


def assert_same_answers(a: Any, b: Any, *params: Any) -> None:
    for each in params or (None, tables(0), tables(50)):
        for got, want in zip(
            a.search(XQ, 7, params=each), b.search(XQ, 7, params=each), strict=True
        ):
            np.testing.assert_array_equal(got, want)


def assert_same(a: Any, b: Any) -> None:
    """The same training and codes: decoder and setting included."""
    assert (a.rerank, a.ntotal) == (b.rerank, b.ntotal)
    assert b.quantizer.decoder is not None
    assert a.quantizer.decoder.settings == b.quantizer.decoder.settings
    for name, array in a.quantizer.decoder.arrays.items():
        np.testing.assert_array_equal(array, b.quantizer.decoder.arrays[name])
    np.testing.assert_array_equal(a.codebooks, b.codebooks)
    np.testing.assert_array_equal(a.reconstruct_n(), b.reconstruct_n())
    np.testing.assert_array_equal(a.sa_encode(XQ), b.sa_encode(XQ))
    assert_same_answers(a, b)


def few(n: int) -> np.ndarray:
    return np.sort(np.random.default_rng(6).choice(len(XB), n, replace=False))
