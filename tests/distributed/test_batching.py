"""Queries that come at the same time are asked together, and each gets its own answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from deepq.distributed.batching import Batcher


def rows(*numbers):
    return np.array(numbers, np.float32)[:, None]


class Asked:
    """Doubles numbers, and keeps what it was asked; a number below 0 is an error."""

    def __init__(self):
        self.calls, self.first, self.go = [], threading.Event(), threading.Event()

    def __call__(self, z, key):
        self.calls.append((z[:, 0].tolist(), key))
        self.first.set()
        self.go.wait()
        if (z < 0).any():
            raise ValueError("below 0")
        return 2 * z, "for all"


def ask_at_once(batcher, asked, questions):
    """Ask the first question alone, and the others while it is under way."""
    found, threads = {}, []

    def one(number, z, key):
        try:
            found[number] = batcher(z, key)
        except ValueError as error:
            found[number] = error

    for number, (z, key) in enumerate(questions):
        thread = threading.Thread(target=one, args=(number, z, key))
        thread.start()
        threads.append(thread)
        if number == 0:
            asked.first.wait()
        while batcher._came.qsize() < number:
            pass
    asked.go.set()
    for thread in threads:
        thread.join()
    batcher.close()
    return [found[number] for number in range(len(questions))]


def test_what_comes_meanwhile_is_one_call():
    asked = Asked()
    batcher = Batcher(asked)
    found = ask_at_once(batcher, asked, [(rows(1), 5), (rows(2, 3), 5), (rows(4), 5)])
    assert asked.calls == [([1], 5), ([2, 3, 4], 5)]
    assert [part.ravel().tolist() for part, _ in found] == [[2], [4, 6], [8]]
    assert {word for _, word in found} == {"for all"}


def test_other_keys_and_too_many_queries_are_calls_of_their_own():
    asked = Asked()
    batcher = Batcher(asked, most=3)
    questions = [(rows(1), 5), (rows(2), 5), (rows(3), 6), (rows(4, 5), 6), (rows(6, 7, 8, 9), 6)]
    found = ask_at_once(batcher, asked, questions)
    assert asked.calls == [([1], 5), ([2], 5), ([3, 4, 5], 6), ([6, 7, 8, 9], 6)]
    assert found[4][0].ravel().tolist() == [12, 14, 16, 18]


def test_an_error_is_that_of_its_call_and_the_next_ones_go_on():
    asked = Asked()
    batcher = Batcher(asked)
    found = ask_at_once(batcher, asked, [(rows(1), 5), (rows(-2), 5), (rows(3), 5), (rows(4), 6)])
    assert found[0][0].tolist() == [[2]]
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], ValueError)
    assert found[3][0].tolist() == [[8]]


def test_closing_answers_what_has_come():
    asked = Asked()
    asked.go.set()
    batcher = Batcher(asked)
    assert batcher(rows(3), 1)[0].tolist() == [[6]]
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher(rows(3), 1)
