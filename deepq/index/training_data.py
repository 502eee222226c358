"""What a user trains on and with, in all its forms, as rows, labels and settings."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepq._common.arrays import as_vectors, flattened
from deepq._common.checks import as_size
from deepq._common.errors import InputError, KindError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.index.torch_data import is_torch_data, read_torch_data
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

# The default of pq.cp.niter, which stands for deepq's own default.
_FAISS_ITERATIONS = 25


def faiss_settings(cp: Any) -> TrainConfig:
    """Return the settings of a training that faiss's clustering parameters stand for."""
    epochs = None if cp.niter == _FAISS_ITERATIONS else as_size(cp.niter, "pq.cp.niter")
    return TrainConfig(seed=cp.seed, epochs=epochs)


def rows_for(
    encoder: Encoder, x: Any, name: str = "x", *, finite: bool = False, keep_bytes: bool = False
) -> Floats:
    """Rows (n, d_in) of what a user gives to an encoder, which may warn of them.

    They are vectors, or images where the encoder takes these. Raises as `as_vectors`.
    """
    image = encoder.input_shape
    rows = as_vectors(x, encoder.d_in, name, finite=finite, image=image, keep_bytes=keep_bytes)
    encoder.look_at(rows)
    return rows


def training_data(x: Any, y: Any, d: int, image: tuple[int, ...]) -> tuple[Any, Any]:
    """Rows (n, d), or a callable that gives blocks of them, and labels, of what is given.

    `image` is the shape of one vector or image, as the encoder has it.

    Raises
    ------
    InputError
        If there are labels in both, or a row is not finite.
    KindError, DimensionError
        If `x` is not made of such rows, or is a callable beside labels.
    """
    if is_torch_data(x):
        kind = type(x).__name__
        x, found = read_torch_data(x)
        if y is not None and found is not None:
            raise InputError(f"expected labels from y or from the {kind}, got both")
        y = found if y is None else y
    if y is not None and callable(x):
        raise KindError("expected an array to train on with labels, got a callable")
    return _rows(x, d, image), y


def _rows(x: Any, d: int, image: tuple[int, ...]) -> Any:
    if isinstance(x, np.memmap):  # which is read, and checked, in parts
        as_vectors(x[:0], d, image=image)
        return flattened(x, image)
    return x if callable(x) else as_vectors(x, d, finite=True, image=image, keep_bytes=True)


def for_polysemous(x: Any, quantizer: ProductQuantizer, most: int, d: int) -> Floats:
    """Take the last rows (m, d), by faiss's rule, to put codewords into an order by them.

    Raises InputError where there are no such rows, or codewords that stay in order.
    """
    if quantizer.is_frozen:
        name = type(quantizer).__name__
        raise InputError(
            f"expected no do_polysemous_training with a {name}, whose codewords stay in order"
        )
    if callable(x):
        raise InputError("expected an array to train on for polysemous codes, got a callable")
    first = len(x) - min(most, len(x) // 4)
    return as_vectors(np.asarray(x[first:]), d, finite=True, rows=first)
