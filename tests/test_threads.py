"""Threads: work shared among them, the lock, and an index used from several at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import faiss
import numpy as np
import pytest

import deepq
from deepq import _threads

X = np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32)


def test_run_calls_the_work_in_every_thread_it_can_get():
    seen, barrier = set(), threading.Barrier(3, timeout=10)

    def work():
        barrier.wait()
        seen.add(threading.get_ident())

    _threads.run(work, 3)
    assert len(seen) == 3
    assert threading.get_ident() in seen


@pytest.mark.parametrize("where", ["caller", "helper"])
def test_run_raises_what_the_work_raises(where):
    caller, started = threading.get_ident(), threading.Event()

    def work():
        in_caller = threading.get_ident() == caller
        if in_caller and where == "helper":
            assert started.wait(10)
        started.set()
        if in_caller == (where == "caller"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _threads.run(work, 2)


def test_run_returns_only_when_every_helper_has_ended(monkeypatch):
    caller, started, release, ended = (
        threading.get_ident(),
        threading.Event(),
        threading.Event(),
        [],
    )

    def work():
        if threading.get_ident() == caller:
            assert started.wait(10)
            return
        started.set()
        assert release.wait(10)
        ended.append(True)

    def interrupted(others):
        if not release.is_set():
            release.set()
            raise KeyboardInterrupt
        return wait(others)

    wait = _threads.wait
    monkeypatch.setattr(_threads, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _threads.run(work, 2)
    assert ended


def test_an_interrupt_while_waiting_for_readers_opens_the_lock_again(monkeypatch):
    lock = _threads.SharedLock()

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_searches():
    index = deepq.DeepQuantIndex(8, 4, 4)
    index.train(X)
    index.add(X)
    expected = index.search(np.tile(X, (8, 1)), 3)[1]  # enough for several threads
    child = os.fork()
    if not child:
        found = index.search(np.tile(X, (8, 1)), 3)[1]
        os._exit(0 if np.array_equal(found, expected) else 1)
    deadline = time.monotonic() + 60
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_readers_share_the_lock_and_a_writer_has_it_alone():
    lock, inside, log = _threads.SharedLock(), threading.Barrier(2, timeout=10), []

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
    writer.join(10)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join(10)
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
