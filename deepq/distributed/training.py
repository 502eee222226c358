"""Codebooks and centres of cells, learned from rows that several workers hold.

k-means as in `quantizers.parted`: in every step each worker adds up its rows by cells, and the sums
are put together, in which no order and no number of workers changes a bit. So a worker that dies is
started again, reads its rows anew, and says what it would have said.

What has to do with Ray is in `_OnRay`; all else works without.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepq._common.arrays import as_floats, as_vectors, require_usable
from deepq._common.checks import as_integer, as_size
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.sources import RowSource
from deepq._common.types import Floats, Ids
from deepq.datasets.vectors import read_vectors
from deepq.distributed.engine import actors, connected, own_error, started, stop
from deepq.distributed.sources import named_machine
from deepq.encoders.base import Encoder, embed
from deepq.quantizers.numbering import numbered
from deepq.quantizers.parted import Part, fit_parts
from deepq.quantizers.product import ProductQuantizer
from deepq.training.cells import CentreQuantizer
from deepq.training.progress import Report

BLOCK = 1 << 12  # rows that are read and embedded at once


# ---- rows ----------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Some rows of a source.

    Attributes
    ----------
    source : path, (n, d) array or RowSource
        A path is opened by the worker.
    start, stop : int
        Which of its rows.
    before : int
        Rows of a user's array that come before those of `source`, and are not sent.
    """

    source: Any
    start: int
    stop: int
    before: int = 0

    @property
    def name(self) -> str:
        """What it is called in errors."""
        return str(self.source) if isinstance(self.source, str | os.PathLike) else "a shard"


def _opened(source: Any) -> Any:
    if not isinstance(source, str | os.PathLike):
        return source
    with named_machine():
        return read_vectors(source)


def deal(shards: Sequence[Any], counts: Sequence[int], workers: int) -> list[list[Piece]]:
    """Deal blocks of rows out: each worker gets as many, which follow those of the one before.

    Blocks are the same for any number of workers, and so are the embeddings made of them.
    """
    blocks = [(i, at) for i, n in enumerate(counts) for at in range(0, n, BLOCK)]
    hands = []
    for worker in range(workers):
        own: dict[int, Piece] = {}
        for i, at in blocks[
            len(blocks) * worker // workers : len(blocks) * (worker + 1) // workers
        ]:
            start = own[i].start if i in own else at
            own[i] = Piece(shards[i], start, min(at + BLOCK, counts[i]))
        hands.append([_light(piece) for piece in own.values()])
    return hands


def _light(piece: Piece) -> Piece:
    """Send no more of an array than is needed."""
    if not isinstance(piece.source, np.ndarray):
        return piece
    rows = np.array(piece.source[piece.start : piece.stop])
    return Piece(rows, 0, len(rows), piece.start)


class Holder(Part):
    """What a worker holds: embeddings (n, d_out) float32, in memory once they were read.

    Parameters
    ----------
    pieces : list of Piece
        Rows, of `d` numbers each.
    d : int
    encoder : Encoder, optional
        What they pass through first.
    centres : (nlist, d_out) float32, optional
        Of embeddings, what they have besides the nearest of these is held.
    """

    def __init__(
        self,
        pieces: list[Piece],
        d: int,
        encoder: Encoder | None = None,
        centres: Floats | None = None,
    ) -> None:
        super().__init__()
        self._pieces, self._d, self._encoder, self._centres = pieces, d, encoder, centres

    def ready(self) -> None:
        """Say that the worker is there."""

    def _read(self) -> Floats:
        width = self._d if self._encoder is None else self._encoder.d_out
        z = np.empty((sum(piece.stop - piece.start for piece in self._pieces), width), np.float32)
        at = 0
        image = () if self._encoder is None else self._encoder.input_shape
        nearest = None if self._centres is None else CentreQuantizer.of(self._centres[None])
        for piece in self._pieces:
            rows = _opened(piece.source)
            for i in range(piece.start, piece.stop, BLOCK):
                x = rows[i : min(i + BLOCK, piece.stop)]
                name, first = piece.name, piece.before + i
                block = as_vectors(
                    x, self._d, name, finite=True, image=image, keep_bytes=True, rows=first
                )
                if self._encoder is not None:
                    block = embed(self._encoder, block)
                if nearest is not None:
                    block = block - nearest.gather(nearest.assign(block))
                require_usable(block := np.asarray(block, np.float32), name, first)
                z[at : at + len(block)] = block
                at += len(block)
        return z


