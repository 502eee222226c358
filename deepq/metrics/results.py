"""Results of other libraries, in the form that faiss gives: -1 for what was not found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepq._common.arrays import as_array
from deepq._common.errors import DimensionError, KindError
from deepq._common.types import Floats, Ids
from deepq.metrics.arguments import as_scores

_LARGEST = np.iinfo(np.int64).max


def plain_results(D: Any, I: Any) -> tuple[Floats, Ids]:
    """Return scores (nq, k) float32 and ids (nq, k) int64, with -1 where there is no result.

    Libraries mark that in several ways: by fewer results than were asked for, by a score that is
    NaN beside a key of 0 (usearch, ScaNN), by the largest integer (rabitqlib), or by -1 (faiss).
    Scores stay what they are, of one library 1 less the inner product, of another that itself: only
    the order of a row counts for recall and mAP.

    Parameters
    ----------
    D : (nq, k) array of numbers, or a sequence of nq rows of any lengths
        Scores.
    I : (nq, k) array of integers, or a sequence of nq rows of any lengths
        Ids, the best first; signed or not.

    Raises
    ------
    KindError
        If `I` holds no integers, or `D` no real numbers.
    DimensionError
        If the two differ in shape, or are no rows.

    Examples
    --------
    >>> D, I = plain_results([[0.5, float("nan")], [0.1]], [[7, 0], [3]])
    >>> I.tolist()
    [[7, -1], [3, -1]]
    """
    scores, ids = _rows(D, "D"), _rows(I, "I")
    if [len(row) for row in scores] != [len(row) for row in ids]:
        raise DimensionError("expected as many scores in D as ids in I, got others")
    k = max(map(len, ids), default=0)
    found = np.full((len(ids), k), -1, np.int64)
    values = np.full((len(ids), k), np.nan, np.float32)
    for row, (its_scores, its_ids) in enumerate(zip(scores, ids, strict=True)):
        if not len(its_ids):
            continue
        if its_ids.dtype.kind not in "iu":
            raise KindError(f"expected integer ids in I, got dtype {its_ids.dtype}")
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            numbers = as_scores(its_scores, its_ids.shape, "D").astype(np.float32)
        there = ~np.isnan(numbers) & (its_ids >= 0) & (its_ids != np.iinfo(its_ids.dtype).max)
        there &= its_ids <= _LARGEST
        found[row, : len(its_ids)] = np.where(there, its_ids, 0).astype(np.int64) - ~there
        values[row, : len(its_ids)] = numbers
    return values, found


def _rows(value: Any, name: str) -> Sequence[Any]:
    """Rows of an array, or of a sequence. Raises DimensionError for anything else."""
    if isinstance(value, list | tuple):
        rows = [as_array(row, name) for row in value]
    else:
        whole = as_array(value, name)
        rows = list(whole) if whole.ndim else [whole]
    if any(np.ndim(row) != 1 for row in rows):
        raise DimensionError(f"expected {name} of nq rows, got others")
    return rows
