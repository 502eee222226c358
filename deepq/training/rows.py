"""Training vectors wherever they are: in memory, in a file, or made block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_array, as_vectors, require_usable, without_tensor
from deepq._common.errors import InputError, KindError
from deepq._common.sources import RowSource, is_outside
from deepq._common.types import Floats, Ids
from deepq.encoders.base import Encoder, embed

Source = Callable[[], Iterable[Any]]

_BLOCK = 16_384
_READ_ROWS, _READ_NUMBERS = 4096, 1 << 24  # of rows that a network sees, at once
_SHUFFLED = 32  # batches of a stream that are mixed with each other


class Rows:
    """Vectors to train on, read in parts.

    Parameters
    ----------
    source : (n, d) array, RowSource, or callable
        An array in memory is checked whole. One that is mapped from a file, or a source, is read
        where it is needed. A callable must return, whenever it is called, a fresh iterator over the
        same blocks, (m, d) arrays.
    d : int
        Length of a vector.
    image : tuple of int
        Shape of an image, where the vectors may come as such.

    Attributes
    ----------
    count : int
        How many there are; of a callable it is known after `sample`.

    Raises
    ------
    DimensionError, KindError, InputError
        If what is there, or comes, is not made of finite (m, d) arrays of real numbers.
    """

    def __init__(self, source: Any, d: int, image: tuple[int, ...] = ()) -> None:
        self.d, self.count, self._image = d, 0, image
        self.array: Any = None
        self._source: Source | None = None
        self._made: Any = None
        if callable(source):
            self._source = source
        elif is_outside(source):
            as_vectors(source[:0], d)
            self.array = source
        else:
            self.array = as_vectors(source, d, finite=True, keep_bytes=True)
        if self.array is not None:
            self.count = len(self.array)

    def sample(self, most: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        """Draw at most `most` rows: their positions, ascending, and the rows (n, d) float32."""
        if self.array is None:
            return self._reservoir(most, rng)
        n = len(self.array)
        if n <= most:
            return np.arange(n), self._take(slice(None))
        positions = np.sort(rng.choice(n, most, replace=False))
        return positions, self._take(positions)

    def batches(self, size: int, without: Ids, seed: int) -> Iterator[Floats]:
        """Yield rows (size, d) in random order, without some positions, again and again.

        Each time around the order is another; rows left over at its end are passed over.
        """
        epoch = 0
        while True:
            rng = np.random.default_rng([seed, epoch])
            batch = None
            batches = self._streamed if self._comes_in_order else self._shuffled
            for batch in batches(size, without, rng):
                yield batch
            if batch is None:
                raise InputError(f"expected at least {size} training vectors, got fewer")
            epoch += 1

    @property
    def _comes_in_order(self) -> bool:
        """Whether single rows are costly to get, so that all are read one after the other."""
        return self.array is None or isinstance(self.array, RowSource)

    def _shuffled(self, size: int, without: Ids, rng: np.random.Generator) -> Iterator[Floats]:
        order = rng.permutation(np.setdiff1d(np.arange(len(self.array)), without))
        for i in range(0, len(order) - size + 1, size):
            yield self._take(order[i : i + size])

    def _streamed(self, size: int, without: Ids, rng: np.random.Generator) -> Iterator[Floats]:
        waiting, count = [], 0
        for first, block in self._blocks():
            kept = ~np.isin(np.arange(first, first + len(block)), without)
            waiting.append(block[kept])
            count += int(kept.sum())
            if count >= size * _SHUFFLED:
                pool = rng.permutation(np.concatenate(waiting))
                whole = len(pool) - len(pool) % size
                yield from (pool[i : i + size] for i in range(0, whole, size))
                waiting, count = [pool[whole:]], len(pool) - whole
        pool = (
            rng.permutation(np.concatenate(waiting))
            if waiting
            else np.empty((0, self.d), np.float32)
        )
        yield from (pool[i : i + size] for i in range(0, len(pool) - size + 1, size))

    def _reservoir(self, most: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        """Draw rows of a stream in one pass: those with the smallest random keys."""
        blocks, keys = [np.empty((0, self.d), np.float32)], [np.empty(0)]
        positions = [np.empty(0, np.int64)]

        def cut() -> tuple[Ids, Floats]:
            """Keep the rows with the smallest keys."""
            all_keys, rows = np.concatenate(keys), np.concatenate(blocks)
            places = np.concatenate(positions)
            kept = np.arange(len(rows))
            if len(rows) > most:
                kept = np.sort(np.argpartition(all_keys, most - 1)[:most])
            blocks[:], keys[:], positions[:] = [rows[kept]], [all_keys[kept]], [places[kept]]
            return positions[0], blocks[0]

        waiting = 0
        for first, block in self._blocks():
            blocks.append(block)
            keys.append(rng.random(len(block)))
            positions.append(np.arange(first, first + len(block)))
            self.count, waiting = first + len(block), waiting + len(block)
            if waiting > most:
                cut()
                waiting = 0
        return cut()

    def _blocks(self) -> Iterator[tuple[int, Floats]]:
        """Position of the first row, and rows, of every block of a stream."""
        first = 0
        for given in self._called() if self.array is None else self.array.blocks(_BLOCK):
            for piece in _pieces(without_tensor(given)):
                block = as_vectors(
                    as_array(piece, "a block"),
                    self.d,
                    finite=True,
                    image=self._image,
                    rows=first,
                )
                yield first, block
                first += len(block)

    def _called(self) -> Iterable[Any]:
        """Return what the callable makes."""
        kind = getattr(self._source, "__name__", type(self._source).__name__)
        expected = "expected x to be an array, or a callable that returns an iterator over arrays"
        try:
            made: Any = self._source() if self._source is not None else ()
        except TypeError as error:
            raise KindError(f"{expected}, got {kind}: {error}") from error
        if not isinstance(made, Iterable):
            raise KindError(f"{expected}, got {kind}, which returns {type(made).__name__}")
        if made is self._made and iter(made) is made:
            raise InputError(f"{expected}, a fresh one at every call, got the same from {kind}")
        self._made = made
        return made

    def _take(self, rows: Any) -> Floats:
        """Rows as float32, checked."""
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is what is checked
            x = np.ascontiguousarray(self.array[rows], dtype=np.float32)
        if is_outside(self.array):
            require_usable(x, "training vectors", 0 if isinstance(rows, slice) else rows)
        return x


def _pieces(given: Any) -> Iterator[Any]:
    """Yield the rows of a block, an array or what becomes one, not too many at a time."""
    try:
        for i in range(0, len(given), _BLOCK):
            yield given[i : i + _BLOCK]
    except (TypeError, KeyError) as error:  # no length, or no slices
        raise KindError(
            f"expected arrays as blocks, got {type(given).__name__}: {error}"
        ) from error


class Inputs:
    """Rows that are made when they are asked for.

    Parameters
    ----------
    x : (n, d) array
        Training vectors; they may be mapped from a file, and are then checked as they are read.
    queries : (p, d) float32 or uint8, optional
        Stand behind them, as rows too.
    before : Encoder, optional
        What the vectors pass through before they come to the network.
    """

    def __init__(
        self,
        x: NDArray[Any],
        queries: NDArray[Any] | None = None,
        before: Encoder | None = None,
    ) -> None:
        self.x, self.queries, self.before = x, queries, before

    def take(self, rows: Ids) -> NDArray[Any]:
        """Return some rows (m, d), float32 or uint8."""
        n = len(self.x)
        if self.queries is None:
            found = np.asarray(self.x[rows])
        else:
            kind = np.result_type(self.x, self.queries)
            found = np.empty((len(rows), self.x.shape[1]), kind)
            behind = rows >= n
            found[~behind] = self.x[rows[~behind]]
            found[behind] = self.queries[rows[behind] - n]
        mapped = is_outside(self.x)
        found = as_vectors(
            found, self.x.shape[1], "training vectors", finite=mapped, keep_bytes=True, rows=rows
        )
        return found if self.before is None else self.before.encode(found)

    def embeddings(self, encoder: Encoder, rows: Ids) -> Floats:
        """Embeddings (m, d_out) of some rows, which are read block by block.

        Raises InputError where they are not finite.
        """
        z = np.empty((len(rows), encoder.d_out), np.float32)
        size = max(1, min(_READ_ROWS, _READ_NUMBERS // encoder.d_in))
        for i in range(0, len(rows), size):
            z[i : i + size] = embed(encoder, self.take(rows[i : i + size]))
        if not np.isfinite(z).all():
            raise InputError(diverged("finite embeddings", "NaN or infinity"))
        return z


def diverged(expected: str, got: str) -> str:
    """Say that a training went astray."""
    return f"expected {expected} in training the network, got {got}: lower the learning_rate"
