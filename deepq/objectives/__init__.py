"""Objectives: what a training with labels minimises, as torch modules.

`base` says what an objective is and what it sees of a batch. `losses` has the formulas, as
functions of embeddings. By what rows are compared with: each other (`pairs`), their classes
(`classes`), a code for each class (`class_codes`, and of several levels `compound_codes`) or each
row (`row_codes`). `plain` has the kinds by name.

It imports `_common` and `labels`, and torch. A new objective: a subclass of `Objective` with
`forward` in the file of its kind, which keeps the arguments of its constructor, all with defaults,
as attributes of the same names; one line in `plain`, one line here, and a test by hand.
"""

from deepq._common.extras import need_torch

need_torch()

from deepq.objectives.base import Objective
from deepq.objectives.class_codes import CentralSimilarity, OrthoHash
from deepq.objectives.classes import Classification, CosineSoftmax, Likelihood
from deepq.objectives.compound_codes import CompoundCodes
from deepq.objectives.pairs import (
    Contrastive,
    InnerProduct,
    NPair,
    PairwiseCosine,
    TripletRanking,
)
from deepq.objectives.plain import OBJECTIVES, make_objective, objective_state
from deepq.objectives.row_codes import CodeRegression, InferredCodes

__all__ = [
    "OBJECTIVES",
    "CentralSimilarity",
    "Classification",
    "CodeRegression",
    "CompoundCodes",
    "Contrastive",
    "CosineSoftmax",
    "InferredCodes",
    "InnerProduct",
    "Likelihood",
    "NPair",
    "Objective",
    "OrthoHash",
    "PairwiseCosine",
    "TripletRanking",
    "make_objective",
    "objective_state",
]
