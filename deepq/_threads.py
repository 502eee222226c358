"""Several threads: one piece of work shared among them, and a lock for what they share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    global _pool
    others = []
    if num_threads > 1:
        with _pool_lock:
            if _pool is None:
                _pool = ThreadPoolExecutor(_POOL_SIZE, thread_name_prefix="deepq")
            others = [_pool.submit(work) for _ in range(min(num_threads, _POOL_SIZE) - 1)]
    try:
        work()
    finally:
        for other in others:
            if not other.cancel():
                other.exception()
    for other in others:
        if not other.cancelled():
            other.result()


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
        with self._state:
            self._closed = True
            while self._readers:
                self._state.wait()
        try:
            yield
        finally:
            with self._state:
                self._closed = False
                self._state.notify_all()
