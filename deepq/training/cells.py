"""Cells, and codes of residuals: what a vector is quantized to in two steps.

k-means cells first; then rotation, codebooks and decoder for vectors less the centre of their cell
(Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011, section 4). A rotation
turns cells as they are, so it is learned from residuals, and the centres are turned afterwards.
Then centres and codewords move by turns, as the codebooks of a residual quantizer do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepq._common.types import Floats, Ids, Progress, Words
from deepq.encoders.base import Encoder, embed
from deepq.encoders.chain import Chain
from deepq.encoders.rotation import Rotation
from deepq.quantizers.numbering import numbered
from deepq.quantizers.product import ProductQuantizer

TURNS = 6
_ITERATIONS = 16


class Cells:
    """The cells of a training: centres, and what vectors pass through before they lie in one.

    Parameters
    ----------
    before : Encoder
        Fitted; it gives what has cells.
    books : (parts, per_part, d / parts) float32
        The centres; or, of a multi-index, those of its parts, of which every choice is a cell.
    nearest : callable
        Gives the `count` nearest cells (n, count) of embeddings (n, d).
    place : callable, optional
        Takes other books for those that there are. Without it, centres stay where they are.
    """

    def __init__(
        self,
        before: Encoder,
        books: Floats,
        nearest: Callable[[Floats, int], Ids],
        place: Callable[[Floats], None] | None = None,
    ) -> None:
        self.before, self.nearest, self._place = before, nearest, place
        self._take(books)

    @property
    def can_move(self) -> bool:
        """Whether there is where other centres can be put."""
        return self._place is not None

    def _take(self, books: Floats) -> None:
        """Set `centres` (nlist, d): the first part of a cell's number changes fastest."""
        parts, per_part, _ = books.shape
        numbers = np.arange(per_part**parts)
        chosen = [books[part][numbers // per_part**part % per_part] for part in range(parts)]
        self.books, self.centres = books, np.concatenate(chosen, axis=1)

    def move(self, books: Floats) -> None:
        """Put other centres in the place of those that there are."""
        assert self._place is not None
        self._place(books)
        self._take(books)

    def by_turns(
        self,
        encoder: Encoder,
        quantizer: ProductQuantizer,
        z: Floats,
        held: Floats,
        seed: int,
        progress: Progress,
    ) -> tuple[Floats, Floats] | None:
        """Let centres, and codewords of residuals, move by turns for the least squared error.

        Parameters
        ----------
        encoder : Encoder
            What residuals pass through; centres do, but for those of a multi-index, which has none.
        quantizer : ProductQuantizer
            Of residuals; it stays as it is.
        z, held : (n, d) float32
            What `encoder` makes of vectors to learn from, and to judge by.

        Returns
        -------
        books and codebooks, to be put in their places; None where the error of `held` gets no less.
        """
        one = len(self.books) == 1
        both = TwoLevels(CentreQuantizer.of(self.books), quantizer.fresh())
        if one:
            both.coarse.codebooks = embed(encoder, self.books[0])[None]
        both.fine.codebooks = quantizer.trained()
        both.coarse.num_threads = both.fine.num_threads = quantizer.num_threads
        before = both.error(held)
        both.train(z, seed=seed, progress=progress)
        if both.error(held) >= before:
            return None
        books, codebooks = both.coarse.trained(), both.fine.trained()
        return encoder.decode(books[0])[None] if one else books, numbered(codebooks)

    def split(self, x: Floats) -> tuple[Floats, Ids]:
        """Residuals (n, d) of vectors (n, d_in), and their cells (n,)."""
        z = embed(self.before, x)
        cells = self.nearest(z, 1)[:, 0]
        residuals: Floats = z - self.centres[cells]
        return residuals, cells


class TwoLevels:
    """Centres of cells, and codebooks of residuals: what a vector is quantized to.

    A training of networks takes it for a `ProductQuantizer`.

    Parameters
    ----------
    coarse : ProductQuantizer
        Of centres: a codebook, or two for an inverted multi-index.
    fine : ProductQuantizer
        Of residuals. Both are changed in place.
    """

    def __init__(self, coarse: ProductQuantizer, fine: ProductQuantizer) -> None:
        self.coarse, self.fine = coarse, fine
        self.least_rows = max(coarse.least_rows, fine.least_rows)

    @property
    def codebooks(self) -> Floats | None:
        """Those of residuals; None before there are any."""
        return self.fine.codebooks

    def train(
        self,
        z: Floats,
        *,
        iterations: int = TURNS,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Learn centres, then codebooks of what is left; or let both move by turns.

        In a turn codewords go to the means of the residuals, then centres to the means of what the
        codewords leave of their vectors. `progress` is called after each turn with {"stage":
        "cells and codebooks", "iteration", "error"}.
        """
        if self.codebooks is None:
            self.coarse.train(z, seed=seed)
            self.fine.train(z - self.coarse.gather(self.coarse.assign(z)), seed=seed)
        rng = np.random.default_rng(seed)
        for turn in range(iterations):
            cells = self.coarse.assign(z)
            left = z - self.coarse.gather(cells)
            words = self.fine.assign(left)
            error = self.fine.update(left, words, rng)
            self.coarse.update(z - self.fine.gather(words), cells, rng)
            if progress is not None:
                progress({"stage": "cells and codebooks", "iteration": turn, "error": error})

    def assign(self, z: Floats) -> tuple[Words, Words]:
        """Words of the nearest centres, and of what is left of vectors (n, d)."""
        cells = self.coarse.assign(z)
        return cells, self.fine.assign(z - self.coarse.gather(cells))

    def gather(self, words: tuple[Words, Words]) -> Floats:
        """Centres and codewords (n, d), summed up."""
        whole: Floats = self.coarse.gather(words[0]) + self.fine.gather(words[1])
        return whole

    def error(self, z: Floats) -> float:
        """Mean squared distance of vectors (n, d) to what they are quantized to."""
        return float(np.square(z - self.gather(self.assign(z))).sum(axis=1).mean())


class CentreQuantizer(ProductQuantizer):
    """One codebook of any number of codewords: the centres of cells, learned as codewords are.

    Parameters
    ----------
    nlist : int
        Number of cells, at most `MOST`.
    """

    MOST = 1 << 16

    def __init__(self, nlist: int) -> None:
        super().__init__(1, 16)
        self._nlist = nlist

    @property
    def ksub(self) -> int:
        """Number of cells."""
        return self._nlist

    def learn(self, z: Floats, *, seed: int, progress: Progress | None = None) -> Floats:
        """Learn the centres (nlist, d) of embeddings (n, d), at least as many.

        `progress` is called after each iteration with {"stage": "cells", "iteration", "error"}.
        """

        def told(entry: dict[str, Any]) -> None:
            if progress is not None:
                progress({**entry, "stage": "cells"})

        self.train(z, iterations=_ITERATIONS, seed=seed, progress=told)
        centres: Floats = self.trained()[0]
        return centres

    @classmethod
    def of(cls, books: Floats) -> ProductQuantizer:
        """Make what assigns to the centres in `books`: see `Cells`."""
        parts, per_part, _ = books.shape
        made = cls(per_part) if parts == 1 else ProductQuantizer(parts, per_part.bit_length() - 1)
        made.codebooks = books
        return made


def split_rotation(encoder: Encoder) -> tuple[Encoder, Rotation | None]:
    """Return what comes before a rotation at the end, and that, if there is one."""
    *before, last = encoder.members
    if not isinstance(last, Rotation):
        return encoder, None
    return Chain.of(before, encoder.d_in), last