# ---- workers -------------------------------------------------------------------------------------


class _Here:
    """Holders in this process."""

    def __init__(self, arguments: Sequence[tuple[Any, ...]]) -> None:
        self._holders = [Holder(*some) for some in arguments]

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(holder, method)(*arguments) for holder in self._holders]

    def ask_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        pairs = zip(self._holders, arguments, strict=True)
        return [getattr(holder, method)(*some) for holder, some in pairs]

    def stop(self) -> None:
        self._holders = []


class _OnRay:
    """Actors; one that dies is started again and asked again, and says the same."""

    def __init__(self, arguments: Sequence[tuple[Any, ...]], timeout: float) -> None:
        self._ray, self._timeout = connected(), timeout
        self._holders = actors(Holder, arguments, num_cpus=1)
        try:
            started(self._holders, timeout, cpus=1)
        except BaseException:
            self.stop()
            raise

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        sent = [self._ray.put(argument) for argument in arguments]  # once for all on a machine
        return self.ask_each(method, [tuple(sent)] * len(self._holders))

    def ask_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        pairs = zip(self._holders, arguments, strict=True)
        calls = [getattr(holder, method).remote(*some) for holder, some in pairs]
        return list(own_error(self._ray.get, calls, timeout=self._timeout))

    def stop(self) -> None:
        stop(self._holders)


# ---- learning ------------------------------------------------------------------------------------


class Dealt(NamedTuple):
    """Rows that are dealt out.

    Attributes
    ----------
    arguments : list of tuple
        Of a `Holder` for each worker.
    bounds : (workers + 1,) int64
        Where the rows of each begin, and where those of the last one end.
    d_out : int
        Numbers of an embedding.
    """

    arguments: list[tuple[Any, ...]]
    bounds: Ids
    d_out: int

    def workers(self, on_ray: bool, timeout: float) -> _Here | _OnRay:
        """Make those that hold them. Raises ImportError where Ray is asked for and missing."""
        return _OnRay(self.arguments, timeout) if on_ray else _Here(self.arguments)


def dealt(shards: Any, workers: int, encoder: Encoder | None, centres: Any) -> Dealt:
    """Check what a user gives, and deal the rows out. Raises as `learn_codebooks`."""
    if as_integer(workers, "workers") < 0:
        raise InputError(f"expected workers of at least 0, got {workers}")
    if encoder is not None and not encoder.is_fitted:
        raise StateError("expected a fitted encoder, got one that has learned nothing yet")
    shards = list(shards) if isinstance(shards, list | tuple) else [shards]
    opened = [_opened(shard) for shard in shards]
    if not opened:
        raise InputError("expected a shard of rows at least, got none")
    for rows in opened:
        if not isinstance(rows, np.ndarray | RowSource):
            raise KindError(f"expected paths or arrays as shards, got {type(rows).__name__}")
    d = math.prod(opened[0].shape[1:]) if encoder is None else encoder.d_in
    for rows in opened:
        if rows.ndim < 2 or math.prod(rows.shape[1:]) != d:
            raise DimensionError(f"expected shards of rows of {d} numbers, got shape {rows.shape}")
    d_out = d if encoder is None else encoder.d_out
    centres = None if centres is None else as_vectors(centres, d_out, "centres", finite=True)
    pieces = deal(shards, [len(rows) for rows in opened], max(1, workers))
    bounds = np.cumsum([0, *(sum(p.stop - p.start for p in own) for own in pieces)])
    return Dealt([(own, d, encoder, centres) for own in pieces], bounds, d_out)


class _Settings(NamedTuple):
    stage: str
    start: Any
    iterations: int
    seed: int
    workers: int
    timeout: float
    verbose: bool


def _learn(quantizer: ProductQuantizer, rows: Dealt, settings: _Settings) -> None:
    """Begin, show what is done, and end the workers."""
    stage, start, iterations, seed, count, timeout, verbose = settings
    if start is not None:
        quantizer.codebooks = start
        if quantizer.M * quantizer.dsub != rows.d_out:
            shape = quantizer.trained().shape
            raise DimensionError(f"expected a start for {rows.d_out} numbers, got shape {shape}")
    iterations, seed = as_size(iterations, "iterations"), as_integer(seed, "seed")
    quantizer.require_rows(int(rows.bounds[-1]))
    workers = rows.workers(count > 0, timeout)
    try:
        with Report(verbose, None) as report:
            report.begin(stage, iterations)
            fit_parts(
                quantizer,
                workers,
                rows.bounds,
                iterations=iterations,
                seed=seed,
                progress=report,
                stage=stage,
            )
    finally:
        workers.stop()


