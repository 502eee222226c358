"""Who is similar to whom: what training with labels learns from, in NumPy.

Four kinds of supervision have one face. Of any rows they tell which pairs are similar, and about
which pairs something is known (`similar`), and draw the batches that a training goes through
(`batches`). Similarity has one definition: two rows with labels are similar if they share a class.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepq._common.arrays import as_array, as_ids, as_labels, as_vectors
from deepq._common.errors import DimensionError, InputError, KindError
from deepq._common.types import Floats, Ids

Matrix = NDArray[np.bool_]


class Supervision:
    """What is known of n rows; the base of the others.

    Attributes
    ----------
    n : int
        Number of rows.
    classes : int
        How many classes there are; 0 where it is pairs that are known.
    several : bool
        Whether rows may have several classes.
    y : (n,) int or str, or (n, c) bool
        The labels, where there are classes.
    """

    n: int
    y: NDArray[Any]
    classes = 0
    several = False

    def similar(self, rows: Ids) -> tuple[Matrix, Matrix]:
        """Of some rows (m,): which pairs (m, m) are similar, and of which that is known."""
        raise NotImplementedError

    def targets(self, rows: Ids) -> Floats | None:
        """Return what a classifier should say of some rows: (m, c), or None without classes.

        Rows sum to 1, or to 0 where a row has no class.
        """

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield the rows (m,) of the batches of one pass; all are of about `size`."""
        yield from np.array_split(rng.permutation(self.n), _count(self.n, size))

    def class_batches(
        self,
        size: int,  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
        rows: int,  # noqa: ARG002
    ) -> Iterator[Ids]:
        """Yield batches of about `size` with so many `rows` of each class that is in one.

        Raises InputError here: it takes labels of one class a row.
        """
        kind = type(self).__name__
        raise InputError(f"expected labels of one class a row for batches by class, got {kind}")

    def digest(self) -> list[int]:
        """Checksums of all that is known."""
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        return [zlib.crc32(np.ascontiguousarray(array).tobytes()) for array in arrays]

    def part(self, rows: Ids) -> Supervision:
        """Keep what is known of some rows (m,), where there are classes."""
        raise NotImplementedError

    @property
    def columns(self) -> Any:
        """What the columns of `targets` stand for: names in a list, or how many tags there are."""
        return self.classes

    def continuing(self, columns: Any) -> Supervision:
        """Return the same with the columns of a training before, as `columns` says them.

        Raises InputError where they are of another kind.
        """
        if columns != self.columns:
            got = f"{self.columns} tags" if self.several else type(self).__name__
            before = f"{len(columns)} classes" if isinstance(columns, list) else f"{columns} tags"
            raise InputError(f"expected labels of {before}, as trained before, got {got}")
        return self


