"""Several threads: one piece of work shared among them, and a lock for what they share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_POOL_SIZE = max(32, 4 * (os.cpu_count() or 1))


def _forget_pool() -> None:
    """Start afresh in a forked child: the parent's threads do not exist there."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


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
        self._readers = 0
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold what is guarded as it is."""
        with self._state:
            while self._closed:
                self._state.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._state:
                self._readers -= 1
                if not self._readers:
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
            yield
        finally:
            with self._state:
                self._closed = False
                self._state.notify_all()
