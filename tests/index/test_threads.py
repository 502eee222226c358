"""Threads: work shared among them, the lock, and an index used from several at once."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import faiss
import numpy as np
import pytest
import torch

import deepq
from deepq import _scan
from deepq._common import threads
from deepq.index import flat_search

SOON = 600  # seconds, which only a hang takes
X = np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32)


def test_run_calls_the_work_in_every_thread_it_can_get():
    seen, barrier = set(), threading.Barrier(3, timeout=SOON)

    def work():
        barrier.wait()
        seen.add(threading.get_ident())

    threads.run(work, 3)
    assert len(seen) == 3
    assert threading.get_ident() in seen


@pytest.mark.parametrize("where", ["caller", "helper"])
def test_run_raises_what_the_work_raises(where):
    caller, started = threading.get_ident(), threading.Event()

    def work():
        in_caller = threading.get_ident() == caller
        if in_caller and where == "helper":
            assert started.wait(SOON)
        started.set()
        if in_caller == (where == "caller"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.run(work, 2)


def test_run_returns_only_when_every_helper_has_ended(monkeypatch):
    caller, started, release, ended = (
        threading.get_ident(),
        threading.Event(),
        threading.Event(),
        [],
    )

    def work():
        if threading.get_ident() == caller:
            assert started.wait(SOON)
            return
        started.set()
        assert release.wait(SOON)
        ended.append(True)

    def interrupted(others):
        if not release.is_set():
            release.set()
            raise KeyboardInterrupt
        return wait(others)

    wait = threads.wait
    monkeypatch.setattr(threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        threads.run(work, 2)
    assert ended


def test_an_interrupt_while_waiting_for_readers_opens_the_lock_again(monkeypatch):
    lock = threads.SharedLock()

    def interrupt():
        raise KeyboardInterrupt

    with lock.reading():
        monkeypatch.setattr(lock._state, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt), lock.changing(), lock.exclusive():
            pass
    with lock.reading():
        pass


LATE = """
import threading, time
import numpy as np, deepq
x = np.random.default_rng(0).standard_normal((20000, 8)).astype("float32") * range(1, 9)
index = deepq.DeepQuantIndex(8, 4, 4)
index.train(x); index.add(x); index.search(x, 3)

def late():
    threading.main_thread().join()
    time.sleep(0.2)
    assert index.search(x, 3)[1].shape == (20000, 3)
    print("found")

threading.Thread(target=late).start()
"""


def test_a_search_after_the_main_thread_has_ended_still_works():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    assert done.stdout == "found\n"
    assert not done.stderr


def in_fork(work):
    """Fork, call `work` in the child, and hold its answer to be true, soon."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + SOON
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


forks = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def of_bits(nbits, search_type=0):
    index = deepq.DeepQuantIndex(8, 2, nbits, training=deepq.TrainConfig(epochs=1, ranking=False))
    index.train(X)
    index.add(X[:1000] if nbits > 4 else X)
    index.search_type, index.polysemous_ht = search_type, 9
    return index


MODES = {
    "ours": lambda: of_bits(4),
    "9 bits": lambda: of_bits(9),
    "symmetric": lambda: of_bits(8, faiss.IndexPQ.ST_SDC),
    "polysemous": lambda: of_bits(8, faiss.IndexPQ.ST_polysemous),
    "Hamming": lambda: of_bits(8, faiss.IndexPQ.ST_HE),
}


