"""The vectors of a speed benchmark: as many as it wants, without holding them all."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.harness import load

Floats = NDArray[np.float32]

_BLOCK = 50_000
_NOISE = 0.1  # of the spread of a column
_QUERIES = 1000


@dataclass(frozen=True, eq=False)
class Vectors:
    """A data set whose base is repeated with noise, or iid normal vectors if there is no base.

    Training vectors and queries are held out of the base.
    """

    name: str
    train: Floats
    query: Floats
    base: Floats | None
    seed: int

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return self.train.shape[1]

    def queries(self, n: int) -> Floats:
        """Return n queries, repeated if there are fewer."""
        return self.query[np.arange(n) % len(self.query)]

    def blocks(self, n: int) -> Iterator[Floats]:
        """Draw the n vectors to store, in blocks; the same ones at every call."""
        rng = np.random.default_rng(self.seed)
        for first in range(0, n, _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, n))
            if self.base is None:
                yield _normal(len(rows), self.d, rng)
            else:
                yield _noisy(self.base, rows % len(self.base), rng)


def add_arguments(arguments: argparse.ArgumentParser, *, train_rows: int = 20_000) -> None:
    """Add the options that `of` reads."""
    arguments.add_argument(
        "--gauss", type=int, metavar="D", help="iid normal vectors of D dimensions instead of data"
    )
    arguments.add_argument(
        "--double", action="store_true", help="two copies of every vector side by side, each noised"
    )
    arguments.add_argument(
        "--train-rows", type=int, default=train_rows, help="rows of the training part to use"
    )


def of(options: argparse.Namespace) -> Vectors:
    """Return the vectors that the options of a run ask for."""
    # A stream of its own: the base is drawn from the plain seed.
    rng = np.random.default_rng([options.seed, 1])
    rows = 1000 if options.smoke else options.train_rows
    if options.gauss:
        train, query = _normal(rows, options.gauss, rng), _normal(_QUERIES, options.gauss, rng)
        return Vectors("gauss", train, query, None, options.seed)
    data = load(options.data)
    name, train, query, base = data.name, data.train[:rows], data.query, data.base
    if options.double:
        name = f"{name} doubled"
        train, query, base = (np.hstack([part, part]) for part in (train, query, base))
        train, query = (_noisy(part, np.arange(len(part)), rng) for part in (train, query))
    return Vectors(name, train, query, base, options.seed)


def _normal(n: int, d: int, rng: np.random.Generator) -> Floats:
    return rng.standard_normal((n, d), dtype=np.float32)


def _noisy(x: Floats, rows: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Return rows of x with noise in proportion to the spread of each column."""
    spread = x[:_BLOCK].std(axis=0)
    return x[rows] + _normal(len(rows), x.shape[1], rng) * (_NOISE * spread)
