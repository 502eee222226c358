"""Cells and their training: what an index of cells adds to encoder and codebooks."""

from __future__ import annotations

import dataclasses
from typing import Any

import faiss
import numpy as np

from deepq._common.checks import as_flag, as_size
from deepq._common.errors import FormatError, InputError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder, embed
from deepq.encoders.rotation import Rotation
from deepq.index.learned import LearnedIndex
from deepq.index.native.cells import NativeCells
from deepq.index.native.coarse import coarse_of, trains_alone
from deepq.quantizers.product import ProductQuantizer
from deepq.training.cells import Residual, residual_chain, split_rotation, without_residual
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
        had_cells = self._native.has_cells
        before, rotation = split_rotation(encoder)
        turns = (
            how["y"] is None and self.by_residual and rotation is not None and not self._keeps_cells
        )
        try:
            if rotation is not None and turns:
                return self._fit_turned(before, rotation, quantizer, x, config, **how)
            outcome = super()._fit(encoder, quantizer, x, config, **{**how, "decoder": False})
            z = self._sample(x, outcome.encoder, config.seed)
            self._learn_cells(z)
            if self.by_residual:
                quantizer.codebooks = None
                quantizer.train(self._residual().encode(z), seed=config.seed)
        except BaseException:
            if not had_cells:
                self._native.forget_cells()
            raise
        return outcome

    def _fit_turned(
        self,
        before: Encoder,
        rotation: Rotation,
        quantizer: ProductQuantizer,
        x: Any,
        config: TrainConfig,
        **how: Any,
    ) -> Outcome:
        """Learn cells, then the rotation from residuals, which turns the centres, too."""
        self._learn_cells(self._sample(x, before, config.seed))
        chain = residual_chain(before, self._residual(), rotation)
        plain = dataclasses.replace(config, ranking=False)
        outcome = super()._fit(chain, quantizer, x, plain, **how)
        learned = outcome.encoder.members[-1]
        self._native.replace_centres(learned.encode(self._native.centres[0]))
        return outcome._replace(encoder=without_residual(outcome.encoder))

    @property
    def _keeps_cells(self) -> bool:
        """Whether the centres cannot be turned: they are a user's, or those of a multi-index."""
        coarse = faiss.downcast_index(self._native.pq_index.quantizer)
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

    def _learn_cells(self, z: Floats) -> None:
        self._native.learn_cells(z, self._threads())

    def _residual(self) -> Residual:
        centres, threads = self._native.centres, self._threads()
        whole = centres[0] if len(centres) == 1 else self._native.centres_of(np.arange(self.nlist))
        return Residual(whole, lambda z: self._native.nearest_cells(z, 1, threads)[1][:, 0])