class Classes(Supervision):
    """One class for each row; batches have about the same number of rows of each class.

    Parameters
    ----------
    y : (n,) int
    """

    def __init__(self, y: NDArray[Any]) -> None:
        self.y, self.n = y, len(y)
        names, self._class = np.unique(y, return_inverse=True)
        self._names: list[Any] = names.tolist()
        self.classes = len(names)

    @property
    def columns(self) -> list[Any]:
        """Names of the classes, in the order of the columns."""
        return self._names

    def continuing(self, columns: Any) -> Supervision:
        """Classes that were there before keep their columns; others come behind them."""
        number = len(columns) if isinstance(columns, list) else 0
        if not number or isinstance(columns[0], str) != (self.y.dtype.kind == "U"):
            return super().continuing(columns)
        known = {name: i for i, name in enumerate(columns)}
        new = [name for name in self.columns if name not in known]
        known |= {name: number + i for i, name in enumerate(new)}
        other = copy.copy(self)
        other._class = np.array([known[name] for name in self.columns], np.int64)[self._class]
        other._names, other.classes = list(known), len(known)
        return other

    def similar(self, rows: Ids) -> tuple[Matrix, Matrix]:
        """Rows of one class are similar; all is known."""
        y = self.y[rows]
        same: Matrix = y[:, None] == y
        return same, np.ones_like(same)

    def targets(self, rows: Ids) -> Floats:
        """One 1 in each row; columns in the order of the classes' numbers, or names."""
        return np.asarray(self._class[rows, None] == np.arange(self.classes), np.float32)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Every row once; each batch has its share of every class, as far as that goes."""
        order = rng.permutation(self.n)
        spread = _spread(order, self._class[order], rng.random)
        yield from np.array_split(spread, _count(self.n, size))

    def class_batches(self, size: int, rng: np.random.Generator, rows: int) -> Iterator[Ids]:
        """Every row once in a set of `rows` of its class, and classes evenly all the way.

        The last set of a class is filled up with others of its rows; a class of a single row has
        none. Raises InputError where no class has two rows.
        """
        order = rng.permutation(self.n)
        order = order[np.argsort(self._class[order], kind="stable")]
        sets, kinds = [], []
        for own in np.split(order, np.flatnonzero(np.diff(self._class[order])) + 1):
            if len(own) > 1:
                count = -(-len(own) // rows)
                sets.append(np.resize(own, count * rows).reshape(count, rows))
                kinds.append(np.full(count, self._class[own[0]]))
        if not sets:
            raise InputError("expected a class of at least 2 rows, got classes of one row each")
        drawn = rng.permutation(sum(map(len, sets)))
        spread = _spread(drawn, np.concatenate(kinds)[drawn], rng.random)
        together = np.concatenate(sets)[spread]
        for part in np.array_split(together, _count(together.size, size)):
            yield np.unique(part)

    def part(self, rows: Ids) -> Classes:
        """Classes of some rows; the targets keep their columns."""
        part = copy.copy(self)
        part.y, part._class, part.n = self.y[rows], self._class[rows], len(rows)
        return part


class Tags(Supervision):
    """Some classes for each row.

    Parameters
    ----------
    y : (n, c) bool
    """

    several = True

    def __init__(self, y: Matrix) -> None:
        self.y, self.n, self.classes = y, len(y), y.shape[1]

    def targets(self, rows: Ids) -> Floats:
        """Even parts for the tags of a row."""
        y = self.y[rows]
        return np.asarray(y / np.maximum(y.sum(axis=1, keepdims=True), 1), np.float32)

    def similar(self, rows: Ids) -> tuple[Matrix, Matrix]:
        """Rows with a tag in common are similar, so one without a tag to none; all is known."""
        y = self.y[rows].astype(np.float32)
        shared: Matrix = y @ y.T > 0.5
        return shared, np.ones_like(shared)

    def part(self, rows: Ids) -> Tags:
        """Tags of some rows."""
        return Tags(self.y[rows])


class Pairs(Supervision):
    """Pairs of rows of which it is known whether they are similar.

    Parameters
    ----------
    i, j : (p,) int
        Rows of the training vectors.
    s : (p,) bool, or numbers of which those above 0 mean similar; optional
        None: all are similar.

    Raises
    ------
    DimensionError, InputError, KindError
        If the arrays are not of one length, are empty, are not rows, or pair a row with itself.

    Examples
    --------
    >>> pairs = Pairs([0, 0, 2], [1, 2, 3], [1, 0, 1])
    >>> similar, known = pairs.similar(np.array([0, 1, 2]))
    >>> bool(similar[0, 1]), bool(similar[0, 2]), bool(known[1, 2])
    (True, False, False)
    """

    def __init__(self, i: ArrayLike, j: ArrayLike, s: ArrayLike | None = None) -> None:
        most = np.iinfo(np.int64).max
        self.i, self.j = as_ids(i, most, "i"), as_ids(j, most, "j")
        similar = np.ones(len(self.i), np.bool_) if s is None else as_array(s, "s")
        if not len(self.i) == len(self.j) == len(similar) or similar.ndim != 1 or not len(self.i):
            shapes = f"{self.i.shape}, {self.j.shape} and {similar.shape}"
            raise DimensionError(f"expected i, j and s of one length (p,), not empty, got {shapes}")
        if (self.i == self.j).any():
            row = int(self.i[self.i == self.j][0])
            raise InputError(f"expected pairs of two rows, got row {row} with itself")
        if similar.dtype.kind not in "fiub":
            raise KindError(f"expected bools, or real numbers, in s, got dtype {similar.dtype}")
        if np.isnan(similar).any():
            raise InputError(f"expected numbers in s, got NaN in pair {np.isnan(similar).argmax()}")
        self.s = np.asarray(similar > 0)
        self.n = int(max(self.i.max(), self.j.max())) + 1
        # Every pair from both sides, in the order of the row on this side.
        here, there = np.concatenate([self.i, self.j]), np.concatenate([self.j, self.i])
        order = np.argsort(here, kind="stable")
        self._there, self._s = there[order], np.concatenate([self.s, self.s])[order]
        self._first = np.searchsorted(here[order], np.arange(self.n + 1))

    def similar(self, rows: Ids) -> tuple[Matrix, Matrix]:
        """Look up the pairs; a row is similar to itself, and of two verdicts yes counts."""
        place = np.full(self.n, -1)
        place[rows] = np.arange(len(rows))
        first, last = self._first[rows], self._first[rows + 1]
        counts = last - first
        a = np.repeat(np.arange(len(rows)), counts)
        at = np.arange(len(a)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        b, s = place[self._there[at]], self._s[at]
        similar = np.eye(len(rows), dtype=np.bool_)
        known = similar.copy()
        known[a[b >= 0], b[b >= 0]] = True
        similar[a[(b >= 0) & s], b[(b >= 0) & s]] = True
        return similar, known

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Every pair once, as many similar as dissimilar ones in a batch as far as that goes."""
        order = rng.permutation(len(self.i))
        spread = _spread(order, self.s[order], lambda: 0.5)
        for part in np.array_split(spread, _count(2 * len(order), size)):
            yield np.unique(np.concatenate([self.i[part], self.j[part]]))


