"""How the two networks of a hash table are trained: the metric first, then the buckets."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from deepq._common.arrays import as_array
from deepq._common.errors import InputError
from deepq.encoders.base import Encoder
from deepq.labels.supervision import Classes, as_supervision
from deepq.quantizers.binary import BinaryQuantizer
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig
from deepq.training.trainer import Outcome, fit

if TYPE_CHECKING:
    from deepq.objectives.base import Objective

# Of a network that begins with trained features: share of the rate, and epochs by default.
_ON_TRAINED, _EPOCHS = 0.1, 12


@dataclass(frozen=True)
class HashTraining:
    """One training of both networks.

    Attributes
    ----------
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT, of embeddings.
    objective, hash_objective : Objective or None
        What the two minimise.
    config : TrainConfig
        Settings. Its time is for both. The second one has a checkpoint beside that of the first,
        whose name ends in ".hasher".
    verbose : bool
        Whether progress is shown.
    """

    metric: int
    objective: Objective | None
    hash_objective: Objective | None
    config: TrainConfig
    verbose: bool

    def learn(
        self, embedder: Encoder, hasher: Encoder, quantizer: ProductQuantizer | None, x: Any, y: Any
    ) -> tuple[Encoder, Encoder, list[dict[str, Any]], bool]:
        """Train both, and codebooks for embeddings if there is a quantizer, which is in place.

        Returns the two encoders, the history, and whether Ctrl-C ended the training of the second;
        it raises KeyboardInterrupt where it came earlier.
        """
        start = time.monotonic()
        first = self._fit(embedder, quantizer, x, y, self.objective, self.config)
        if first.interrupted:
            raise KeyboardInterrupt
        history = _named(first.history, "metric")
        if not hasher.learns:
            return first.encoder, hasher, history, False
        begins = _on_same_features(hasher, first.encoder)
        second = self._fit(
            hasher, None, x, y, self.hash_objective, self._second(time.monotonic() - start, begins)
        )
        history += _named(second.history, "buckets")
        return first.encoder, second.encoder, history, second.interrupted

    def _second(self, elapsed: float, begins: bool) -> TrainConfig:
        """Return the settings of the second training, so many seconds after the beginning."""
        config = self.config
        if config.max_seconds is not None:
            config = replace(config, max_seconds=max(0.0, config.max_seconds - elapsed))
        if config.checkpoint is not None:
            config = replace(config, checkpoint=f"{config.checkpoint}.hasher")
        if begins:
            from deepq.training.network import LEARNING_RATE

            rate = LEARNING_RATE if config.learning_rate is None else config.learning_rate
            epochs = _EPOCHS if config.epochs is None else config.epochs
            config = replace(config, learning_rate=_ON_TRAINED * rate, epochs=epochs)
        return config

    def _fit(
        self,
        encoder: Encoder,
        quantizer: ProductQuantizer | None,
        x: Any,
        y: Any,
        objective: Objective | None,
        config: TrainConfig,
    ) -> Outcome:
        nothing = BinaryQuantizer(1, 1)  # has no codewords to learn
        return fit(
            encoder,
            nothing if quantizer is None else quantizer,
            x,
            config,
            y=y,
            objective=objective,
            metric=self.metric,
            verbose=self.verbose,
        )


def _named(history: list[dict[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Call the training of a network by what it was for."""
    return [
        {**entry, "stage": stage} if entry["stage"] == "network" else entry for entry in history
    ]


def as_classes(y: Any, n: int) -> Any:
    """Labels (n,) of one class a row; tags of which each row has exactly one are such labels.

    Raises InputError for labels that are no classes, and as `as_supervision`.
    """
    supervision = as_supervision(y, n)
    if supervision.several and (supervision.y.sum(axis=1) == 1).all():
        return np.asarray(supervision.y.argmax(axis=1))
    if not isinstance(supervision, Classes):
        kind = "tags" if supervision.several else type(supervision).__name__
        raise InputError(f"expected labels of one class a row for a hash table, got {kind}")
    return as_array(y, "y")


def _on_same_features(hasher: Encoder, embedder: Encoder) -> bool:
    """Let the network of the hasher begin with that of the embedder, or with its backbone.

    Returns whether it has such a part.
    """
    own = getattr(_network(hasher), "backbone", None)
    trained = _network(embedder)
    part: Any
    for part in (trained, getattr(trained, "backbone", None)):
        if own is not None and _is_like(own, part):
            own.load_state_dict(copy.deepcopy(part.state_dict()))
            return True
    return False


def _network(encoder: Encoder) -> Any:
    """Return the network in an encoder, if there is one."""
    return next((m.network for m in encoder.members if hasattr(m, "network")), None)


def _is_like(a: Any, b: Any) -> bool:
    """Whether two modules have the same class and shapes."""
    if type(a) is not type(b):
        return False
    shapes = [[(name, t.shape) for name, t in m.state_dict().items()] for m in (a, b)]
    return bool(shapes[0] == shapes[1])
