"""An index of cells used from several threads at once."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

import deepq

from .builders import EVERYWHERE, NLIST, XQ, X, ours

PART = X[:50]
SOON = 600  # seconds, which only a hang takes


def _add(index):
    index.add(PART)


def _add_with_ids(index):
    index.add_with_ids(PART, np.arange(len(PART)) + 10**6)
    index.remove_ids(np.arange(len(PART)) + 10**6)


def _update(index):
    index.update_vectors(np.arange(10), X[:10])


def _remove_what_is_not_there(index):
    index.remove_ids(np.array([10**9]))


def _merge(index):
    other = copy.copy(index)
    other.reset()
    other.add(PART)
    index.merge_from(other)


def _look(index):
    assert index.invlists.nlist == NLIST


CHANGES = [_add, _add_with_ids, _update, _remove_what_is_not_there, _merge, _look]


@pytest.mark.parametrize("nbits", [4, 5])
@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__.strip("_"))
def test_searches_go_on_while_somebody_changes_something(nbits, change):
    index = ours(nbits)
    index.num_threads = 2
    failures, done = [], threading.Event()

    def read():
        while not done.is_set():
            D, I = index.search(XQ, 5, params=EVERYWHERE)
            if not ((I >= 0).all() and (np.diff(D, axis=1) >= 0).all()):
                failures.append(I)
            index.range_search(XQ[:3], 40.0)
            index.reconstruct_batch(np.arange(20, 25))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for _ in range(12):
            change(index)
        done.set()
        for reader in readers:
            reader.result(SOON)
    assert not failures
    assert len(index._native.table.entries()[0]) == index.ntotal
    twin = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(twin.search(XQ, 5), index.search(XQ, 5))


def test_indexes_that_are_merged_both_ways_do_not_wait_for_each_other():
    a, b = ours(n=40), ours(n=40)

    def merge(pair):
        for _ in range(20):
            pair[0].merge_from(pair[1])

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(merge, pair) for pair in ((a, b), (b, a))]:
            each.result(SOON)
    assert a.ntotal + b.ntotal == 80
    ids = [index.get_list(cell)[0] for index in (a, b) for cell in range(NLIST)]
    assert sum(map(len, ids)) == 80


def test_composites_search_in_threads_of_their_own():
    shards = faiss.IndexShards(X.shape[1], True, False)
    inside = [ours(n=0) for _ in range(3)]
    for each in inside:
        shards.add_shard(each)
    shards.add_with_ids(X, np.arange(len(X)))
    right = shards.search(XQ, 5)[0]
    with ThreadPoolExecutor(4) as pool:
        for D, _ in pool.map(lambda _: shards.search(XQ, 5), range(20)):
            np.testing.assert_array_equal(D, right)


def test_a_search_in_several_threads_is_that_of_one():
    index = ours()
    for params in (
        deepq.SearchParameters(nprobe=5, num_threads=1),
        deepq.SearchParameters(nprobe=5, num_threads=3),
    ):
        got = index.search(X, 5, params=params)
        np.testing.assert_array_equal(got[1][:20], index.search(X[:20], 5, params=params)[1])
