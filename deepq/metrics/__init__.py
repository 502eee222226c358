"""How good a ranking is: plain functions of the ids that a search returned.

Every function takes ``I``, (nq, depth) integer ids in ranked order, best first, as ``search``
returns them. The id -1 stands for "nothing found" and never counts. An id counts once, at its
first place in a row; where it comes again (pieces of one document under its number), that is as if
it were -1.

`neighbours` compares with true neighbours, `ranking` compares classes, each with its formula;
`buckets` has what hash tables are measured by. `relevance` says which results are relevant, and
sums over their ranks; `arguments` checks what is given, `results` takes those of other libraries.

A leaf: it imports `_common` alone. A new measure: one function in `ranking`, one line here, one
row in ``docs/evaluation.md``, and a test against a computation by hand.
"""

from deepq.metrics.buckets import normalized_mutual_information, speed_up, without_self
from deepq.metrics.neighbours import recall
from deepq.metrics.ranking import (
    average_precision,
    mean_average_precision,
    precision_at,
    precision_recall_curve,
)
from deepq.metrics.results import plain_results

__all__ = [
    "average_precision",
    "mean_average_precision",
    "normalized_mutual_information",
    "plain_results",
    "precision_at",
    "precision_recall_curve",
    "recall",
    "speed_up",
    "without_self",
]
