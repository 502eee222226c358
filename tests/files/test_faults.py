"""The suite of faults in short: benchmarks/faults/bench_faults.py on a few cases of each kind."""

from __future__ import annotations

import sys

import pytest

GOOD = {
    "corpus": {"refused", "same answers", "undetectable"},
    "every byte": {"refused", "same answers", "undetectable"},
    "kills": {"old", "new"},
    "no room": {"refused"},
    "paths": {"refused", "works"},
    "pickles": {"refused"},
    "threads": {"right"},
}


@pytest.fixture(scope="module")
def faults():
    """The benchmark as a module."""
    pytest.importorskip("torch")
    pytest.importorskip("threadpoolctl")
    from benchmarks.faults import bench_faults

    return bench_faults


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")
@pytest.mark.parametrize("case", GOOD)
def test_every_outcome_is_a_good_one(faults, case, monkeypatch):
    monkeypatch.setattr("benchmarks.faults.files._TRAINING", 1000)  # a file's layout is the same
    rows = list(faults.CASES[case](faults.Amounts(smoke=True), 0))
    assert rows
    for row in rows:
        good = GOOD[case]
        if case in ("corpus", "every byte") and "faiss's" not in row["what"]:
            good = {"refused"}
        assert {name for name, count in row["outcomes"].items() if count} <= good, row
