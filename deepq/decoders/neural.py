"""Neural decoders: from the words of a vector to a better reconstruction than its codewords.

A product quantizer reconstructs every sub-vector on its own. A decoder sees all words of a vector
and has learned what goes together:

    h = sum_m U_m[w_m];   h' = h + W2 relu(W1 h + b);   z_hat = sum_m T_m[w_m] + O relu(h')

The T_m (ksub, d) are tables of whole vectors, which are added up as in additive quantization
(Babenko & Lempitsky, CVPR 2014). The rest is a network with one residual block, as decoders of
learned codes have them (Morozov & Babenko, "Unsupervised neural quantization", ICCV 2019); U_m is
its first layer, multiplied out for every word. `training.decoding` learns the numbers, with torch;
here they are used, by the kernels behind `_decode`.

Codes are chosen under the decoder: every sub-vector has some nearest *sites* (M, ksub, dsub), and
of their words those are stored that decode to nearest to the vector.

A decoder may know the cell of a vector, which costs no byte: h then has V c besides, c the centre,
and what is decoded is what the vector has besides c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepq import _decode, _scan
from deepq._common.checks import as_size
from deepq._common.errors import DimensionError, InputError
from deepq._common.neighbours import unit_of_tiny
from deepq._common.threads import run_blocks
from deepq._common.types import Floats, InCells, Words
from deepq.decoders.base import FixedNumbers
from deepq.decoders.checks import as_arrays, as_share
from deepq.decoders.panels import block_diagonal, diagonal_blocks, in_bytes, panels, widened

__all__ = ["Decoder"]

# A change of a word is tried if it is foretold to raise the squared error by less than this part of
# what falls to a word.
_HOPE = 0.64
# Codes drawn at random to see how often the units of a network are open.
_SAMPLE = 4096
# Rows whose distances to all sites are held at a time.
_NEAREST_BLOCK = 512
_BLOCK = 1024  # of rows that a thread takes at a time
_SHAPES = {
    "sites": ("M", "ksub", "dsub"),
    "tables": ("M", "ksub", "d"),
    "features": ("M", "ksub", "h"),
    "inner": ("h", "w"),
    "bias": ("w",),
    "outer": ("w", "h"),
    "output": ("h", "d"),
    "centre": ("d",),
    "cells": ("d", "h"),
    "stretch": ("d", "d"),
}
_OPTIONAL = frozenset({"cells", "stretch"})


class Decoder(FixedNumbers):
    """A decoder with given numbers, which stay as they are.

    Parameters
    ----------
    arrays : mapping of arrays
        Arrays of finite numbers, with the names

        * "sites" (M, ksub, dsub), d = M * dsub: what words are near to;
        * "tables" (M, ksub, d): T, the offset of the vectors included;
        * "features" (M, ksub, h): U, the offset of the hidden layer included;
        * "inner" (h, w), "bias" (w,), "outer" (w, h): W1 transposed, b and W2 transposed;
        * "output" (h, d): O transposed;
        * "centre" (d,): the mean of the vectors;
        * "cells" (d, h), where it knows the cells of vectors: V transposed;
        * "stretch" (d, d), where not all errors count alike: words are chosen for the least
          |e S|^2, e the error (`training.stretching`). Sites are near to sub-vectors that are
          multiplied by the blocks along its diagonal.
    shrink, levelling, length, spare
        As every decoder has them: see `FixedNumbers`.
    weight : float
        Part of a reconstruction that is the decoder's, above 0 and up to 1; the rest are the
        codewords' (`ProductQuantizer.reconstruct`).
    candidates, sweeps : int
        How many words may be tried in every sub-space, and how often, to choose a code: see
        `choose`.

    Attributes
    ----------
    arrays : dict of float32 arrays
        The numbers, read-only.

    Raises
    ------
    DimensionError
        If the shapes do not fit each other.
    InputError
        If a number is NaN, infinite or out of range.
    """

    weight: float
    candidates: int
    sweeps: int
    _checks: ClassVar = {
        **FixedNumbers._checks,
        "weight": as_share,
        "candidates": as_size,
        "sweeps": as_size,
    }
    _choosing: ClassVar = ("candidates", "sweeps")

    def __init__(
        self,
        arrays: Mapping[str, ArrayLike],
        *,
        shrink: float = 1.0,
        weight: float = 1.0,
        levelling: float = 0.0,
        length: float = 1.0,
        candidates: int = 8,
        sweeps: int = 1,
        spare: int = 0,
    ) -> None:
        self.arrays = _checked(arrays)
        self._set(
            shrink=shrink,
            weight=weight,
            levelling=levelling,
            length=length,
            candidates=candidates,
            sweeps=sweeps,
            spare=spare,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, ksub and d: what words it reads, and what vectors it gives."""
        M, ksub, d = self.arrays["tables"].shape
        return M, ksub, d

    @property
    def width(self) -> int:
        """Length of what `decode` returns: that of embeddings."""
        return self.shape[2]

    def narrow(self, z: Floats) -> Floats:
        """Return what `decode` and `choose` are about, of embeddings (n, d): these."""
        return z

    def wide(self, z: Floats) -> Floats:
        """Embeddings (n, d) of what `decode` returns: that."""
        return z

    def decode(self, words: Words, num_threads: int = 1, cells: InCells | None = None) -> Floats:
        """Reconstructions (n, d) float32 of words (n, M), of vectors in `cells` if it knows these.

        Raises InputError if it knows cells, and is told none.
        """
        z = np.empty((len(words), self.shape[2]), np.float32)
        told = self._told(cells)

        def work(rows: slice) -> None:
            z[rows] = _decode.decode(words[rows], self._network | told(rows))[:, : z.shape[1]]
            if self.shrink != 1:
                z[rows] -= self.arrays["centre"]
                z[rows] *= np.float32(self.shrink)
                z[rows] += self.arrays["centre"]

        run_blocks(work, len(words), _BLOCK, num_threads)
        return z

    @cached_property
    def _network(self) -> dict[str, Floats]:
        """The arrays of the network as its kernel wants them."""
        a = self.arrays
        M, ksub, h = a["features"].shape
        entered = (a["features"].reshape(-1, h) @ a["inner"]).reshape(M, ksub, -1)
        return {
            "tables": widened(a["tables"]),
            "features": widened(a["features"]),
            "entered": widened(entered),
            "bias": widened(a["bias"]),
            "outer": panels(a["outer"]),
            "output": panels(a["output"]),
        }

    def _told(self, cells: InCells | None) -> Callable[[slice], dict[str, Any]]:
        """Return what gives, of rows of vectors, what the network has besides of their cells."""
        if "cells" not in self.arrays:
            return lambda _: {}
        if cells is None:
            raise InputError("expected the cells of vectors for a decoder of cells, got none")
        own = _decode.multiply(widened(cells.centres), self._weights_of_cells[0])
        entered = _decode.multiply(own, self._weights_of_cells[1])
        of, features = cells.cells.astype(np.int32), {"cell_features": own, "cell_entered": entered}
        return lambda rows: {"cells": of[rows], **features}

    @cached_property
    def _weights_of_cells(self) -> tuple[Floats, Floats]:
        """V and W1, laid out as panels."""
        return panels(self.arrays["cells"]), panels(self.arrays["inner"])

    def choose(self, z: Floats, num_threads: int = 1, cells: InCells | None = None) -> Words:
        """Choose for every vector, of the words of near sites, some that decode to near it.

        Descent on the squared error, before any drawing towards the centre, from the words of the
        nearest sites. What other words would change is foretold by the `summands`. First the
        changes that seem good together are tried, twice at most, then one at a time, the most
        promising first, as long as it is not foretold to raise the error by much. What lowers the
        error is kept. There are `sweeps` times 16 trials at most, or M / 2.

        Parameters
        ----------
        z : (n, d) float32
            Vectors.
        num_threads : int
            Threads that share the vectors; no word depends on it.
        cells : InCells, optional
            Their cells, if it knows these.

        Returns
        -------
        (n, M) uint8, or uint16 for more than 256 words

        Raises
        ------
        InputError
            If it knows cells, and is told none.
        """
        M, ksub, _ = self.shape
        words, told = np.empty((len(z), M), _kind_of_words(ksub)), self._told(cells)

        def work(rows: slice) -> None:
            candidates = self.nearest(z[rows])
            words[rows] = candidates[:, :, 0]
            if self.candidates > 1:
                words[rows] = self._improved(self._stretched(z[rows]), candidates, told(rows))

        run_blocks(work, len(z), _BLOCK, num_threads)
        return words

    def _improved(self, z: Floats, candidates: Words, told: dict[str, Any]) -> NDArray[np.int32]:
        """Words (n, M) out of candidates (n, M, A) that decode nearer to vectors than the first.

        The vectors are stretched.
        """
        network, summands, scale = self._tried
        words: NDArray[np.int32] = _decode.choose(
            widened(z * self._unit if self._unit != 1 else z),
            candidates.astype(np.int32),
            network | told,
            summands,
            scale,
            self.sweeps * _trials(len(network["tables"])),
            _HOPE / len(network["tables"]),
        )
        return words

    @cached_property
    def _tried(self) -> tuple[dict[str, Floats], NDArray[np.int8], float]:
        """The network that judges changes of words, and the summands that foretell them.

        All stretched, in units in which no squares are lost; of the summands, a number has so many
        of theirs.
        """
        network, unit, given = self._network, self._unit, self.arrays
        summands, _, own = in_bytes(self._stretched(self.summands()))
        if unit != 1 or "stretch" in given:
            tables, output = (self._stretched(given[name]) * unit for name in ("tables", "output"))
            network = {**network, "tables": widened(tables), "output": panels(output)}
        return network, summands, float(np.float32(1) / (own * unit))

    def summands(self) -> Floats:
        """Vectors (M, ksub, d) whose sums over the words of a code are near what it decodes to.

        Of the network they have the linear part that it is on average, each of its units as often
        open as with words drawn at random:

            S_m = T_m + O P' (1 + W2 P W1) U_m,   P = diag(share of W1 h + b > 0), P' that of h' > 0

        The first have besides what the network adds to such codes on average.
        """
        a = self.arrays
        M, ksub, h = a["features"].shape
        words = np.random.default_rng(0).integers(0, ksub, (_SAMPLE, M), dtype=np.uint16)
        given = _scan.add_up(a["features"], words)
        inside = given @ a["inner"] + a["bias"]
        hidden = given + np.maximum(inside, 0) @ a["outer"]
        shares = ((numbers > 0).mean(axis=0, dtype=np.float32) for numbers in (inside, hidden))
        linear = np.eye(h, dtype=np.float32) + (a["inner"] * next(shares)) @ a["outer"]
        linear = (linear * next(shares)) @ a["output"]
        summands = a["tables"] + (a["features"].reshape(-1, h) @ linear).reshape(M, ksub, -1)
        more = np.maximum(hidden, 0).mean(axis=0) @ a["output"] - given.mean(axis=0) @ linear
        summands[0] += more
        return np.asarray(summands, np.float32)

    def _stretched(self, z: Floats) -> Floats:
        """Vectors (.., d) where errors count alike."""
        return _times(z, self._stretch[0]) if "stretch" in self.arrays else z

    @cached_property
    def _stretch(self) -> tuple[Floats, Floats]:
        """The stretch, and what it is in sub-spaces alone, laid out as panels."""
        stretch, M = self.arrays["stretch"], self.shape[0]
        return panels(stretch), panels(block_diagonal(diagonal_blocks(stretch, M)))

    def _stretched_parts(self, z: Floats) -> Floats:
        """Vectors (n, d) whose sub-vectors are stretched by themselves."""
        return _times(z, self._stretch[1]) if "stretch" in self.arrays else z

    @cached_property
    def _sites(self) -> Floats:
        """Sites, stretched."""
        sites = self.arrays["sites"]
        M, ksub, dsub = sites.shape
        rows = self._stretched_parts(sites.transpose(1, 0, 2).reshape(ksub, M * dsub))
        return np.ascontiguousarray(rows.reshape(ksub, M, dsub).transpose(1, 0, 2))

    def nearest(self, z: Floats) -> Words:
        """Words (n, M, candidates) of the sites nearest to each sub-vector, nearest first."""
        sites, z = self._sites, self._stretched_parts(z)
        M, ksub, dsub = sites.shape
        count = min(self.candidates, ksub)
        middle, moved, book = self._moved_sites
        words = np.empty((len(z), M, count), _kind_of_words(ksub))
        for i in range(0, len(z), _NEAREST_BLOCK):
            given = z[i : i + _NEAREST_BLOCK].reshape(-1, M, dsub).transpose(1, 0, 2)
            parts = np.ones((M, given.shape[1], dsub + 1), np.float32)
            parts[:, :, :dsub] = (given - middle) * self._unit
            near, gaps = _decode.least(parts @ book, count)
            close = ~(gaps > _slack(moved, parts[:, :, :dsub]).T)
            for row, m in zip(*np.nonzero(close), strict=True):
                x = given[m, row].astype(np.float64)
                exact = np.square(x - sites[m]).sum(axis=1)
                near[row, m] = np.argsort(exact, kind="stable")[:count]
            words[i : i + _NEAREST_BLOCK] = near
        return words

    @cached_property
    def _moved_sites(self) -> tuple[Floats, Floats, Floats]:
        """The middle of the sites (M, 1, dsub), what they are from there, and a book of that.

        The book (M, dsub + 1, ksub) is what a sub-vector x, with a 1 behind it, is multiplied by:
        c.c / 2 - x.c of all sites c. Far from the origin distances would cancel.
        """
        sites = self._sites
        middle = sites.mean(axis=1, keepdims=True)
        moved = (sites - middle) * self._unit
        halves = np.square(moved).sum(axis=2)[:, None] / 2
        return middle, moved, np.concatenate([-moved.transpose(0, 2, 1), halves], axis=1)

    @cached_property
    def _unit(self) -> np.float32:
        """What all is multiplied by where squares are needed: 1, but for tiny vectors."""
        return unit_of_tiny(self.arrays["sites"], self.arrays["tables"], self.arrays["output"])


