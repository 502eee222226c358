"""Where the rows to encode come from, in blocks that a worker reads or is sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_array
from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.sources import RowSource
from deepq.datasets.vectors import read_vectors

Rows = NDArray[Any]


@contextmanager
def named_machine() -> Iterator[None]:
    """Name the machine that does not see a file, in the FileNotFoundError that says so."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"expected data that every worker sees, got on {os.uname().nodename}: {error}"
        ) from None


class Opener(NamedTuple):
    """How a worker opens what it reads itself: paths, or a source that knows its files."""

    paths: list[str] | None
    column: str | None
    source: RowSource | None = None

    def described(self) -> list[Any]:
        """Say what it opens, in JSON values: the same as long as no file changes."""
        if self.source is not None:
            return [repr(self.source)]
        stats = [(path, Path(path).stat()) for path in self.paths or []]
        return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats]

    def __call__(self) -> Any:
        """Open it. Raises FileNotFoundError, with the machine's name, if it is not seen there."""
        with named_machine():
            if self.source is not None:
                self.source[:1]
                return self.source
            paths = self.paths or []
            return read_vectors(paths if len(paths) > 1 else paths[0], self.column)


class Block(NamedTuple):
    """Rows `start` to `stop`: for a worker to read, or sent to it as an array (n, d)."""

    start: int
    stop: int
    rows: Rows | None = None
    ids: Rows | None = None


class Files:
    """Rows that workers read: their number is known, and any part can be read alone.

    Parameters
    ----------
    opener : Opener
    d : int
        Numbers that a row must have.
    """

    def __init__(self, opener: Opener, d: int) -> None:
        self.opener, rows = opener, opener()
        if rows.ndim < 2 or int(np.prod(rows.shape[1:])) != d:
            raise InputError(f"expected rows of {d} numbers, got shape {rows.shape}")
        self.n = len(rows)
        self.plan = {"source": opener.described(), "column": opener.column, "rows": self.n}

    def blocks(self, size: int, shard: int, done: set[int]) -> Iterator[Block]:
        """Yield blocks of at most `size` rows; none goes over the end of a shard of `shard` rows.

        Those of shards that are done are left out.
        """
        for first in range(0, self.n, shard):
            if first // shard in done:
                continue
            last = min(self.n, first + shard)
            for start in range(first, last, size):
                yield Block(start, min(last, start + size))


class Stream:
    """Rows of a Ray Dataset, which pass through this process on their way to the workers.

    Their number is not known before the end, and what is done is read again, but not encoded.
    """

    opener, n = None, None

    def __init__(self, dataset: Any, d: int, column: str | None, ids: str | None) -> None:
        self._dataset, self._d, self._column, self._ids = dataset, d, column, ids
        self.plan = {"source": ["a Ray Dataset"], "column": column, "ids": ids}

    def blocks(self, size: int, shard: int, done: set[int]) -> Iterator[Block]:
        """See `Files.blocks`."""
        # In the order of the data set, whichever of its blocks are ready first.
        self._dataset.context.execution_options.preserve_order = True
        start = 0
        for batch in self._dataset.iter_batches(batch_size=size, batch_format="numpy"):
            rows, ids = self._columns(batch)
            while len(rows):
                n = min(len(rows), shard - start % shard)
                if start // shard not in done:
                    yield Block(start, start + n, rows[:n], None if ids is None else ids[:n])
                rows, ids, start = rows[n:], None if ids is None else ids[n:], start + n

    def _columns(self, batch: dict[str, Rows]) -> tuple[Rows, Rows | None]:
        """Rows (n, d) and ids (n,) of a batch."""
        others = [name for name in batch if name != self._ids]
        column = self._column or (others[0] if len(others) == 1 else None)
        if column not in batch or (self._ids is not None and self._ids not in batch):
            asked = [name for name in (self._column or "the only other one", self._ids) if name]
            raise InputError(f"expected the columns {asked}, got {sorted(batch)}")
        rows = batch[column]
        if rows.dtype == object:  # lists of one length come so
            rows = np.stack([np.asarray(row) for row in rows])
        rows = rows.reshape(len(rows), -1)
        if rows.shape[1] != self._d:
            raise InputError(f"expected rows of {self._d} numbers, got shape {batch[column].shape}")
        return rows, None if self._ids is None else batch[self._ids]


def as_source(source: Any, d: int, column: str | None, ids: Any) -> Files | Stream:
    """Open what a user gives: see `encode_dataset`."""
    if isinstance(source, RowSource):
        return Files(Opener(None, column, source), d)
    if isinstance(source, str | os.PathLike):
        source = [source]
    if isinstance(source, list | tuple):
        if not source:
            raise InputError("expected a path at least, got an empty list")
        paths = [str(Path(path).resolve()) for path in source]
        return Files(Opener(paths, column), d)
    if hasattr(source, "iter_batches") and hasattr(source, "map_batches"):
        if ids is not None and not isinstance(ids, str):
            raise KindError(f"expected the name of a column of ids, got {type(ids).__name__}")
        return Stream(source, d, column, ids)
    raise KindError(
        "expected paths, rows that datasets.read_vectors opened, or a Ray Dataset, "
        f"got {type(source).__name__}"
    )


def as_row_ids(ids: Any, n: int) -> Rows | None:
    """Ids (n,) int64 of rows of files: an array, or the path of a .npy file; None for row numbers.

    Raises InputError for others than n integers from 0 on, each once.
    """
    if ids is None:
        return None
    if isinstance(ids, str | os.PathLike):
        try:
            ids = np.load(ids, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise FormatError(f"expected a .npy file of ids at {ids}, got {error}") from error
    ids = as_array(ids, "ids")
    require_ids(ids, n)
    if len(np.unique(ids)) != n:
        raise InputError("expected every id once, got some twice")
    return np.asarray(ids, np.int64)


def require_ids(ids: Rows, n: int) -> None:
    """Raise InputError unless these are n integers from 0 on."""
    if ids.shape != (n,) or ids.dtype.kind not in "iu" or (n and ids.min() < 0):
        raise InputError(
            f"expected {n} integers from 0 on as ids, got {ids.dtype} of shape {ids.shape}"
        )
