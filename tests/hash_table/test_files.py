from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest

import deepq
from deepq import HashTableIndex

from .builders import IP, KEPT, XB, XQ, filled, table


def same(a: HashTableIndex, b: HashTableIndex) -> None:
    assert repr(a) == repr(b)
    assert a.fingerprint == b.fingerprint
    assert a.min_candidates == b.min_candidates
    for left, right in zip(a.search(XQ, 6), b.search(XQ, 6), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(params=[(kept, sparsity) for kept in KEPT for sparsity in (1, 2)])
def index(request) -> HashTableIndex:
    kept, sparsity = request.param
    made = filled(kept, sparsity=sparsity, metric=IP, min_candidates=30)
    made.remove_ids(np.arange(5))
    made.history = [{"stage": "metric", "iteration": 0, "loss": 1.5}]
    return made


def test_files_hold_it(index, tmp_path) -> None:
    deepq.write_index(index, tmp_path / "table.dpq")
    back = deepq.read_index(tmp_path / "table.dpq")
    same(back, index)
    assert back.history == index.history
    back.add(XB[:1])
    assert back.search(XB[:1], 1, min_candidates=400)[1] == 400


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_hold_it(index, protocol) -> None:
    content = pickle.dumps(index, protocol)
    same(pickle.loads(content), index)
    same(deepq.load_pickle(io.BytesIO(content)), index)
    with pytest.raises(deepq.FormatError):
        index.__setstate__({})


def test_copies_are_apart(index) -> None:
    for made in (copy.copy(index), copy.deepcopy(index)):
        same(made, index)
        made.reset()
    assert index.ntotal == 395
    empty = index.copy_empty()
    assert empty.ntotal == 0
    assert empty.fingerprint == index.fingerprint
    empty.add(XB)
    assert sorted(empty.search(XB, 1, min_candidates=400)[1][:3, 0]) != []


def test_fingerprints_tell_tables_apart() -> None:
    assert filled().fingerprint == table().fingerprint
    prints = {
        table(kept, sparsity=s, metric=m).fingerprint
        for kept in KEPT
        for s in (1, 2)
        for m in (0, 1)
    }
    assert len(prints) == 12


def test_another_fingerprint_is_refused(tmp_path, monkeypatch) -> None:
    index = filled()
    monkeypatch.setattr("deepq.files.kinds.table_fingerprint", lambda _: "0" * 16)
    deepq.write_index(index, tmp_path / "table.dpq")
    with pytest.raises(deepq.FormatError, match=f"0000 .*{index.fingerprint}|'0{{16}}'"):
        deepq.read_index(tmp_path / "table.dpq")


@pytest.mark.parametrize("at", [60, 200, -100, -9])
def test_damage_is_found(at, tmp_path) -> None:
    path = tmp_path / "table.dpq"
    deepq.write_index(filled(sparsity=2), path)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(deepq.FormatError):
        deepq.read_index(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", np.arange(399)),
        ("ids", -np.arange(400)),
        ("buckets", np.full((400, 1), 25)),
        ("buckets", np.zeros((400, 2), np.int64)),
        ("rows", np.zeros((400, 31), np.uint8)),
        ("rows", np.full((400, 32), 255, np.uint8)),
        ("next_id", 399),
        ("levels", 3),
        ("kept", "float64"),
        ("sparsity", 9),
        ("d", 7),
        ("hasher", {"type": "Identity"}),
    ],
)
def test_a_state_with_a_fault_makes_none(name, value) -> None:
    from deepq.hash_table.state import held_table, made_table

    with held_table(filled()) as state:
        with pytest.raises(deepq.FormatError):
            made_table({**state, name: value}, HashTableIndex)
        del state[name]
        with pytest.raises(deepq.FormatError):
            made_table(state, HashTableIndex)


def test_it_is_not_mapped(tmp_path) -> None:
    deepq.write_index(filled(), tmp_path / "table.dpq")
    with pytest.raises(deepq.InputError, match="mmap=False"):
        deepq.read_index(tmp_path / "table.dpq", mmap=True)