class TestFork:
    pytestmark = forks

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.usefixtures("two_threads")
    def test_a_child_does_what_its_parent_did(self, mode):
        """Threads of OpenMP do not go along into a child."""
        index, plain = MODES[mode](), faiss.IndexFlatL2(8)
        plain.add(X)
        plain.search(X, 3)
        many = np.tile(X, (8, 1)) if mode == "ours" else X[:50]  # enough for several threads
        expected, near = index.search(many, 3)[1], index.range_search(X[:50], 0.5)

        def works():
            same = np.array_equal(index.search(many, 3)[1], expected)
            same &= all(map(np.array_equal, index.range_search(X[:50], 0.5), near))
            index.reset()
            index.do_polysemous_training = mode == "polysemous"
            index.polysemous_training.n_iter = 1000
            index.train(X)
            index.add(X[:50])
            return (
                same and index.search(X[:9], 3)[1].min() >= 0 and faiss.omp_get_max_threads() == 2
            )

        in_fork(works)

    @pytest.mark.parametrize("held", ["reading", "changing"])
    def test_what_another_thread_holds_is_free_in_the_child(self, held):
        index, inside, leave = trained(), threading.Event(), threading.Event()

        def hold():
            with getattr(index._lock, held)():
                inside.set()
                leave.wait(SOON)

        def works():
            index.add(X)
            index.remove_ids(np.arange(5))
            return index.search(X, 1)[1].min() >= 0

        other = threading.Thread(target=hold)
        other.start()
        inside.wait(SOON)
        try:
            in_fork(works)
        finally:
            leave.set()
            other.join()
        assert index.ntotal == 0
        index.add(X)

    def test_a_fork_waits_for_a_change_that_has_begun(self):
        lock, begun, done = threads.SharedLock(), threading.Event(), []

        def change():
            with lock.changing(), lock.exclusive():
                begun.set()
                time.sleep(0.2)
                done.append(True)

        def works():
            with lock.changing(), lock.exclusive():
                return bool(done)

        other = threading.Thread(target=change)
        other.start()
        begun.wait(SOON)
        in_fork(works)
        other.join()
        with lock.reading():
            pass


def test_readers_share_the_lock_and_a_writer_has_it_alone():
    lock, inside, log = threads.SharedLock(), threading.Barrier(2, timeout=SOON), []

    def read():
        with lock.reading():
            inside.wait()  # passes only with both readers inside
            log.append("read")

    def write():
        with lock.changing(), lock.exclusive():
            log.append("write")

    with lock.reading():
        writer = threading.Thread(target=write)
        writer.start()
        writer.join(0.05)
        assert not log
    writer.join(SOON)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join(SOON)
    assert log == ["write", "read", "read"]


