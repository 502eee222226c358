"""Whole lives of indexes inside faiss's composites, beside a model in plain NumPy."""

from __future__ import annotations

import copy
from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from deepq._kernels import reference
from deepq.quantizers import pack

from .model import (
    COPIES,
    D,
    Model,
    assert_equal,
    codes_of,
    counts,
    ks,
    quarters,
    seeds,
    some,
    train,
    untrained,
)

FAISS_BITS = [3, 4, 8]  # with 1 or 2, faiss cannot search sub-vectors of two numbers


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


TestLifeInAnIdMap, TestLifeInShards = LifeInAnIdMap.TestCase, LifeInShards.TestCase
TestLifeInAnIdMap.settings = TestLifeInShards.settings = some
