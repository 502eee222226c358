"""Queries that come at the same time, asked together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from deepq._common.types import Floats


class _Waiting(NamedTuple):
    z: Floats
    key: Hashable
    future: Future[Any]


class Batcher:
    """Joins the queries of several threads: what comes while a call is under way is the next call.

    So a query that comes alone waits for nobody.

    Parameters
    ----------
    answer : callable
        Embeddings (n, d_out) and a key -> a tuple; arrays in it have a row for each query, anything
        else is for all.
    most : int
        Queries in a call, unless one thread asks with more.
    """

    def __init__(self, answer: Callable[[Floats, Any], tuple[Any, ...]], most: int = 1024) -> None:
        self._answer, self._most = answer, most
        self._came: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="deepq batches", daemon=True)
        self._thread.start()

    def __call__(self, z: Floats, key: Hashable) -> Any:
        """Answer for queries; those with an equal key may be asked together."""
        if not self._thread.is_alive():
            raise RuntimeError("expected a batcher that is open, got one that is closed")
        future: Future[Any] = Future()
        self._came.put(_Waiting(z, key, future))
        return future.result()

    def close(self) -> None:
        """Answer what has come, and end."""
        self._came.put(None)
        self._thread.join()

    def _work(self) -> None:
        first = self._came.get()
        while first is not None:
            batch, count, following = [first], len(first.z), None
            while following is None and count < self._most:
                try:
                    each = self._came.get_nowait()
                except queue.Empty:
                    break
                if each is None:
                    self._ask(batch)
                    return
                if each.key == first.key and count + len(each.z) <= self._most:
                    batch.append(each)
                    count += len(each.z)
                else:
                    following = each
            self._ask(batch)
            first = self._came.get() if following is None else following

    def _ask(self, batch: list[_Waiting]) -> None:
        try:
            found = self._answer(np.concatenate([each.z for each in batch]), batch[0].key)
        except BaseException as error:
            for each in batch:
                each.future.set_exception(error)
            return
        start = 0
        for each in batch:
            rows = slice(start, start + len(each.z))
            own = (part[rows] if isinstance(part, np.ndarray) else part for part in found)
            each.future.set_result(tuple(own))
            start = rows.stop
