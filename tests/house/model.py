"""A model of an index in plain NumPy, that holds words and adds up tables.

All numbers are multiples of 1/4 and small, so sums are exact, and so are answers.
"""

from __future__ import annotations

import copy
import io
import pickle

import faiss
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import deepq
from deepq._kernels import reference
from deepq.encoders import Affine, Identity
from deepq.quantizers import unpack

D, M = 6, 3
TURN = np.eye(D)[[2, 0, 1, 5, 4, 3]] * [1, -1, 1, 1, -1, 1]
ENCODERS = [Identity(D), Affine(TURN), Affine(TURN, np.arange(D) / 4)]
QUICK = deepq.TrainConfig(epochs=1, ranking=False)
seeds = st.integers(0, 999)
counts = st.integers(0, 12)
ks = st.integers(1, 20)


def quarters(n, seed):
    """Vectors (n, D), some of them equal."""
    return np.random.default_rng(seed).integers(-8, 9, (n, D)).astype(np.float32) / 4


class Model:
    """What an index of `encoder` and `metric` should do; words (n, M) are what it stores."""

    def __init__(self, index):
        self.encoder, self.nbits = copy.deepcopy(index.encoder), index.pq.nbits
        self.inner_product = index.metric_type == faiss.METRIC_INNER_PRODUCT
        self.codebooks = None
        self.words = np.empty((0, M), np.int64)

    def encode(self, x):
        return reference.assign(self.encoder.encode(x), self.codebooks)

    def decode(self, words):
        z = self.codebooks[np.arange(M), words].reshape(len(words), D)
        return self.encoder.decode(z)

    def chosen(self, x, codes):
        """Return the words of codes that faiss chose: nearest ones, of equally near ones any."""
        words = unpack(codes, M, self.nbits).astype(np.int64)
        z = self.encoder.encode(x).reshape(len(x), M, 1, D // M)
        distances = ((z - self.codebooks) ** 2).sum(-1)
        taken = np.take_along_axis(distances, words[:, :, None], axis=2)[:, :, 0]
        np.testing.assert_array_equal(taken, distances.min(axis=2))
        return words

    def tables(self, queries):
        z = self.encoder.encode(queries).reshape(len(queries), M, 1, D // M)
        products = z * self.codebooks if self.inner_product else (z - self.codebooks) ** 2
        return products.sum(-1, dtype=np.float32)

    def search(self, queries, k, allowed=None):
        return reference.search(
            self.words, self.tables(queries), k, inner_product=self.inner_product, allowed=allowed
        )

    def range_search(self, queries, radius):
        return reference.range_search(
            self.words, self.tables(queries), radius, inner_product=self.inner_product
        )

    def some_score(self, queries, at):
        """Return one of the scores, which is where a range ends and does not yet hold."""
        scores = np.append(reference.scores(self.words, self.tables(queries)).ravel(), 1)
        return float(scores[at % len(scores)])


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def codes_of(index):
    return faiss.vector_to_array(index.codes).reshape(-1, index.code_size)


def through_file(index):
    file = io.BytesIO()
    deepq.write_index(index, file)
    return deepq.read_index(io.BytesIO(file.getvalue()))


def through_faiss(index):
    back = deepq.from_faiss(faiss.deserialize_index(faiss.serialize_index(index)))
    back.training = index.training
    return back


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "file": through_file,
    "faiss": through_faiss,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "pickle 2": lambda index: deepq.load_pickle(io.BytesIO(pickle.dumps(index, 2))),
}
x = quarters(5, 0)


def untrained(data, bits):
    """Draw an untrained index."""
    nbits = data.draw(st.sampled_from(bits), "nbits")
    metric = data.draw(st.sampled_from([faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT]), "metric")
    encoder = data.draw(st.sampled_from(ENCODERS), "encoder")
    return deepq.DeepQuantIndex(D, M, nbits, metric, encoder=encoder, training=QUICK)


def train(index, model, seed):
    """Train, and move the codewords to where sums are exact."""
    index.train(quarters((1 << model.nbits) + 50, seed))
    index.codebooks = np.round(index.codebooks * 4) / 4
    model.codebooks = np.array(index.codebooks)


some = settings(max_examples=60, stateful_step_count=25)
