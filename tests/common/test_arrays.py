"""Arrays of other libraries: those of DLPack, and those that must not be written to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepq
from deepq._common.arrays import as_array, as_vectors

X = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)


class Foreign:
    """An array of a library that knows DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Elsewhere(Foreign):
    """The same in the memory of a GPU."""

    def __dlpack__(self, **how: Any) -> Any:
        raise BufferError("not in the memory of the CPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.fixture
def index() -> Any:
    made = deepq.DeepQuantIndex(8, 4, 4, training=deepq.TrainConfig(epochs=1))
    made.train(X)
    return made


def test_it_is_taken_without_a_copy():
    assert np.shares_memory(as_array(Foreign(X), "x"), X)
    assert np.shares_memory(as_vectors(Foreign(X), 8), X)


def test_every_method_takes_it(index):
    other = index.copy_empty()
    index.add(X)
    other.add(Foreign(X))
    right = index.search(X[:5], 3)
    for found in (other.search(Foreign(X[:5]), 3), index.search(Foreign(X[:5]), k=3)):
        np.testing.assert_array_equal(found[0], right[0])
        np.testing.assert_array_equal(found[1], right[1])
    codes = index.sa_encode(Foreign(X))
    np.testing.assert_array_equal(index.sa_decode(Foreign(codes)), index.reconstruct_n())
    ids = np.array([3, 1])
    np.testing.assert_array_equal(
        index.reconstruct_batch(Foreign(ids)), index.reconstruct_batch(ids)
    )
    assert other.remove_ids(Foreign(ids)) == 2
    fresh = deepq.DeepQuantIndex(8, 4, 4, training=deepq.TrainConfig(epochs=1))
    fresh.train(Foreign(X))
    assert fresh.fingerprint == index.fingerprint
    cells = deepq.DeepQuantIVFIndex(8, 4, 4, 4, training=deepq.TrainConfig(epochs=1))
    cells.train(Foreign(X))
    cells.add_with_ids(Foreign(X), Foreign(np.arange(400) + 7))
    assert cells.search(Foreign(X[:5]), 1)[1].min() >= 7


def test_functions_take_it(index):
    index.add(X)
    I = index.search(X[:5], 3)[1]
    D, gt = deepq.datasets.exact_neighbours(Foreign(X), Foreign(X[:5]), 3)
    np.testing.assert_array_equal(D, deepq.datasets.exact_neighbours(X, X[:5], 3)[0])
    recall = deepq.metrics.recall(I, gt, k=3, r=3)
    assert deepq.metrics.recall(Foreign(I), Foreign(gt), k=3, r=3) == recall
    measures = ["3-recall@3"]
    assert deepq.evaluate(index, Foreign(X[:5]), gt, measures) == {"3-recall@3": recall}
    assert deepq.diagnose(index, Foreign(X)).n == 400


def test_other_dtypes_become_float32(index):
    index.add(X)
    right = index.search(X[:5].astype(np.float16).astype(np.float32), 3)[0]
    np.testing.assert_array_equal(index.search(Foreign(X[:5].astype(np.float16)), 3)[0], right)


def test_what_is_elsewhere_is_refused(index):
    for call in (index.add, index.train, lambda x: index.search(x, 3), index.sa_encode):
        with pytest.raises(TypeError, match="DLPack, from the memory of the CPU"):
            call(Elsewhere(X))
    with pytest.raises(TypeError, match="by DLPack"):
        deepq.diagnose(index, Elsewhere(X))
    assert index.ntotal == 0


def test_results_leave_by_dlpack(index):
    torch = pytest.importorskip("torch")
    index.add(X)
    D, I = index.search(X[:5], 3)
    np.testing.assert_array_equal(torch.from_dlpack(D).numpy(), D)
    np.testing.assert_array_equal(torch.from_dlpack(I).numpy(), I)


def test_tensors_of_dlpack_and_torch_are_one(index):
    torch = pytest.importorskip("torch")
    index.add(torch.from_dlpack(X))
    np.testing.assert_array_equal(
        index.search(torch.from_numpy(X[:3]), 1)[1], index.search(X[:3], 1)[1]
    )


# ---- arrays that must not be written to, as those that Ray hands over ----------------------------


def test_read_only_arrays_are_taken_everywhere(index):
    def still(array: Any) -> Any:
        array = np.array(array)
        array.flags.writeable = False
        return array

    fresh = deepq.DeepQuantIndex(8, 4, 4, "cosine", training=deepq.TrainConfig(epochs=1))
    fresh.train(still(X))
    fresh.add(still(X))
    D, I = fresh.search(still(X[:5]), 3)
    index.add(still(X))
    codes = still(index.sa_encode(still(X)))
    index.add_sa_codes(codes)
    index.sa_decode(codes)
    assert index.ntotal == 800
    gt = still(deepq.datasets.exact_neighbours(still(X), still(X[:5]), 3)[1])
    deepq.metrics.recall(still(I), gt, k=3, r=3)
    deepq.evaluate(index, still(X[:5]), gt, ["3-recall@3"])
    deepq.diagnose(index, still(X))
    with pytest.raises(ValueError, match="read-only"):
        index.search(X[:5], 3, D=still(D), I=I)
    cells = deepq.DeepQuantIVFIndex(8, 4, 4, 4, training=deepq.TrainConfig(epochs=1))
    cells.train(still(X))
    cells.add_with_ids(still(X), still(np.arange(400)))
    tags = still(X > 0)
    labelled = deepq.recipes.dqn(8, 8)
    labelled.training = deepq.TrainConfig(epochs=1)
    labelled.train(still(X), tags)


def of_rows(rows: Any) -> Any:
    """An array of arrays, as Ray makes of a column of lists."""
    made = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        made[i] = row
    return made


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_arrays_of_rows_are_stacked(index, kind):
    other = deepq.DeepQuantIndex(8, 4, 4, training=index.training)
    other.train(of_rows([kind(row) for row in X]))
    assert other.fingerprint == index.fingerprint
    index.add(X)
    other.add(of_rows([kind(row) for row in X]))
    right = index.search(X[:3], 2)
    np.testing.assert_array_equal(other.search(of_rows(list(X[:3])), 2)[1], right[1])


def test_a_row_of_another_length_is_named(index):
    ragged = of_rows([*X[:7], X[0, :5], X[1]])
    with pytest.raises(ValueError, match="expected rows of 8 numbers in x, got 5 in row 7"):
        index.add(ragged)
    with pytest.raises(ValueError, match=r"expected x of shape \(n, 8\), got \(2,\)"):
        index.add(of_rows(["a", "b"]))
    with pytest.raises((TypeError, ValueError), match="expected"):
        index.add(of_rows([[None] * 8]))
