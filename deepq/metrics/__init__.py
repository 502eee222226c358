"""How good a ranking is: plain functions of the ids that a search returned.

`ranking` has the measures, each with its formula. `relevance` says which results are
relevant, and sums over their ranks. ``docs/evaluation.md`` says what published code divides by.

A leaf: it imports `_common` alone. A new measure: one function in `ranking`, one line here, one row
in ``docs/evaluation.md``, and a test against a computation by hand.
"""

from deepq.metrics.ranking import (
    average_precision,
    mean_average_precision,
    precision_at,
    precision_recall_curve,
    recall,
)

__all__ = [
    "average_precision",
    "mean_average_precision",
    "precision_at",
    "precision_recall_curve",
    "recall",
]
