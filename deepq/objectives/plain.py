"""Objectives as plain data: their kinds by name."""

from __future__ import annotations

from typing import Any

from deepq._common.errors import FormatError
from deepq.objectives.base import Objective
from deepq.objectives.class_codes import CentralSimilarity, OrthoHash
from deepq.objectives.classes import Classification, CosineSoftmax, Likelihood
from deepq.objectives.compound_codes import CompoundCodes
from deepq.objectives.pairs import Contrastive, InnerProduct, NPair, PairwiseCosine, TripletRanking
from deepq.objectives.row_codes import CodeRegression, InferredCodes


def objective_state(objective: Objective) -> dict[str, Any] | None:
    """Describe an objective of this room by its class and arguments; None for any other."""
    if OBJECTIVES.get(type(objective).__name__) is not type(objective):
        return None
    return {"type": type(objective).__name__, **objective.state()}


def make_objective(state: dict[str, Any]) -> Objective:
    """Make the objective that a state describes. Raises FormatError for anything else."""
    rest = dict(state)
    try:
        return OBJECTIVES[rest.pop("type")].from_state(rest)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"expected the state of an objective, got {error}") from error


OBJECTIVES: dict[str, type[Objective]] = {
    cls.__name__: cls
    for cls in (
        PairwiseCosine,
        InnerProduct,
        Contrastive,
        TripletRanking,
        NPair,
        Classification,
        CosineSoftmax,
        Likelihood,
        CodeRegression,
        InferredCodes,
        OrthoHash,
        CentralSimilarity,
        CompoundCodes,
    )
}
