"""Codebooks learned on Ray: the same bits for any number of workers, whatever dies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray

from deepq._common.errors import InputError
from deepq.distributed import learn_codebooks, training
from deepq.distributed.training import BLOCK
from tests.distributed.on_ray.conftest import CPUS
from tests.distributed.test_training import NBITS, M, in_files, rows

pytestmark = pytest.mark.usefixtures("small_ray")

ITERATIONS = 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Any]:
    return in_files(tmp_path_factory.mktemp("shards"))


def learn(shards: Any, **options: Any) -> np.ndarray:
    options = {"iterations": ITERATIONS, "timeout": 300, **options}
    return learn_codebooks(shards, M, NBITS, **options).trained()


@pytest.fixture(scope="module")
def whole(shards) -> np.ndarray:
    return learn(shards)


def test_workers_learn_what_one_process_does(shards, whole) -> None:
    np.testing.assert_array_equal(learn(shards, workers=4), whole)


def test_a_worker_that_is_killed_says_what_it_would_have_said(shards, whole, monkeypatch) -> None:
    calls, real = [], training._OnRay.ask

    def ask(self: Any, method: str, *arguments: Any) -> list[Any]:
        calls.append(method)
        if len(calls) == 3:
            ray.kill(self._holders[1], no_restart=False)
        return real(self, method, *arguments)

    monkeypatch.setattr(training._OnRay, "ask", ask)
    np.testing.assert_array_equal(learn(shards, workers=2), whole)
    assert calls == ["look", *["step"] * ITERATIONS]


def test_what_a_worker_refuses_is_told() -> None:
    bad = rows(BLOCK + 50)
    bad[BLOCK + 7, 3] = np.nan
    with pytest.raises(InputError, match=f"finite numbers in a shard.* row {BLOCK + 7}"):
        learn(bad, workers=2)


def test_too_few_cpus_are_named_in_time(shards) -> None:
    with pytest.raises(TimeoutError, match=f"expected {CPUS + 1} workers of 1 CPUs"):
        learn(shards, workers=CPUS + 1, timeout=2)
