"""Which images are queries, which are searched, and which are learned from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepq._common.errors import InputError
from deepq._common.types import Ids
from deepq.datasets.dataset import Dataset
from deepq.datasets.image_files import ImageSet


def retrieval_protocol(
    images: ImageSet,
    queries: int | None = 100,
    training: int | None = 500,
    *,
    training_in_base: bool = True,
) -> Dataset:
    """Split labelled images into training rows, base and queries, as papers on retrieval do.

    Queries are the first images of each class in the test part, training rows the first of each
    class in the training part. The base is all of the training part and what is left of the test
    part. Of CIFAR-10:

    ==========================  ========  =======  ======
    arguments                   training  base     query
    ==========================  ========  =======  ======
    none                        5,000     59,000   1,000
    ``training_in_base=False``  5,000     54,000   1,000
    ``None, None``              50,000    50,000   10,000
    ==========================  ========  =======  ======

    Parameters
    ----------
    images : ImageSet
        Such as `cifar10` returns.
    queries, training : int, optional
        How many of each class; None for the whole part.
    training_in_base : bool
        Whether training rows may be found.

    Returns
    -------
    Dataset
        uint8 rows (n, channels * height * width), with labels.

    Raises
    ------
    InputError
        If a class has too few images, or nothing is left for the base.
    """
    drawn = _first_of_each_class(images.test_labels, queries, f"{images.name}: test")
    is_training_row = _first_of_each_class(
        images.train_labels, training, f"{images.name}: training"
    )
    kept = np.full(len(is_training_row), fill_value=True) if training_in_base else ~is_training_row
    if not kept.any() and drawn.all():
        raise InputError(f"{images.name}: expected images that are left for the base, got none")
    train, test = (x.reshape(len(x), -1) for x in (images.train, images.test))
    return Dataset(
        name=images.name,
        train=train[is_training_row],
        base=np.concatenate([train[kept], test[~drawn]]),
        query=test[drawn],
        train_labels=images.train_labels[is_training_row],
        base_labels=np.concatenate([images.train_labels[kept], images.test_labels[~drawn]]),
        query_labels=images.test_labels[drawn],
        label_names=images.label_names,
    )


def _first_of_each_class(labels: Ids, count: int | None, part: str) -> npt.NDArray[np.bool_]:
    chosen = np.full(len(labels), fill_value=count is None)
    if count is None:
        return chosen
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if not 1 <= count <= len(rows):
            raise InputError(
                f"{part}: expected from 1 to {len(rows)} images of class {label}, got {count}"
            )
        chosen[rows[:count]] = True
    return chosen
