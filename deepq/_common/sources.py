"""Rows that are not in memory, and are read in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.types import Ids

Array = NDArray[Any]

BLOCK = 1 << 14  # rows of a block, where nobody says how many
_NUMBERS = 1 << 21  # that are read at a time, for which readers take several times more memory


class RowSource:
    """Rows (n, d) somewhere outside of memory, which are read when they are asked for.

    It has the `shape`, `dtype`, length and slices of an array; a slice is an array, and so is what
    an array of row numbers asks for. `blocks` reads in order, and `numpy.asarray` reads all. An
    index takes it as it takes an array: `train` reads a sample, or what it learns from, and `add`
    reads block by block.

    A class derived from this says how a part is read: `_read_part`.

    Parameters
    ----------
    name : str
        What it is called in errors.
    bounds : array_like of int, (parts + 1,)
        Where its parts begin, and where the last one ends: a part can be read without the others.
    d : int
        Numbers in a row.
    dtype : dtype
        Kind of the numbers.
    """

    ndim = 2

    def __init__(self, name: str, bounds: ArrayLike, d: int, dtype: Any) -> None:
        self.name = name
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._bounds: Ids = np.array(bounds, np.int64)
        self.shape = (int(self._bounds[-1]), int(d))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.shape} {self.dtype}>"

    def __len__(self) -> int:
        return self.shape[0]

    def _read_part(self, i: int, size: int) -> Iterator[Array]:
        """Yield the rows of part `i` in order, as arrays (m, d), m at most about `size`."""
        raise NotImplementedError

    def blocks(self, size: int = BLOCK, start: int = 0, stop: int | None = None) -> Iterator[Array]:
        """Yield the rows from `start` to `stop`, by default all, `size` at a time: (m, d) arrays.

        Raises
        ------
        FormatError, OSError
            If the file is damaged, has become another, or cannot be read.
        """
        stop = len(self) if stop is None else stop
        return _regrouped(self._pieces(size, start, stop), size)

    def __iter__(self) -> Iterator[Array]:
        """Yield every row (d,)."""
        for block in self.blocks():
            yield from block

    def __getitem__(self, rows: Any) -> Array:
        """Read the row of a number, a slice of rows, or those of an array of numbers or bools.

        Raises InputError for a row that is not there, KindError for anything else.
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                return self._take(np.arange(start, stop, step))
            return _joined(list(self._pieces(BLOCK, start, stop)), self._none())
        numbers = np.asarray(rows)
        if numbers.dtype == np.bool_ and numbers.shape == (len(self),):
            return self._take(np.flatnonzero(numbers))
        if (numbers.dtype.kind not in "iu" and numbers.size) or numbers.ndim > 1:
            raise KindError(
                f"expected a row number, a slice, or an array of row numbers, got {rows!r:.80}"
            )
        taken = self._take(np.atleast_1d(numbers).astype(np.int64))
        return taken if numbers.ndim else taken[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Read all rows."""
        if copy is False:
            raise ValueError("expected copy=None or True for rows that are read, got False")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    @property
    def _few(self) -> int:
        """Rows that are read at a time."""
        return max(1, min(BLOCK, _NUMBERS // max(1, self.shape[1])))

    def _none(self) -> Array:
        return np.empty((0, self.shape[1]), self.dtype)

    def _pieces(self, size: int, start: int, stop: int) -> Iterator[Array]:
        """Yield the rows from `start` to `stop` in pieces as they come."""
        if start >= stop:
            return
        size = min(size, self._few)
        for i in range(int(np.searchsorted(self._bounds, start, "right")) - 1, len(self._bounds)):
            first = int(self._bounds[i])
            if first >= stop:
                return
            for piece in self._checked_part(i, size):
                kept = piece[max(start - first, 0) : stop - first]
                if len(kept):
                    yield kept
                first += len(piece)
                if first >= stop:
                    return

    def _take(self, rows: Ids) -> Array:
        """Read rows (m, d) by their numbers, in any order; only the parts that have one."""
        n = len(self)
        if len(rows) and not -n <= rows.min() <= rows.max() < n:
            raise InputError(
                f"expected rows of {self.name} from 0 to {n - 1}, got {rows.min()} to {rows.max()}"
            )
        rows = np.where(rows < 0, rows + n, rows)
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        out = np.empty((len(rows), self.shape[1]), self.dtype)
        parts = np.unique(np.searchsorted(self._bounds, wanted, "right") - 1)
        for i in parts.tolist():
            first, last = int(self._bounds[i]), int(self._bounds[i + 1])
            end = np.searchsorted(wanted, last)
            for piece in self._checked_part(i, self._few):
                low, high = np.searchsorted(wanted, [first, first + len(piece)])
                out[order[low:high]] = piece[wanted[low:high] - first]
                first += len(piece)
                if high == end:
                    break
        return out

    def _checked_part(self, i: int, size: int) -> Iterator[Array]:
        """Yield the rows of a part, which must be as many as there were when it was opened."""
        expected, count = int(self._bounds[i + 1] - self._bounds[i]), 0
        for piece in self._read_part(i, size):
            count += len(piece)
            if count > expected or piece.shape[1:] != self.shape[1:] or piece.dtype != self.dtype:
                break
            yield piece
            if count == expected:
                return
        if count != expected or expected:
            raise FormatError(
                f"{self.name}: expected {expected} rows of {self.shape[1]} {self.dtype} from row "
                f"{self._bounds[i]} on, as when it was opened, got others"
            )


def is_outside(x: Any) -> bool:
    """Whether these are rows that are not in memory: mapped from a file, or read from one."""
    return isinstance(x, np.memmap | RowSource)


def row_blocks(x: Any, size: int) -> Iterator[Any]:
    """Yield the rows of an array or a source in order, `size` at a time."""
    if isinstance(x, RowSource):
        return x.blocks(size)
    return (x[i : i + size] for i in range(0, len(x), size))


def _regrouped(pieces: Iterable[Array], size: int) -> Iterator[Array]:
    """Put pieces together, or cut them, to blocks of `size` rows; the last may have fewer."""
    waiting: list[Array] = []
    count = 0
    for piece in pieces:
        rest = piece
        while len(rest):
            part, rest = rest[: size - count], rest[size - count :]
            waiting.append(part)
            count += len(part)
            if count == size:
                yield _joined(waiting, part)
                waiting, count = [], 0
    if waiting:
        yield _joined(waiting, waiting[0])


def _joined(pieces: list[Array], otherwise: Array) -> Array:
    """Put rows behind each other, uncopied where there is one piece."""
    if len(pieces) > 1:
        return np.concatenate(pieces)
    return pieces[0] if pieces else otherwise
