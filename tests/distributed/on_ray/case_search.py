"""Searching on Ray: the answers of one index, or a clear error in time."""

from __future__ import annotations

import os
import signal
import threading
import time

import faiss
import numpy as np
import pytest

import deepq
from deepq.distributed import ShardedIndex, ShardError, ShardTimeoutError
from tests.distributed.builders import in_shards, rows, trained
from tests.distributed.on_ray.faults import Deadly
from tests.index.reranked.builders import XB, XQ, empty

pytestmark = pytest.mark.usefixtures("small_ray")

N = 400
HOW = {"cpus": 0.5, "timeout": 60}


def same(found, expected) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    index, x = trained(), rows(N, 5)
    manifest = in_shards(index, tmp_path_factory.mktemp("flat"), np.split(x, [100, 250]))
    index.add(x)
    return index, manifest, x


@pytest.mark.parametrize("kind", ["flat", "cells", "reranked"])
def test_answers_are_those_of_one_index(kind, tmp_path):
    index = empty(rerank=60) if kind == "reranked" else trained(kind, metric=0)
    x = XB[:N] if kind == "reranked" else rows(N, 5)
    queries = np.array(XQ if kind == "reranked" else x[:30])
    manifest = in_shards(index, tmp_path, np.split(x, [100, 250]))
    index.add(x)
    queries[2, 1] = np.inf
    asked = [
        None,
        deepq.SearchParameters(rerank=25),
        deepq.SearchParameters(sel=faiss.IDSelectorRange(80, 300)),
        deepq.SearchParameters(sel=faiss.IDSelectorNot(faiss.IDSelectorBatch(np.arange(0, N, 3)))),
    ]
    with ShardedIndex(manifest, **HOW) as served:
        assert (served.ntotal, served.d, served.metric_type) == (N, 16, index.metric_type)
        for params in asked:
            for k in (1, 7, N + 5):
                assert same(
                    served.search(queries, k, params=params),
                    index.search(queries, k, params=params),
                )
        thresh = float(np.median(index.search(x[:9], 60)[0]))
        assert same(served.range_search(queries, thresh), index.range_search(queries, thresh))
        keys = [399, 0, 100, 0]
        vectors = served.reconstruct_batch(keys)
        assert np.allclose(vectors, index.reconstruct_batch(keys), atol=1e-5)
        assert np.allclose(served.reconstruct(7), index.reconstruct(7), atol=1e-5)
        with pytest.raises(deepq.InputError, match="ids of stored vectors, got 400"):
            served.reconstruct(400)
        with pytest.raises(deepq.DimensionError):
            served.search(queries[:, :3], 5)
        with pytest.raises(deepq.KindError):
            served.search(queries, 5, params=3)
        if kind == "cells":
            served.nprobe = index.nprobe = 6
            assert same(served.search(queries, 9), index.search(queries, 9))
            params = faiss.SearchParametersIVF(nprobe=2, max_codes=10)
            with pytest.raises(deepq.InputError, match="max_codes"):
                served.search(queries, 5, params=params)
    with pytest.raises(deepq.StateError, match="after close"):
        served.range_search(queries, thresh)


def test_threads_that_search_at_the_same_time_get_their_own_answers(flat):
    index, manifest, x = flat
    wrong = []

    def work(first):
        for q in range(first, 40, 8):
            found = served.search(x[q : q + 1], 6)
            if not same(found, index.search(x[q : q + 1], 6)):
                wrong.append(q)

    with ShardedIndex(manifest, **HOW) as served:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_shards_come_and_go_while_it_serves(flat):
    index, manifest, x = flat
    fewer = manifest.without("part-1.dpq")
    without = deepq.SearchParameters(sel=np.r_[np.arange(100), np.arange(250, N)])
    states = [index.search(x[:5], 6), index.search(x[:5], 6, params=without)]
    seen, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            found = served.search(x[:5], 6)
            seen.append([same(found, state) for state in states])

    with ShardedIndex(manifest, **HOW) as served:
        thread = threading.Thread(target=work)
        thread.start()
        served.update(fewer)
        assert served.ntotal == 250
        assert same(served.search(x[:5], 6), states[1])
        served.update(manifest)
        assert same(served.search(x[:5], 6), states[0])
        stop.set()
        thread.join()
        with pytest.raises(deepq.InputError, match="expected shards of"):
            served.update(in_shards(trained(metric=0), manifest.folder.parent, []))
    assert all(any(one) for one in seen)
    assert len(seen) > 2


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_worker_that_is_killed_changes_no_answer(flat, replicas):
    index, manifest, x = flat
    with ShardedIndex(manifest, replicas, **{**HOW, "cpus": 0.25}) as served:
        for name in ("part-0.dpq", "part-2.dpq"):
            os.kill(served.processes()[name][0], signal.SIGKILL)
            found = served.search(x[:9], 5)
            assert same(found, index.search(x[:9], 5))
            assert found.missing == ()


