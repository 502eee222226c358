"""Whole lives of an index, beside its model in plain NumPy."""

from __future__ import annotations

import copy
import pickle
import tempfile
from contextlib import nullcontext
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import deepq
from deepq.quantizers import pack

from .model import (
    COPIES,
    D,
    M,
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
    x,
)


def everything(index):
    """All that an index is, as bytes: ours, and what faiss has of it."""
    return pickle.dumps(index, 5), faiss.serialize_index(index).tobytes()


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


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


TestLife = Life.TestCase
TestLife.settings = some