def _kind_of_words(ksub: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if ksub <= 256 else np.uint16


def _times(z: Floats, weights: Floats) -> Floats:
    """Multiply vectors (.., d) by a matrix (d, d) in panels."""
    rows = _decode.multiply(widened(z.reshape(-1, z.shape[-1])), weights)
    return np.ascontiguousarray(rows[:, : z.shape[-1]]).reshape(z.shape)


def _trials(M: int) -> int:
    """How many changes of a vector's words are tried in a sweep, at most."""
    return max(16, M // 2)


def _slack(sites: Floats, parts: Floats) -> Floats:
    """Twice the error (M, n) of scores c.c / 2 - x.c: see `_kernels/assign.h`."""
    eps = np.float32(np.finfo(np.float32).eps)
    squares = np.square(sites).sum(axis=2).max(axis=1)[:, None]
    reach = np.sqrt(squares) * np.sqrt(np.square(parts).sum(axis=2))
    slack: Floats = eps * np.float32(sites.shape[2] + 4) * (squares / 2 + reach)
    return slack


def _checked(arrays: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    """Copy the arrays of a decoder, read-only; raise unless shapes and numbers are right."""
    copies = as_arrays(arrays, _SHAPES, _OPTIONAL)
    (M, _, dsub), d = copies["sites"].shape, copies["tables"].shape[2]
    if M * dsub != d:
        wanted, got = f"(M, ksub, {d} / M)", copies["sites"].shape
        raise DimensionError(f"expected sites of shape {wanted}, got {got}")
    return copies
