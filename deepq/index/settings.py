"""Settings of any index of ours besides those of faiss's classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import faiss

from deepq._common.checks import as_count, as_size
from deepq._common.errors import InputError, KindError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.index.carried import carried_state
from deepq.index.native.chain import NativeChain
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from deepq.objectives.base import Objective

_MOST_THREADS = 1 << 10


class IndexSettings:
    """What a user sets, and the C++ object takes along: see `carried`."""

    _history: list[dict[str, Any]] = []  # noqa: RUF012 - replaced, never changed in place
    _training: TrainConfig | None = None
    _rerank: int = 0
    _num_threads: int | None = None
    _objective: Objective | None = None
    _waits: bool = False  # what is to be carried, for the end of `_carrying_once`
    _native: NativeChain
    _encoder: Encoder
    _quantizer: ProductQuantizer
    _decoded_by: Floats | None = None  # the codebooks that the decoder belongs to

    @property
    def training(self) -> TrainConfig | None:
        """Settings of the next training; None for those of ``pq.cp``."""
        return self._training

    @training.setter
    def training(self, value: TrainConfig | None) -> None:
        if value is not None and not isinstance(value, TrainConfig):
            raise KindError(f"expected a TrainConfig, got {type(value).__name__}")
        self._training = value
        self._carry()

    @property
    def objective(self) -> Objective | None:
        """What the network in the encoder minimises when it is trained with labels, if anything."""
        return self._objective

    @objective.setter
    def objective(self, value: Objective | None) -> None:
        if value is not None and not hasattr(value, "quantization_weight"):
            raise KindError(f"expected an Objective, got {type(value).__name__}")
        self._objective = value
        self._carry()

    @property
    def history(self) -> list[dict[str, Any]]:
        """Entries of the last training: see `deepq.training.trainer.Outcome`."""
        return self._history

    @history.setter
    def history(self, value: list[dict[str, Any]]) -> None:
        self._history = value
        self._carry()

    @property
    def rerank(self) -> int:
        """How many of the best vectors of a scan are ranked anew by the decoder; 0 for none.

        Above 0 when `train` is called, a decoder is learned. Without a decoder it has no effect.
        Setting it above 0 raises InputError with a `BinaryQuantizer`, which takes no decoder.
        """
        return self._rerank

    @rerank.setter
    def rerank(self, value: int) -> None:
        count = as_count(value, "rerank")
        if count and self._quantizer.is_frozen:
            name = type(self._quantizer).__name__
            raise InputError(f"expected rerank = 0 with a {name}, got {count}")
        self._rerank = count
        self._carry()

    @property
    def num_threads(self) -> int | None:
        """Most threads of a call; None for as many as `faiss.omp_get_max_threads` says then.

        A setting of this object, which files, pickles and copies leave out. NumPy's matrix products
        and torch have settings of their own. Setting it raises InputError below 1.
        """
        return self._num_threads

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        self._num_threads = None if value is None else as_size(value, "num_threads")

    def _threads(self, params: Any = None) -> int:
        """How many threads a call may use that was given these parameters."""
        asked = getattr(params, "num_threads", None) or self._num_threads
        return min(asked or int(faiss.omp_get_max_threads()), _MOST_THREADS)

    @contextmanager
    def _carrying_once(self) -> Iterator[None]:
        """Let the C++ object take along what is set in here, at the end, and once."""
        outer, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = outer
        self._carry()

    def _carry(self) -> None:
        """Let the C++ object take along what faiss does not know."""
        if self._waits:
            return
        decoder = self._quantizer.decoder
        self._native.carry(carried_state(self, self._encoder, decoder, self._decoded_by))