def test_a_worker_that_is_killed_when_it_starts_is_started_again(flat, tmp_path):
    index, manifest, x = flat
    with ShardedIndex(manifest, network=Deadly(tmp_path / "died"), **HOW) as served:
        assert (tmp_path / "died").exists()
        assert same(served.search(x[:9], 5), index.search(x[:9], 5))


def test_a_worker_that_hangs_is_an_error_in_time_or_named(flat, caplog):
    index, manifest, x = flat
    rest = deepq.SearchParameters(sel=np.r_[np.arange(100), np.arange(250, N)])
    with ShardedIndex(manifest, **HOW) as served:
        (pid,) = served.processes()["part-1.dpq"]
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(ShardTimeoutError, match=r"none of part-1.dpq: no answer in 2 s") as e:
            served.search(x[:9], 5, timeout=2)
        assert 2 <= time.monotonic() - begin < 100
        assert e.value.missing == ("part-1.dpq",)
        assert isinstance(e.value, TimeoutError)
        served._partial = True
        found = served.search(x[:9], 5, timeout=2)
        assert found.missing == ("part-1.dpq",)
        assert same(found, index.search(x[:9], 5, params=rest))
        assert "part-1.dpq" in caplog.text
        os.kill(pid, signal.SIGCONT)
        assert served.search(x[:9], 5).missing == ()


def test_a_second_worker_answers_for_one_that_hangs(flat):
    index, manifest, x = flat
    with ShardedIndex(manifest, 2, cpus=0.25, timeout=60, hedge=0.2) as served:
        stopped = served.processes()["part-1.dpq"][0]
        os.kill(stopped, signal.SIGSTOP)
        begin = time.monotonic()
        for _ in range(4):
            assert same(served.search(x[:9], 5), index.search(x[:9], 5))
        assert time.monotonic() - begin < 60
        os.kill(stopped, signal.SIGCONT)


def test_a_shard_that_cannot_be_opened_is_an_error_at_the_start(tmp_path):
    index = trained()
    manifest = in_shards(index, tmp_path, [rows(30), rows(40)])
    path = tmp_path / "part-1.dpq"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(deepq.FormatError, match=r"expected the checksum .* of .*part-1.dpq"):
        ShardedIndex(manifest, **HOW)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"part-1.dpq where every worker sees it"):
        ShardedIndex(manifest, **HOW)
    path.write_bytes(whole)
    with ShardedIndex(manifest, **HOW, on_failure="partial") as served:
        path.unlink()
        os.kill(served.processes()["part-1.dpq"][0], signal.SIGKILL)
        time.sleep(1)
        found = served.search(rows(5), 3)
        assert found.missing == ("part-1.dpq",)
        served._partial = False
        with pytest.raises(ShardError, match=r"part-1.dpq: FileNotFoundError") as error:
            served.search(rows(5), 3)
        assert not isinstance(error.value, TimeoutError)


def test_workers_that_the_cluster_has_no_room_for_are_an_error(flat):
    with pytest.raises(TimeoutError, match=r"expected 3 workers of 64 CPUs"):
        ShardedIndex(flat[1], cpus=64, start_timeout=2)


@pytest.mark.parametrize(
    ("named", "error"),
    [({"replicas": 0}, deepq.InputError), ({"on_failure": "maybe"}, deepq.InputError)],
)
def test_bad_arguments_are_refused(flat, named, error):
    with pytest.raises(error):
        ShardedIndex(flat[1], **named)