class Positives(Supervision):
    """Queries and what was right for them: a search log.

    In a batch, what is right for another query counts as wrong for this one (Henderson et al.,
    "Efficient natural language response suggestion for Smart Reply", 2017): a query with several
    right rows is best given with one of them, or in logs where that is rare.

    Parameters
    ----------
    queries : (p, d) array, or images as the index takes them
        Vectors of queries; they are trained on beside the training vectors.
    rows : (p,) int
        For each the row of the training vectors that was right.

    Raises
    ------
    DimensionError, InputError, KindError
        If there are not as many queries as rows, or none, or rows are below 0.
    """

    def __init__(self, queries: ArrayLike, rows: ArrayLike) -> None:
        self.queries = as_array(queries, "queries")
        self.rows = as_ids(rows, np.iinfo(np.int64).max, "rows")
        if self.queries.ndim < 2 or len(self.queries) != len(self.rows) or not len(self.rows):
            shapes = f"{self.queries.shape} and {self.rows.shape}"
            raise DimensionError(f"expected queries (p, d) and rows (p,), not empty, got {shapes}")
        self.n = int(self.rows.max()) + 1

    def after(self, n: int) -> Positives:
        """Make the same for n training vectors with the queries behind them, as rows too."""
        other = copy.copy(self)
        other.n = n + len(self.rows)
        return other

    def similar(self, rows: Ids) -> tuple[Matrix, Matrix]:
        """Compare queries with training vectors; nothing else is known."""
        first = self.n - len(self.rows)
        is_query = rows >= first
        right = np.where(is_query, self.rows[np.maximum(rows - first, 0)], rows)
        known: Matrix = is_query[:, None] != is_query
        similar: Matrix = (right[:, None] == right) & known
        return similar, known

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Every query once, with what is right for it."""
        p, first = len(self.rows), self.n - len(self.rows)
        for part in np.array_split(rng.permutation(p), _count(2 * p, size)):
            yield np.concatenate([np.unique(self.rows[part]), first + part])


def _spread(order: Ids, kinds: NDArray[Any], offset: Callable[[], float]) -> Ids:
    """Reorder, so that every kind comes evenly all the way.

    The r-th of m of a kind stands at (r + u) / m of the way, u the `offset` of the kind.
    """
    at = np.empty(len(order))
    for kind in np.unique(kinds):
        of = kinds == kind
        at[of] = (np.arange(of.sum()) + offset()) / of.sum()
    return order[np.argsort(at, kind="stable")]


def _count(n: int, size: int) -> int:
    """Return into how many batches of about `size` n things go."""
    return max(1, round(n / size))


def as_supervision(y: Any, n: int) -> Supervision:
    """Take labels for what they are: see `DeepQuantIndex.train`.

    Parameters
    ----------
    y : (n,) int or str, (n, c) bool, Pairs or Supervision
        Classes, tags, or a supervision as it is: see `as_labels`.
    n : int
        Number of training vectors.

    Raises
    ------
    KindError
        If it is none of them, or a masked array.
    DimensionError
        If there are not as many labels as vectors.
    InputError
        If there is nothing to learn: one class only, no row with tags, or a pair of a row that is
        not there; or if classes are fractions or NaN.
    """
    if isinstance(y, Supervision):
        if y.n > n:
            raise InputError(
                f"expected rows from 0 to {n - 1} in {type(y).__name__}, got {y.n - 1}"
            )
        return y.after(n) if isinstance(y, Positives) else y
    given = as_array(y, "y")
    if given.ndim not in (1, 2):
        raise KindError(
            "expected labels (n,) of integers or names, (n, c) of bools, or Pairs or Positives, "
            f"got {given.dtype} of shape {given.shape}"
        )
    labels = as_labels(given, "y")
    if len(labels) != n:
        raise DimensionError(f"expected {n} labels, one for each vector, got {len(labels)}")
    if labels.ndim == 2:
        if not labels.any():
            raise InputError("expected rows with tags, got none")
        return Tags(labels)
    if len(np.unique(labels)) < 2:
        raise InputError("expected labels of at least 2 classes, got one")
    return Classes(labels)


def query_rows(supervision: Supervision, d: int) -> NDArray[Any] | None:
    """Return the queries of a search log as rows (p, d); None for any other supervision."""
    if not isinstance(supervision, Positives):
        return None
    rows = supervision.queries.reshape(len(supervision.rows), -1)
    return as_vectors(rows, d, "queries", finite=True, keep_bytes=True)
