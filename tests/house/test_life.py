"""Whole lives of an index, beside a model in plain NumPy that holds words and adds up tables.

All numbers are multiples of 1/4 and small, so sums are exact, and so are answers.
"""

from __future__ import annotations

import copy
import io
import pickle
import tempfile
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import deepq
from deepq._kernels import reference
from deepq.encoders import Affine, Identity
from deepq.quantizers import pack, unpack

D, M = 6, 3
TURN = np.eye(D)[[2, 0, 1, 5, 4, 3]] * [1, -1, 1, 1, -1, 1]
ENCODERS = [Identity(D), Affine(TURN), Affine(TURN, np.arange(D) / 4)]
QUICK = deepq.TrainConfig(epochs=1, ranking=False)

FAISS_BITS = [3, 4, 8]  # with 1 or 2, faiss cannot search sub-vectors of two numbers

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


def assert_nearest(got, model, queries, ids=None):
    """Hold faiss's answer, which may put ties into any order, against all of the model's."""
    D, I = got
    scores = reference.scores(model.words, model.tables(queries))
    right = model.search(queries, D.shape[1])[0]
    np.testing.assert_array_equal(D, right)
    for d, found, row in zip(D, I, scores, strict=True):
        assert ((found < 0) == (np.arange(len(found)) >= len(row))).all()
        positions = found[found >= 0] if ids is None else places(found[found >= 0], ids)
        assert len(set(positions)) == len(positions)
        np.testing.assert_array_equal(row[positions], d[found >= 0])


def places(found, ids):
    """Say where `found` are among `ids`."""
    return np.array([np.flatnonzero(ids == i)[0] for i in found], np.int64)


def codes_of(index):
    return faiss.vector_to_array(index.codes).reshape(-1, index.code_size)


def everything(index):
    """All that an index is, as bytes: ours, and what faiss has of it."""
    return pickle.dumps(index, 5), faiss.serialize_index(index).tobytes()


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
MISTAKES = {
    "NaN": lambda i: i.add(x * np.nan),
    "too wide": lambda i: i.add(np.hstack([x, x])),
    "a list": lambda i: i.add(x.tolist()),
    "too few rows": lambda i: i.train(x[:1]),
    "rows of NaN": lambda i: i.train(quarters(300, 1) * np.nan),
    "rows of infinity": lambda i: i.train(np.full((300, D), np.inf)),
    "k = 0": lambda i: i.search(x, 0),
    "k beyond reason": lambda i: i.search(x, 2**62),
    "a radius of NaN": lambda i: i.range_search(x, np.nan),
    "a key beyond the end": lambda i: i.reconstruct(i.ntotal),
    "keys before the start": lambda i: i.reconstruct_n(-1, 1),
    "fractions as ids": lambda i: i.remove_ids(np.array([0.5])),
    "itself": lambda i: i.merge_from(i),
    "another kind": lambda i: i.merge_from(faiss.IndexFlatL2(D)),
    "another training": lambda i: i.merge_from(other()),
    "wide codes": lambda i: i.add_sa_codes(np.zeros((2, 99), np.uint8)),
    "codes as integers": lambda i: i.sa_decode(np.zeros((2, i.code_size), int)),
    "no permutation": lambda i: i.permute_entries(np.full(i.ntotal + 1, 0)),
    "codebooks of NaN": lambda i: setattr(i, "codebooks", np.full((M, 4, 2), np.nan)),
    "an odd metric": lambda i: setattr(i, "metric_type", 7),
    "a number as parameters": lambda i: i.search(x, 3, params=3),
}


