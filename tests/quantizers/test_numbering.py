"""The numbers of codewords: a permutation of each book, with near codewords in a group."""

from __future__ import annotations

import numpy as np
import pytest

import deepq
from deepq.quantizers.numbering import numbered


def books(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def spread(codebooks, bits):
    """Mean squared distance of codewords to the mean of those with the same lower bits."""
    groups = codebooks.reshape(len(codebooks), -1, 1 << bits, codebooks.shape[2])
    return float(np.square(groups - groups.mean(axis=1, keepdims=True)).mean())


@pytest.mark.parametrize("dsub", [1, 2, 7, 300])
def test_every_book_keeps_its_codewords(dsub):
    given = books(dsub, (3, 256, dsub))
    found = numbered(given)
    for one, other in zip(given, found, strict=True):
        np.testing.assert_array_equal(np.unique(one, axis=0), np.unique(other, axis=0))
    assert found.dtype == np.float32


def test_codewords_that_share_lower_bits_are_near_and_nearer_the_more_they_share():
    given = books(0, (4, 256, 4))
    found = [spread(numbered(given), bits) for bits in (0, 4, 5, 6, 7)]
    assert found == sorted(found, reverse=True)
    assert found[1] < spread(given, 4) / 2


def test_equal_codewords_and_other_sizes_are_taken():
    np.testing.assert_array_equal(numbered(np.ones((2, 256, 3), np.float32)), 1)
    given = books(1, (2, 64, 3))
    assert numbered(given) is given


def test_training_numbers_the_codewords():
    x = books(2, (3000, 8))
    index = deepq.DeepQuantIndex(8, 2, training=deepq.TrainConfig(epochs=2, ranking=False))
    index.train(x)
    np.testing.assert_array_equal(numbered(index.codebooks), index.codebooks)
