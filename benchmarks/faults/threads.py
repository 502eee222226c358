"""Several threads add while several search: what was found, and what is there in the end."""

from __future__ import annotations

import threading
import time
from typing import Any

import faiss
import numpy as np

import deepq
from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.files import Sizes

_SIZES = Sizes()
_ROWS, _QUERIES, _K = 50, 8, 10
_PAUSE = 0.002  # of an adder, so that searches are not slowed down by the number of vectors
_ADDERS, _SEARCHERS = 4, 4


def made() -> deepq.DeepQuantIndex:
    """Make a trained index."""
    index = faiss.IndexPQ(_SIZES.d, _SIZES.M, _SIZES.nbits)
    index.train(_SIZES._replace(n=10_000).x(1))
    return deepq.from_faiss(index)


def trial(seconds: float) -> dict[str, Any]:
    """Let threads add and search, in a child; count what is not as it must be."""
    index = made()
    try:
        return in_child(lambda: _life(index, seconds), seconds=4 * seconds + 60, memory=8 << 30)
    except CrashError as error:
        return {"outcome": f"crash: {error}"}
    except HangError as error:
        return {"outcome": f"hang: {error}"}


def _life(index: Any, seconds: float) -> dict[str, Any]:
    """Return the counts; "wrong" are searches that no moment of the index explains."""
    index.add(_batch(0, 0))
    queries, until = _SIZES._replace(n=_QUERIES).x(5), time.monotonic() + seconds
    added, errors = [0] * _ADDERS, list[str]()
    answers: list[set[bytes]] = [set() for _ in range(_SEARCHERS)]
    searches = [0] * _SEARCHERS

    def add(who: int) -> None:
        while time.monotonic() < until:
            index.add(_batch(who + 1, added[who]))
            added[who] += 1
            time.sleep(_PAUSE)

    def search(who: int) -> None:
        while time.monotonic() < until:
            answers[who].add(_bytes(*index.search(queries, _K)))
            searches[who] += 1

    def guarded(work: Any, who: int) -> None:
        try:
            work(who)
        except Exception as error:
            errors.append(repr(error))

    workers = [(add, who) for who in range(_ADDERS)] + [(search, w) for w in range(_SEARCHERS)]
    threads = [threading.Thread(target=guarded, args=worker) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments = _moments(index, queries)
    batches = [(0, 0)] + [(who + 1, turn) for who in range(_ADDERS) for turn in range(added[who])]
    there = faiss.vector_to_array(index.codes).reshape(-1, _SIZES.M)
    wrong = sum(answer not in moments for who in answers for answer in who)
    counts = {
        "adds": len(batches),
        "searches": sum(searches),
        "answers": len(set().union(*answers)),
        "wrong": wrong,
        "lost": _missing(index, there, batches),
        "errors": len(errors),
    }
    bad = wrong or counts["lost"] or errors
    return {"outcome": "wrong" if bad else "right", **counts}


def _batch(who: int, turn: int) -> np.ndarray:
    return _SIZES._replace(n=_ROWS).x(1_000_000 * who + turn)


def _bytes(D: Any, I: Any) -> bytes:
    return bytes(D.tobytes() + I.tobytes())


def _missing(index: Any, there: np.ndarray, batches: list[tuple[int, int]]) -> int:
    """Count the vectors that are not there, in one piece with those they were added with."""
    pieces = [
        piece.tobytes()
        for piece in there[: len(there) // _ROWS * _ROWS].reshape(-1, _ROWS, _SIZES.M)
    ]
    wanted = {index.sa_encode(_batch(*batch)).tobytes() for batch in batches}
    extra = abs(len(there) - len(batches) * _ROWS)
    return extra + _ROWS * len(wanted.difference(pieces))


def _moments(index: Any, queries: np.ndarray) -> set[bytes]:
    """Return what a search finds after every batch, from the distances of all codes."""
    D, I = index.search(queries, index.ntotal)
    distances = np.empty_like(D)
    np.put_along_axis(distances, I, D, axis=1)
    best_D = np.empty((_QUERIES, 0), np.float32)
    best_I = np.empty((_QUERIES, 0), np.int64)
    found = set()
    for start in range(0, index.ntotal, _ROWS):
        ids = np.broadcast_to(np.arange(start, start + _ROWS), (_QUERIES, _ROWS))
        D = np.hstack([best_D, distances[:, start : start + _ROWS]])
        I = np.hstack([best_I, ids])
        order = np.lexsort((I, D), axis=1)[:, :_K]
        best_D, best_I = (np.take_along_axis(each, order, 1) for each in (D, I))
        found.add(_bytes(best_D, best_I))
    return found
