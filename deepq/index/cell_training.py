"""Cells and their training: what an index of cells adds to encoder and codebooks."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import faiss
import numpy as np

from deepq._common.checks import as_flag, as_size
from deepq._common.errors import FormatError, InputError
from deepq._common.types import Floats, Ids, InCells
from deepq.encoders.base import Encoder, embed
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Identity
from deepq.encoders.rotation import Rotation
from deepq.index.learned import LearnedIndex
from deepq.index.native.cells import NativeCells
from deepq.index.native.coarse import coarse_of, trains_alone
from deepq.index.native.originals import downcast_index
from deepq.quantizers.product import ProductQuantizer
from deepq.training.cells import Cells, CentreQuantizer, split_rotation
from deepq.training.progress import Report
from deepq.training.rows import Rows
from deepq.training.settings import TrainConfig
from deepq.training.trainer import Outcome

_ROWS_PER_CELL, _LEAST_ROWS = 64, 100_000  # of which cells are learned, at most


class CellTraining(LearnedIndex):
    """The strand of an index whose vectors belong to cells."""

    nlist: int
    by_residual: bool
    _native: NativeCells
    _coarse: tuple[Any, int] = (None, 0)
    _by_residual: bool = True

    def _build(self, encoder: Encoder, quantizer: ProductQuantizer, metric: int) -> NativeCells:
        coarse, nlist = self._coarse
        native = NativeCells.build(coarse, encoder, nlist, quantizer.M, quantizer.nbits, metric)
        native.pq_index.by_residual = self._by_residual
        native.pq_index.quantizer_trains_alone = int(trains_alone(coarse))
        return native

    def _begin(self, state: dict[str, Any]) -> None:
        nlist = as_size(state["nlist"], "nlist")
        if state["sizes"].shape != (nlist,):  # before anything is made for so many cells
            raise FormatError(f"sizes {state['sizes'].shape} of {nlist} lists")
        self._coarse = coarse_of(state["coarse"]), nlist
        self._by_residual = as_flag(state["by_residual"], "by_residual")

    def _inject(self, encoder: Encoder, quantizer: ProductQuantizer) -> None:
        self._native.require_cells()
        super()._inject(encoder, quantizer)

    def _fit(
        self, encoder: Encoder, quantizer: ProductQuantizer, x: Any, config: TrainConfig, **how: Any
    ) -> Outcome:
        """Learn the cells as well, which are in the C++ object afterwards, or as they were."""
        begun, kept = time.monotonic(), self._native.centres if self._native.has_cells else None
        learns = encoder.learns or how["y"] is not None
        stale = kept is not None and self.is_trained and learns  # they are of other embeddings
        if stale:
            self._native.forget_cells()
        before, rotation = self._turning(encoder, how["y"])
        try:
            first = None
            if how["y"] is not None or before.learns or not self.by_residual:
                decoder = how["decoder"] and not self.by_residual
                first = super()._fit(before, quantizer, x, config, **{**how, "decoder": decoder})
                before, config = first.encoder, _rest(config, first, begun, how["y"])
            history = self._learn_cells(self._sample(x, before, config.seed), config)
            if first is not None and not self.by_residual:
                return first._replace(history=first.history + history)
            learned, unlabelled = kept is None or stale, how["y"] is None
            cells, how = self._cells(before, learned), {**how, "y": None}
            outcome = super()._fit(rotation, quantizer, x, config, cells=cells, **how)
            if isinstance(rotation, Rotation):
                turned = outcome.encoder
                self._native.replace_centres(turned.encode(self._native.centres[0]))
                before = Chain.of([*_working(before), turned], before.d_in)
        except BaseException:
            if kept is None:
                self._native.forget_cells()
            elif stale:
                self._native.put_back(kept)
            raise
        interrupted = outcome.interrupted
        if first is not None:
            history = first.history + history
            interrupted = interrupted or first.interrupted
        unseen = outcome.unseen if first is None or unlabelled else None
        return Outcome(before, history + outcome.history, interrupted, unseen)

    def _turning(self, encoder: Encoder, y: Any) -> tuple[Encoder, Encoder]:
        """Return what comes before the cells, and what is learned from residuals."""
        before, rotation = split_rotation(encoder)
        if rotation is None or y is not None or not self.by_residual or self._keeps_cells:
            return encoder, Identity(encoder.d_out)
        return before, rotation

    @property
    def _keeps_cells(self) -> bool:
        """Whether the centres cannot be turned: they are a user's, or those of a multi-index."""
        coarse = downcast_index(self._native.pq_index.quantizer)
        return self._native.has_cells or isinstance(coarse, faiss.MultiIndexQuantizer)

    def _sample(self, x: Any, encoder: Encoder, seed: int) -> Floats:
        most = max(_LEAST_ROWS, _ROWS_PER_CELL * self.nlist)
        rows = Rows(x, encoder.d_in, encoder.input_shape).sample(most, np.random.default_rng(seed))[
            1
        ]
        if len(rows) < self.nlist:
            got = f"got {len(rows)}"
            raise InputError(
                f"expected at least {self.nlist} training vectors for as many cells, {got}"
            )
        return embed(encoder, rows)

    def _learn_cells(self, z: Floats, config: TrainConfig) -> list[dict[str, Any]]:
        """Put centres into the coarse quantizer, unless it has some; return the history of that."""
        native, quantizer = self._native, CentreQuantizer(self.nlist)
        if native.has_cells or native.has_own_training or self.nlist > CentreQuantizer.MOST:
            native.learn_cells(z, self._threads())
            return []
        quantizer.num_threads = self._threads()
        with Report(bool(self.verbose), None) as report:
            native.replace_centres(quantizer.learn(z, seed=config.seed, progress=report))
        return report.history

    def _cells(self, before: Encoder, learned: bool) -> Cells:
        """Return the cells that there are, of the embeddings of an encoder.

        They can move where they have been `learned` just now, and are nearest by L2.
        """
        native, threads = self._native, self._threads()
        moves = learned and native.pq_index.quantizer.metric_type == faiss.METRIC_L2
        return Cells(
            before,
            native.centres,
            lambda z, n: native.nearest_cells(z, n, threads)[1],
            native.put_back if moves and self.nlist <= CentreQuantizer.MOST else None,
        )

    def _in_cells(self, cells: Ids) -> InCells:
        """Cells (n,) of vectors, with the centres of those that there are."""
        distinct, rows = np.unique(cells, return_inverse=True)
        return InCells(self._native.centres_of(distinct), rows)


def _rest(config: TrainConfig, first: Outcome, begun: float, y: Any) -> TrainConfig:
    """Return settings to learn from residuals by, after an encoder that was learned first."""
    config = dataclasses.replace(config, checkpoint=None, ranking=config.ranking and y is None)
    if first.interrupted:  # no more than codebooks
        config = dataclasses.replace(config, validation=0.0)
    if config.max_seconds is not None:
        left = max(0.0, config.max_seconds - (time.monotonic() - begun))
        config = dataclasses.replace(config, max_seconds=left)
    return config


def _working(encoder: Encoder) -> list[Encoder]:
    return [member for member in encoder.members if not isinstance(member, Identity)]
