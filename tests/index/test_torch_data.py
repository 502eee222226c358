"""Torch's data sets and loaders as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from deepq._common.errors import DimensionError, InputError, KindError
from deepq.index.torch_data import is_torch_data, read_torch_data

X = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4)).astype(np.uint8)
Y = np.arange(10) % 3


class Listed(Dataset):
    def __init__(self, members: list[Any]) -> None:
        self.members = members

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> Any:
        return self.members[i]


class Streamed(IterableDataset):
    def __init__(self, members: list[Any]) -> None:
        self.members = members

    def __iter__(self) -> Any:
        return iter(self.members)


def pairs() -> list[Any]:
    return list(zip(torch.from_numpy(X), Y.tolist(), strict=True))


SOURCES = {
    "map": lambda: Listed(pairs()),
    "stream": lambda: Streamed(pairs()),
    "tensors": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "loader": lambda: DataLoader(Listed(pairs()), batch_size=4),
    "loader of a stream": lambda: DataLoader(Streamed(pairs()), batch_size=4),
    "loader without batches": lambda: DataLoader(Listed(pairs()), batch_size=None),
    "loader with a batch sampler": lambda: DataLoader(
        Listed(pairs()), batch_sampler=[[0, 1, 2], [3], [4, 5, 6, 7, 8, 9]]
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_all_kinds_give_the_same(source) -> None:
    state = torch.random.get_rng_state()
    assert is_torch_data(SOURCES[source]())
    x, y = read_torch_data(SOURCES[source]())
    assert x.dtype == np.uint8
    assert y is not None
    assert y.dtype == np.int64
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_shuffling_loader_keeps_pairs_together() -> None:
    x, y = read_torch_data(DataLoader(Listed(pairs()), batch_size=3, shuffle=True))
    order = [int(np.flatnonzero((image == X).all((1, 2, 3)))[0]) for image in x]
    np.testing.assert_array_equal(y, Y[order])
    assert sorted(order) == list(range(10))


def test_dtypes() -> None:
    x, y = read_torch_data(Listed([(x.astype(np.float64) / 255, [True, False]) for x in X]))
    assert x.dtype == np.float32
    assert y is not None
    assert (y.dtype, y.shape) == (np.bool_, (10, 2))
    x, y = read_torch_data(TensorDataset(torch.ones(4, 3, dtype=torch.bfloat16)))
    assert (x.dtype, x.shape) == (np.float32, (4, 3))
    assert y is None
    x, y = read_torch_data(Listed([torch.zeros(3)] * 5))
    assert x.shape == (5, 3)
    assert y is None


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (Listed([]), InputError),
        (Streamed([]), InputError),
        (Listed([(X[0], 1), (X[1][:2], 1)]), DimensionError),
        (Listed([(X[0], 1), (X[1], [0, 1])]), DimensionError),
        (Listed([(X[0], 1), (X[1],)]), InputError),
        (Listed([(X[0],), (X[1], 1)]), InputError),
        (Listed([(X[0], 1, 2)]), KindError),
        (Listed([(X[0], "cat")]), KindError),
        (Listed([{"image": X[0], "label": 1}]), KindError),
        (Listed([("a", 1)]), KindError),
        (Listed([3, 4]), DimensionError),
        (Dataset(), KindError),
    ],
)
def test_other_data_is_refused(source, error) -> None:
    with pytest.raises(error, match=r"expected .*, got"):
        read_torch_data(source)


def test_other_things_are_no_torch_data() -> None:
    for other in (X, torch.from_numpy(X), [X], iter([X]), lambda: X, None):
        assert not is_torch_data(other)
