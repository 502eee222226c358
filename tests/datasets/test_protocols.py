"""Protocols of retrieval: which rows are queries, base, training."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.datasets import (
    ImageSet,
    retrieval_protocol,
)


class TestProtocol:
    @pytest.fixture
    def images(self):
        rng = np.random.default_rng(0)
        train, test = rng.integers(0, 256, (2, 60, 3, 4, 4), dtype=np.uint8)
        labels = np.stack([rng.permutation(np.arange(60) % 3) for _ in range(2)])
        return ImageSet("small", train, labels[0], test[:30], np.arange(30) % 3, ("a", "b", "c"))

    @pytest.mark.parametrize("in_base", [True, False])
    def test_rows(self, images, in_base):
        found = retrieval_protocol(images, 4, 5, training_in_base=in_base)
        assert found.train.shape == (15, 48)
        assert found.query.shape == (12, 48)
        assert found.base.shape == (60 + 30 - 12 - (0 if in_base else 15), 48)
        assert np.bincount(found.train_labels).tolist() == [5, 5, 5]
        assert found.query_labels.tolist() == [0, 1, 2] * 4
        np.testing.assert_array_equal(found.query, images.test[:12].reshape(12, -1))
        first = np.flatnonzero(images.train_labels == 1)[:5]
        np.testing.assert_array_equal(
            found.train[found.train_labels == 1], images.train[first].reshape(5, -1)
        )
        held = {row.tobytes() for row in found.base}
        assert not held & {row.tobytes() for row in found.query}
        shared = held & {row.tobytes() for row in found.train}
        assert len(shared) == (15 if in_base else 0)
        class_of = {
            row.tobytes(): label
            for x, labels in (
                (images.train, images.train_labels),
                (images.test, images.test_labels),
            )
            for row, label in zip(x, labels, strict=True)
        }
        labels = [class_of[row.tobytes()] for row in found.base]
        assert found.base_labels.tolist() == labels
        assert found.label_names == images.label_names

    def test_the_whole_parts(self, images):
        found = retrieval_protocol(images, None, None)
        np.testing.assert_array_equal(found.train, images.train.reshape(60, -1))
        np.testing.assert_array_equal(found.base, found.train)
        np.testing.assert_array_equal(found.query, images.test.reshape(30, -1))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((11, 5), "small: test: expected from 1 to 10 images of class 0, got 11"),
            ((4, 0), "small: training: expected from 1 to 20 images of class 0, got 0"),
        ],
    )
    def test_too_few_images(self, images, arguments, words):
        with pytest.raises(ValueError, match=words):
            retrieval_protocol(images, *arguments)

    def test_nothing_left(self, images):
        with pytest.raises(ValueError, match="left for the base, got none"):
            retrieval_protocol(images, None, None, training_in_base=False)

    def test_parts_that_do_not_fit(self, images):
        with pytest.raises(ValueError, match=r"test of shape \(n, channels, height, width\)"):
            ImageSet("x", images.train, images.train_labels, images.test[:, :1], images.test_labels)
        with pytest.raises(ValueError, match=r"60 labels for train, got shape \(59,\)"):
            ImageSet("x", images.train, images.train_labels[1:], images.test, images.test_labels)