@pytest.fixture
def hasty():
    """Threads that take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def trained():
    index = deepq.DeepQuantIndex(8, 4, 4)
    index.train(X)
    return index


@pytest.mark.usefixtures("hasty")
def test_every_search_beside_adds_sees_a_whole_snapshot():
    index, full = trained(), trained()
    full.add(X)
    ranking = full.search(X[:5], len(X))[1]
    done, failures = threading.Event(), []

    def answer(stored):
        """Return what a search finds when only the first vectors are stored."""
        return np.array([row[row < stored][:7] for row in ranking])

    def search():
        while not done.is_set():
            before = max(index.ntotal, 10)
            found = index.search(X[:5], 7)[1]
            snapshots = range(before, index.ntotal + 1, 10)
            if (found >= 0).all() and not any(np.array_equal(found, answer(n)) for n in snapshots):
                failures.append((before, found))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(0, len(X), 10):
        index.add(X[i : i + 10])
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    np.testing.assert_array_equal(index.search(X[:5], 7)[1], answer(len(X)))


@pytest.mark.usefixtures("hasty")
def test_two_adders_lose_nothing():
    index = trained()

    def add(part):
        for i in part:
            index.add(X[i : i + 10])

    threads = [threading.Thread(target=add, args=(range(start, 4000, 20),)) for start in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index.ntotal == len(X)
    stored = faiss.vector_to_array(index.codes).reshape(len(X), -1)
    expected = index.sa_encode(X)
    assert sorted(map(bytes, stored)) == sorted(map(bytes, expected))


@pytest.mark.usefixtures("hasty")
def test_every_search_beside_every_change_sees_a_whole_snapshot():
    """Also one whose encoder, codebooks and codes are all replaced meanwhile."""
    quick = deepq.TrainConfig(epochs=1, ranking=False)
    index = deepq.DeepQuantIndex(8, 4, 4, training=quick)
    queries, rng = X[:5], np.random.default_rng(0)
    index.train(X[:100])
    right, found, done = set(), [], threading.Event()

    def search():
        while not done.is_set():
            found.append(b"".join(map(bytes, index.search(queries, 7))))

    def note():
        right.add(b"".join(map(bytes, index.search(queries, 7))))

    def wait():
        """Until a search has begun and ended meanwhile, however busy the machine is."""
        ended = len(found)
        while len(found) < ended + 3 and any(thread.is_alive() for thread in threads):
            time.sleep(1e-3)

    threads = [threading.Thread(target=search) for _ in range(2)]
    note()
    for thread in threads:
        thread.start()
    for turn in range(12):
        index.reset()
        note()
        index.train(X[100 * turn : 100 * turn + 200])
        note()
        for _ in range(3):
            index.add(X[rng.integers(len(X), size=50)])
            note()
            index.remove_ids(rng.integers(index.ntotal, size=20))
            note()
            index.permute_entries(rng.permutation(index.ntotal))
            note()
        wait()
    done.set()
    for thread in threads:
        thread.join()
    assert len(set(found)) > 3
    assert set(found) <= right


# ---- how many threads ----------------------------------------------------------------------------


def settings():
    return faiss.omp_get_max_threads(), torch.get_num_threads()


@pytest.mark.usefixtures("two_threads")
def test_the_threads_of_faiss_and_torch_stay_as_they_are():
    before, x = settings(), np.full((20, 8), np.nan, np.float32)
    few = deepq.SearchParameters(num_threads=1)
    config = deepq.TrainConfig(epochs=1)
    calls = [
        lambda i: i.reset(),
        lambda i: i.train(x),
        lambda i: i.train(X[:300]),
        lambda i: i.add(x),
        lambda i: i.add(X[:500]),
        lambda i: i.search(X[:99], 3),
        lambda i: i.search(X[:99], 3, params=few),
        lambda i: i.search(X[:99], 3, params=faiss.SearchParametersIVF()),
        lambda i: i.search(X[:99], 0),
        lambda i: i.range_search(X[:99], 0.5, params=few),
        lambda i: i.reconstruct_n(),
        lambda i: i.remove_ids(np.arange(3)),
        lambda i: deepq.evaluate(i, X[:50]),
    ]
    indexes = [mode() for mode in MODES.values()]
    indexes.append(deepq.DeepQuantIndex(8, 4, 4, rerank=9, training=config))
    for index in indexes:
        index.num_threads = 1
        for call in calls:
            with suppress(ValueError, RuntimeError):
                call(index)
            assert settings() == before


def test_threads_are_set_for_an_index_and_for_a_call(monkeypatch):
    used = []

    def scan(num_threads, **_):
        used.append(num_threads)

    index, params = trained(), deepq.SearchParameters(num_threads=7)
    index.add(X)
    monkeypatch.setattr(flat_search, "_LOOKUPS_PER_THREAD", 1)
    monkeypatch.setattr(_scan, "search", scan)
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 5)
    for number in (None, 3):
        index.num_threads = number
        index.search(X, 1)
        index.search(X, 1, params=params)
    assert used == [5, 7, 3, 7]
    assert copy.copy(index).num_threads is None


@pytest.mark.usefixtures("two_threads")
def test_faiss_itself_follows_that_number_in_the_thread_that_calls(monkeypatch):
    index, used = of_bits(9), []
    monkeypatch.setattr("deepq._common.threads._PROCESSORS", 8)
    monkeypatch.setattr(
        type(index._native.pq_index),
        "search_c",
        lambda *_: used.append(faiss.omp_get_max_threads()),
    )
    index.search(X, 1)
    index.num_threads = 3
    index.search(X, 1)
    for number in (4, 10**6):  # more than there are cores
        index.search(X, 1, params=deepq.SearchParameters(num_threads=number))
    assert used == [2, 3, 4, 8]

    def fail(*_):
        used.append(faiss.omp_get_max_threads())
        with ThreadPoolExecutor(1) as pool:
            used.append(pool.submit(faiss.omp_get_max_threads).result())
        raise RuntimeError("no")

    elsewhere = ThreadPoolExecutor(1).submit(faiss.omp_get_max_threads).result()
    monkeypatch.setattr(type(index._native.pq_index), "search_c", fail)
    with pytest.raises(ValueError, match="no"):
        index.search(X, 1)
    assert used[4:] == [3, elsewhere]
    assert faiss.omp_get_max_threads() == 2


@pytest.mark.parametrize(
    ("value", "refusal"), [(0, ValueError), (-1, ValueError), ("2", TypeError)]
)
def test_a_number_of_threads_is_positive(value, refusal):
    index = deepq.DeepQuantIndex(8, 4, 4)
    with pytest.raises(refusal, match="expected num_threads"):
        index.num_threads = value
    assert index.num_threads is None
