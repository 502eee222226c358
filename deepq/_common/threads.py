"""Several threads: one piece of work shared among them, and a lock for what they share.

A process may be forked at any moment. Then only the thread that forks goes on in the child: the
pool is forgotten there, what other threads hold is free, and no change is half done, since a fork
waits for those that have begun.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import faiss

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_PROCESSORS = os.cpu_count() or 1
_POOL_SIZE = max(32, 4 * _PROCESSORS)


_is_forked = False
_locks: weakref.WeakSet[SharedLock] = weakref.WeakSet()
_changes = threading.Condition()
_changing: list[int] = []  # threads inside `SharedLock.exclusive`


@contextmanager
def openmp_threads(count: int | None = None) -> Iterator[None]:
    """Let faiss's own code run in so many threads, or as it is set; in a forked child in one.

    OpenMP has no threads in a forked child if its parent had some, and waits for them for ever. It
    keeps the number for every calling thread by itself, so no other one sees the change.
    """
    before = faiss.omp_get_max_threads()
    most = max(before, _PROCESSORS)  # where there are too many, OpenMP ends the process
    faiss.omp_set_num_threads(1 if _is_forked else min(count or before, most))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def run(work: Callable[[], None], num_threads: int) -> None:
    """Call ``work`` in ``num_threads`` threads, the caller's among them, and wait for all.

    ``work`` is expected to take its share from a common stock until that is empty, so a call that
    starts late, or never gets a thread, costs nothing. The first exception is raised.
    """
    others = _start(work, num_threads - 1) if num_threads > 1 else []
    failure: BaseException | None = None
    try:
        work()
    except BaseException as error:
        failure = error
    for other in others:  # whatever happens, nobody may work on when this returns
        while not other.cancel() and not other.done():
            try:
                wait([other])
            except BaseException as error:
                failure = failure or error
        if not other.cancelled():
            failure = failure or other.exception()
    if failure is not None:
        raise failure


def run_blocks(work: Callable[[slice], None], n: int, size: int, num_threads: int) -> None:
    """Call ``work`` for blocks of ``size`` of ``n`` rows, in `num_threads` threads at most."""
    starts = iter(range(0, n, size))

    def take() -> None:
        for first in starts:
            work(slice(first, min(first + size, n)))

    run(take, min(num_threads, -(-n // size)))


def _start(work: Callable[[], None], count: int) -> list[Future[None]]:
    """Submit `work` to the pool; to as many threads as can be had."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_POOL_SIZE, thread_name_prefix="deepq")
        started: list[Future[None]] = []
        try:
            for _ in range(min(count, _POOL_SIZE)):
                started.append(_pool.submit(work))
        except RuntimeError:  # the interpreter is going down
            pass
        return started


class SharedLock:
    """Many readers or one writer; a writer prepares its change while readers go on.

    ``changing()`` keeps other writers out, ``exclusive()`` inside it waits until the present
    readers have left and keeps new ones waiting. Not for use by one thread twice at once.
    """

    def __init__(self) -> None:
        self._writer = threading.Lock()
        self._state = threading.Condition()
        self._readers: list[int] = []  # threads
        self._closed = False
        _locks.add(self)

    def reading(self) -> _Reading:
        """Hold what is guarded as it is."""
        return _Reading(self)

    def _enter(self) -> None:
        with self._state:
            while self._closed:
                self._state.wait()
            self._readers.append(threading.get_ident())

    def _leave(self) -> None:
        with self._state:
            self._readers.remove(threading.get_ident())
            if self._closed and not self._readers:
                self._state.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other writers out."""
        with self._writer:
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep readers out; only inside `changing`."""
        try:
            with self._state:
                self._closed = True
                while self._readers:
                    self._state.wait()
            with _changes:  # a fork waits until this is over
                _changing.append(threading.get_ident())
            try:
                yield
            finally:
                with _changes:
                    _changing.remove(threading.get_ident())
                    _changes.notify_all()
        finally:
            with self._state:
                self._closed = False
                self._state.notify_all()

    def free(self) -> None:
        """Forget what threads hold that a forked child does not have."""
        self._writer, self._state, self._closed = threading.Lock(), threading.Condition(), False
        self._readers = [reader for reader in self._readers if reader == threading.get_ident()]


class _Reading:
    """A thread's time as a reader. A class, as that takes less time than a generator."""

    __slots__ = ("_lock",)

    def __init__(self, lock: SharedLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock._enter()

    def __exit__(self, *error: object) -> None:
        self._lock._leave()


def _before_fork() -> None:
    """Wait until no other thread changes anything, and let none begin."""
    _changes.acquire()
    while set(_changing) - {threading.get_ident()}:
        _changes.wait()


def _in_child() -> None:
    global _pool, _pool_lock, _is_forked
    _pool, _pool_lock, _is_forked = None, threading.Lock(), True
    for lock in _locks:
        lock.free()
    _changes.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_changes.release, after_in_child=_in_child
    )
