"""What an index has besides encoder, codebooks and codes, for the C++ object to take along.

faiss writes, reads and copies it without looking at it (`native.payload`), so that an index comes
back whole from its files. As in our own files nothing in it is trusted.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from deepq._common.errors import FormatError, KindError
from deepq._common.plain_data import OwnObject, split_arrays
from deepq.decoders.plain import AnyDecoder, make_decoder
from deepq.encoders.base import Encoder
from deepq.index.native.payload import codebooks_crc
from deepq.index.native.transforms import members_of
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from deepq.index.settings import IndexSettings
    from deepq.objectives.base import Objective

_log = logging.getLogger("deepq.index")

State = dict[str, Any]


def carried_state(
    index: IndexSettings, encoder: Encoder, decoder: AnyDecoder | None, codebooks: Any
) -> State:
    """Describe an index by its settings, the kinds of its encoders, and its decoder.

    `codebooks` are those that the decoder belongs to: beside others it is not used.
    """
    objective = objective_state(index.objective)
    return {
        "encoder": [type(member).__name__ for member in members_of(encoder)],
        "decoder": None if decoder is None else decoder.state(),
        "crc": None if decoder is None else codebooks_crc(codebooks),
        "rerank": index.rerank,
        "training": training_state(index.training),
        "objective": None if isinstance(objective, OwnObject) else objective,
        "history": _plain_history(index.history),
    }


def _plain_history(history: list[State]) -> list[State]:
    """Return entries that files can hold; none where somebody has put other things there."""
    try:
        split_arrays(history, [])
    except KindError:
        return []
    return list(history)


def take_decoder(quantizer: ProductQuantizer, carried: State | None) -> None:
    """Give a quantizer the decoder that is carried, if any. Raises FormatError for a faulty one."""
    if carried is not None and carried["decoder"] is not None:
        try:
            quantizer.decoder = make_decoder(carried["decoder"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(f"expected a decoder of an index, got {error!r}") from error


def take_settings(index: IndexSettings, carried: State | None) -> None:
    """Give an index the settings that are carried. Raises FormatError for faulty ones."""
    if carried is None:
        return
    try:
        with index._carrying_once():
            index.rerank = carried["rerank"]
            index.training = make_training(carried["training"])
            index.objective = made_objective(carried["objective"])
            index.history = list(carried["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"expected settings of an index, got {error!r}") from error


# ---- settings as plain data ----------------------------------------------------------------------


class OwnObjective(OwnObject):
    """An objective of a user's own class: pickles and copies hold it, files leave it out."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def plain(self) -> None:
        """Nothing: it is needed to train, not to search."""
        _log.warning(
            "the objective is of a class of your own, %s: the file does without",
            type(self.objective).__name__,
        )


def objective_state(objective: Objective | None) -> Any:
    """Describe an objective, if there is one."""
    if objective is None:
        return None
    from deepq.objectives.plain import objective_state as described

    state = described(objective)
    return OwnObjective(objective) if state is None else state


def made_objective(state: Any) -> Objective | None:
    """Make what `objective_state` describes."""
    if isinstance(state, OwnObjective):
        return state.objective
    if state is None:
        return None
    from deepq.objectives.plain import make_objective  # torch: only with a network

    return make_objective(state)


def training_state(training: TrainConfig | None) -> State | None:
    """Describe settings, without the place of a checkpoint on one machine."""
    if training is None:
        return None
    state = dataclasses.asdict(dataclasses.replace(training, checkpoint=None))
    if state["additive"]:  # of which the first files know nothing
        del state["additive"]
    return state


def make_training(state: State | None) -> TrainConfig | None:
    """Make what `training_state` describes: who made a file does not choose where we write."""
    return None if state is None else TrainConfig(**{**state, "checkpoint": None})