def learn_codebooks(
    shards: Any,
    M: int,
    nbits: int = 8,
    *,
    encoder: Encoder | None = None,
    centres: Any = None,
    start: Any = None,
    iterations: int = 25,
    seed: int = 1234,
    workers: int = 0,
    timeout: float = 3600.0,
    verbose: bool = False,
) -> ProductQuantizer:
    """Learn the codebooks of a product quantizer from rows that several workers hold.

    All rows are seen in every step. The number of workers does not change a bit of the result; nor
    does how the rows are cut into shards, but behind an encoder, whose matrix products may round in
    other ways. The result is that of ``ProductQuantizer.train`` from the same start, to the last
    digits of a float32, where that sees all rows as well: from given codebooks, or where there are
    fewer than 8,192 rows, or 32 a codeword. Codewords are numbered as in an index.

    Parameters
    ----------
    shards : path, (n, d) array or RowSource, or a list of these
        Rows in their order. Paths are what `datasets.read_vectors` opens, here and where every
        worker is. A worker reads its share once, and holds the embeddings in memory. Arrays are
        sent to it.
    M, nbits : int
        Sub-spaces, and bits of a word: see `ProductQuantizer`.
    encoder : Encoder, optional
        Fitted; what the rows pass through first, such as ``index.encoder``.
    centres : (nlist, d_out) array, optional
        Cells: codebooks are learned of what embeddings have besides the nearest centre.
    start : (M, ksub, dsub) array, optional
        Codebooks to begin with; None for rows that are drawn.
    iterations : int
        Steps of Lloyd's.
    seed : int
        Seed of the start, and of the rows that empty cells get.
    workers : int
        Actors of Ray, each on a CPU of the cluster that ``ray.init`` has connected to; 0 for
        this process, without Ray.
    timeout : float
        Seconds for every step, and for the first reading.
    verbose : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    ProductQuantizer
        With the codebooks; ``index.codebooks = quantizer.codebooks`` puts them into an index.

    Raises
    ------
    InputError, DimensionError, KindError
        If there are too few rows, NaN or infinity, or shapes that do not fit.
    StateError
        If the encoder is not fitted.
    FileNotFoundError, FormatError
        If a file is missing, here or where a worker is, or damaged.
    ImportError
        If Ray is missing, and `workers` is not 0.
    TimeoutError
        If workers do not answer in time, for example for want of CPUs.
    """
    quantizer = ProductQuantizer(M, nbits)
    rows = dealt(shards, workers, encoder, centres)
    if rows.d_out % M:
        raise DimensionError(f"expected rows of a multiple of M = {M} numbers, got {rows.d_out}")
    settings = _Settings("codebooks", start, iterations, seed, workers, timeout, verbose)
    _learn(quantizer, rows, settings)
    quantizer.codebooks = numbered(quantizer.trained())
    return quantizer


def learn_centres(
    shards: Any,
    nlist: int,
    *,
    encoder: Encoder | None = None,
    start: Any = None,
    iterations: int = 16,
    seed: int = 1234,
    workers: int = 0,
    timeout: float = 3600.0,
    verbose: bool = False,
) -> Floats:
    """Learn the centres (nlist, d_out) float32 of cells from rows that several workers hold.

    Parameters, and what is raised, as in `learn_codebooks`; `start` is (nlist, d_out), and nlist at
    most 65,536. For a `DeepQuantIVFIndex` they go into a ``faiss.IndexFlatL2``, its quantizer.
    """
    quantizer = CentreQuantizer(as_size(nlist, "nlist"))
    if quantizer.ksub > quantizer.MOST:
        raise InputError(f"expected nlist up to {quantizer.MOST}, got {nlist}")
    rows = dealt(shards, workers, encoder, None)
    start = None if start is None else as_floats(start, "start")[None]
    _learn(quantizer, rows, _Settings("cells", start, iterations, seed, workers, timeout, verbose))
    centres: Floats = quantizer.trained()[0]
    return centres
