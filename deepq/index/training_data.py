"""What a user trains on and with, in all its forms, as rows, labels and settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepq._common.arrays import as_vectors, flattened
from deepq._common.checks import as_size
from deepq._common.errors import InputError, KindError
from deepq._common.sources import RowSource, is_outside, row_blocks
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.index.torch_data import is_torch_data, read_torch_data
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

# The default of pq.cp.niter, which stands for deepq's own default.
_FAISS_ITERATIONS = 25
_BLOCK, _NUMBERS = 1 << 16, 1 << 26  # rows, and numbers, in a block of vectors
_NUMBERS_READ = (
    1 << 21
)  # in one that is read from a file, for which readers take several times more
_LOOKED_AT = 1 << 10  # rows, before all are read


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


def rows_to_add(encoder: Encoder, x: Any) -> Any:
    """Rows (n, d_in) to go through block by block: those outside of memory stay there, unchecked.

    Raises as `as_vectors`.
    """
    if not is_outside(x):
        return rows_for(encoder, x, finite=True, keep_bytes=True)
    rows_for(encoder, np.asarray(x[:_LOOKED_AT]))
    return flattened(x, encoder.input_shape)


def checked_blocks(x: Any, *, progress: bool = False) -> Iterator[tuple[int, Floats]]:
    """Yield the number of the first row, and rows (m, d) float32, of blocks of `rows_to_add`.

    Those from outside of memory are checked here: raises InputError where one is not finite.
    """
    first, outside = 0, is_outside(x)
    size = max(1, min(_BLOCK, (_NUMBERS_READ if outside else _NUMBERS) // x.shape[1]))
    blocks = row_blocks(x, size)
    if progress:
        from tqdm import tqdm  # which takes longer to import than all that adds

        blocks = tqdm(blocks, desc="encode", total=-(-len(x) // size), unit="block")
    for block in blocks:
        yield first, as_vectors(np.asarray(block), x.shape[1], finite=outside, rows=first)
        first += len(block)


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
    if y is not None and isinstance(x, RowSource):  # whose rows a network asks for in any order
        x = x[:]
    return _rows(x, d, image), y


def _rows(x: Any, d: int, image: tuple[int, ...]) -> Any:
    if is_outside(x):  # which is read, and checked, in parts
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