def other():
    return deepq.DeepQuantIndex.from_codebooks(np.zeros((M, 4, D // M), np.float32))


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


class Life(RuleBasedStateMachine):
    """An index by itself."""

    @initialize(data=st.data())
    def begin(self, data):
        self.index = untrained(data, [1, 2, 3, 4, 8])
        self.model = Model(self.index)
        self.folder = tempfile.TemporaryDirectory()
        self.mapped = False

    def teardown(self):
        if hasattr(self, "folder"):
            del self.index
            self.folder.cleanup()

    trained = precondition(lambda self: self.model.codebooks is not None)

    def changes(self):
        """Expect a refusal where the codes are mapped."""
        return pytest.raises(RuntimeError, match="mapped") if self.mapped else nullcontext()

    @rule(seed=seeds)
    def train(self, seed):
        if self.index.ntotal:
            with pytest.raises(RuntimeError, match="reset"):
                self.index.train(quarters(300, seed))
        else:
            train(self.index, self.model, seed)

    @trained
    @rule(n=counts, seed=seeds, as_codes=st.booleans())
    def add(self, n, seed, as_codes):
        words = self.model.encode(quarters(n, seed))
        with self.changes():
            if as_codes:
                self.index.add_sa_codes(pack(words, self.model.nbits))
            else:
                self.index.add(quarters(n, seed))
        if not self.mapped:
            self.model.words = np.vstack([self.model.words, words])

    @trained
    @rule(seed=seeds, share=st.floats(0, 1), selects=st.booleans())
    def remove(self, seed, share, selects):
        n = len(self.model.words)
        gone = np.flatnonzero(np.random.default_rng(seed).random(n) < share)
        ids = faiss.IDSelectorBatch(gone) if selects else gone[::-1]
        with self.changes():
            assert self.index.remove_ids(ids) == len(gone)
        if not self.mapped:
            self.model.words = np.delete(self.model.words, gone, axis=0)

    @trained
    @rule(seed=seeds)
    def permute(self, seed):
        order = np.random.default_rng(seed).permutation(len(self.model.words))
        with self.changes():
            self.index.permute_entries(order)
        if not self.mapped:
            self.model.words = self.model.words[order]

    @trained
    @rule(n=counts, seed=seeds, gives=st.booleans())
    def merge(self, n, seed, gives):
        twin = copy.copy(self.index)
        twin.reset()
        twin.add(quarters(n, seed))
        both = [self.model.words, self.model.encode(quarters(n, seed))]
        if gives:  # what is mapped may be emptied
            twin.merge_from(self.index)
            np.testing.assert_array_equal(
                twin.sa_encode(twin.reconstruct_n()),
                pack(self.model.encode(self.model.decode(np.vstack(both[::-1]))), self.model.nbits),
            )
            self.model.words, self.mapped = self.model.words[:0], False
            return
        with self.changes():
            self.index.merge_from(twin)
        assert twin.ntotal == (n if self.mapped else 0)
        if not self.mapped:
            self.model.words = np.vstack(both)

    @rule()
    def reset(self):
        self.index.reset()
        self.model.words, self.mapped = self.model.words[:0], False

    @rule(route=st.sampled_from(sorted(COPIES)))
    def go_on_with_a_copy(self, route):
        if route == "faiss" and self.model.codebooks is None:
            return
        self.index, self.mapped = COPIES[route](self.index), False

    @rule(maps=st.booleans())
    def write_and_read(self, maps):
        path = Path(self.folder.name) / "index"
        deepq.write_index(self.index, path)
        self.index, self.mapped = deepq.read_index(path, mmap=maps), maps

    @rule(threads=st.sampled_from([None, 1, 3]))
    def set_threads(self, threads):
        self.index.num_threads = threads

    @rule(mistake=st.sampled_from(sorted(MISTAKES)))
    def make_a_mistake(self, mistake):
        before = everything(self.index)
        with pytest.raises((ValueError, TypeError, RuntimeError), match=r"expected .*got"):
            MISTAKES[mistake](self.index)
        assert everything(self.index) == before

    @trained
    @rule(n=counts, seed=seeds, k=ks, lost=st.booleans(), threads=st.sampled_from([None, 2]))
    def search(self, n, seed, k, lost, threads):
        queries, params = quarters(n, seed), deepq.SearchParameters(num_threads=threads)
        D, I = self.model.search(queries, k)
        if lost and n:
            queries[0, 0] = np.nan
            D[0], I[0] = self.index._worst, -1
        assert_equal(self.index.search(queries, k, params=params), (D, I))
        assert_equal([self.index.assign(queries, k)], [I])

    @trained
    @rule(seed=seeds, k=ks, kind=st.sampled_from(["ids", "bools", "selector"]))
    def search_a_part(self, seed, k, kind):
        allowed = np.random.default_rng(seed).random(len(self.model.words)) < 0.5
        ids = np.flatnonzero(allowed)
        sel = {"ids": ids, "bools": allowed, "selector": faiss.IDSelectorBatch(ids)}[kind]
        params = deepq.SearchParameters(sel=sel)
        got = self.index.search(quarters(3, seed), k, params=params)
        assert_equal(got, self.model.search(quarters(3, seed), k, allowed))

    @trained
    @rule(n=counts, seed=seeds, at=seeds)
    def range_search(self, n, seed, at):
        queries = quarters(n, seed)
        radius = self.model.some_score(queries, at)
        got = self.index.range_search(queries, radius)
        assert_equal(got, self.model.range_search(queries, radius))

    @trained
    @rule(seed=seeds, k=ks)
    def reconstruct(self, seed, k):
        right = self.model.decode(self.model.words)
        np.testing.assert_array_equal(self.index.reconstruct_n(), right)
        keys = np.random.default_rng(seed).integers(0, len(right), len(right))
        np.testing.assert_array_equal(self.index.reconstruct_batch(keys), right[keys])
        _, I, R = self.index.search_and_reconstruct(quarters(2, seed), k)
        np.testing.assert_array_equal(R[I >= 0], right[I[I >= 0]])

    @invariant()
    def holds_what_the_model_holds(self):
        if not hasattr(self, "model"):
            return
        assert self.index.is_trained == (self.model.codebooks is not None)
        assert self.index.ntotal == len(self.model.words)
        np.testing.assert_array_equal(
            codes_of(self.index), pack(self.model.words, self.model.nbits)
        )


class LifeInAnIdMap(RuleBasedStateMachine):
    """An index inside IndexIDMap2, changed through that, and searched both ways."""

    @initialize(data=st.data(), seed=seeds)
    def begin(self, data, seed):
        self.index = untrained(data, FAISS_BITS)
        self.model, self.ids = Model(self.index), np.empty(0, np.int64)
        train(self.index, self.model, seed)
        self.outer = faiss.IndexIDMap2(self.index)

    @rule(n=counts, seed=seeds)
    def add(self, n, seed):
        new = np.random.default_rng(seed).permutation(1000)
        new = new[~np.isin(new, self.ids)][:n]
        x = quarters(len(new), seed)
        self.outer.add_with_ids(x, new)
        words = self.model.chosen(x, codes_of(self.index)[len(self.ids) :])
        self.model.words = np.vstack([self.model.words, words])
        self.ids = np.append(self.ids, new)

    @rule(seed=seeds, share=st.floats(0, 1))
    def remove(self, seed, share):
        gone = np.random.default_rng(seed).random(len(self.ids)) < share
        assert self.outer.remove_ids(self.ids[gone]) == gone.sum()
        self.model.words, self.ids = self.model.words[~gone], self.ids[~gone]

    @rule()
    def reset(self):
        self.outer.reset()
        self.model.words, self.ids = self.model.words[:0], self.ids[:0]

    @rule(route=st.sampled_from(sorted(COPIES)))
    def go_on_with_a_copy(self, route):
        inside = COPIES[route](self.index)
        np.testing.assert_array_equal(codes_of(inside), codes_of(self.index))
        x = inside.reconstruct_n()
        inside.reset()
        self.index, self.outer = inside, faiss.IndexIDMap2(inside)
        self.outer.add_with_ids(x, self.ids)
        self.model.words = self.model.chosen(x, codes_of(inside))

    @rule(n=counts, seed=seeds, k=ks)
    def search(self, n, seed, k):
        queries = quarters(n, seed)
        assert_nearest(self.outer.search(queries, k), self.model, queries, self.ids)
        assert_equal(self.index.search(queries, k), self.model.search(queries, k))

    @rule(n=counts, seed=seeds, at=seeds)
    def range_search(self, n, seed, at):
        queries = quarters(n, seed)
        radius = self.model.some_score(queries, at)
        lims, D, I = self.outer.range_search(queries, radius)
        right = self.model.range_search(queries, radius)
        np.testing.assert_array_equal(lims, right[0])
        for begin, end in zip(lims[:-1].astype(int), lims[1:].astype(int), strict=True):
            order = np.argsort(places(I[begin:end], self.ids))
            np.testing.assert_array_equal(D[begin:end][order], right[1][begin:end])
            np.testing.assert_array_equal(I[begin:end][order], self.ids[right[2][begin:end]])

    @rule()
    def reconstruct(self):
        for i, vector in zip(self.ids, self.model.decode(self.model.words), strict=True):
            np.testing.assert_array_equal(self.outer.reconstruct(int(i)), vector)

    @invariant()
    def agree_about_how_many_there_are(self):
        if hasattr(self, "outer"):
            assert self.outer.ntotal == self.index.ntotal == len(self.ids)


class LifeInShards(RuleBasedStateMachine):
    """Three indexes inside IndexShards, which adds once and numbers them one after the other."""

    @initialize(data=st.data(), seed=seeds)
    def begin(self, data, seed):
        index = untrained(data, FAISS_BITS)
        self.model = Model(index)
        train(index, self.model, seed)
        self.parts = [copy.copy(index) for _ in range(3)]
        self.words = [self.model.words] * 3
        self.outer = faiss.IndexShards(D, False, True)
        for part in self.parts:
            self.outer.add_shard(part)

    def changed(self):
        self.outer.syncWithSubIndexes()
        self.model.words = np.vstack(self.words)

    @precondition(lambda self: not self.outer.ntotal)
    @rule(n=st.integers(3, 30), seed=seeds)
    def add(self, n, seed):
        x = quarters(n, seed)
        self.outer.add(x)
        self.words = [
            self.model.chosen(x[a:b], codes_of(part))
            for part, (a, b) in zip(self.parts, pairwise(np.arange(4) * n // 3), strict=True)
        ]
        self.model.words = np.vstack(self.words)

    @rule(which=st.integers(0, 2), n=counts, seed=seeds)
    def add_to_one(self, which, n, seed):
        self.parts[which].add(quarters(n, seed))
        self.words[which] = np.vstack([self.words[which], self.model.encode(quarters(n, seed))])
        self.changed()

    @rule(which=st.integers(0, 2), seed=seeds)
    def remove_from_one(self, which, seed):
        gone = np.flatnonzero(np.random.default_rng(seed).random(len(self.words[which])) < 0.5)
        assert self.parts[which].remove_ids(gone) == len(gone)
        self.words[which] = np.delete(self.words[which], gone, axis=0)
        self.changed()

    @rule(a=st.integers(0, 2), b=st.integers(0, 2))
    def merge(self, a, b):
        if a == b:
            return
        self.parts[a].merge_from(self.parts[b])
        self.words[a] = np.vstack([self.words[a], self.words[b]])
        self.words[b] = self.words[b][:0]
        self.changed()

    @rule()
    def reset(self):
        self.outer.reset()
        self.words = [self.model.words[:0]] * 3
        self.model.words = self.model.words[:0]

    @rule(n=counts, seed=seeds, k=ks)
    def search(self, n, seed, k):
        queries = quarters(n, seed)
        assert_nearest(self.outer.search(queries, k), self.model, queries)

    @invariant()
    def hold_what_the_model_holds(self):
        if not hasattr(self, "outer"):
            return
        assert self.outer.ntotal == len(self.model.words)
        for part, words in zip(self.parts, self.words, strict=True):
            np.testing.assert_array_equal(codes_of(part), pack(words, self.model.nbits))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


some = settings(max_examples=60, stateful_step_count=25)
TestLife, TestLifeInAnIdMap, TestLifeInShards = (
    machine.TestCase for machine in (Life, LifeInAnIdMap, LifeInShards)
)
TestLife.settings = TestLifeInAnIdMap.settings = TestLifeInShards.settings = some
