"""What the parameters of one search among cells are: faiss's, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import faiss
import numpy as np

from deepq._common.checks import as_count, as_size
from deepq._common.errors import InputError, KindError
from deepq._common.types import Codes, Ids
from deepq.index.native import called
from deepq.index.search_parameters import SearchParameters

_UNKNOWN = ("max_empty_result_buckets", "max_lists_num")  # of faiss 1.15, which stop otherwise

Allowed = dict[int, Codes]


class CellParameters(NamedTuple):
    """Parameters of a call.

    Attributes
    ----------
    nprobe : int
        Cells that a query looks into.
    max_codes : int
        Codes that a query scores before it stops; 0 for no limit.
    whole_cells : bool
        Whether a cell that has been begun is looked into to its end.
    sel : faiss.IDSelector or None
        Ids that may be found.
    inner : faiss.SearchParameters or None
        Those of the coarse quantizer.
    """

    nprobe: int
    max_codes: int = 0
    whole_cells: bool = False
    sel: Any = None
    inner: Any = None


def parameters_of(params: Any, nprobe: int, max_codes: int) -> CellParameters:
    """Read what a user gives, of an index with its own nprobe and max_codes.

    Raises
    ------
    KindError, InputError
        If `params` is of a class that is not for cells, or a number in it is out of range.
    """
    if params is not None and not isinstance(params, faiss.SearchParameters):
        raise KindError(f"expected deepq.SearchParameters, got {type(params).__name__}")
    if isinstance(params, SearchParameters) and params.nprobe is not None:
        nprobe = params.nprobe
    elif isinstance(params, faiss.SearchParametersIVF):
        for name in _UNKNOWN:
            if getattr(params, name, 0):
                raise InputError(f"expected {name} = 0, got {getattr(params, name)}")
        return CellParameters(
            as_size(params.nprobe, "nprobe"),
            as_count(params.max_codes, "max_codes"),
            bool(getattr(params, "ensure_topk_full", False)),
            params.sel,
            params.quantizer_params,
        )
    elif not (
        params is None
        or isinstance(params, SearchParameters)
        or type(params) is faiss.SearchParameters
    ):
        got = type(params).__name__
        raise InputError(f"expected deepq.SearchParameters or faiss.SearchParametersIVF, got {got}")
    sel = None if params is None else params.sel
    return CellParameters(as_size(nprobe, "nprobe"), as_count(max_codes, "max_codes"), sel=sel)


def members(table: Any, cells: Ids, sel: Any) -> Allowed | None:
    """Bits of the codes that a selector allows, for every cell that is looked into."""
    if sel is None:
        return None
    return {
        int(cell): called.members_of(sel, table.list_of(cell)[1])
        for cell in np.unique(cells[cells >= 0])
    }


def limited(
    cells: Ids, sizes: Ids, allowed: Allowed | None, params: CellParameters, k: int
) -> Iterator[tuple[Ids, Allowed]]:
    """For each query the cells (1, nprobe) and codes that it may score, as faiss 1.15 has it.

    Cells are gone through in order. Of each come the rows up to as many as may still be scored;
    those among them that are allowed count.
    """
    most = max(params.max_codes, k) if params.whole_cells else params.max_codes
    for row in cells:
        left, own, chosen = most, np.full((1, len(row)), -1), {}
        for column, cell in enumerate(row.tolist()):
            if cell < 0 or left <= 0:
                continue
            marks = np.ones(sizes[cell], np.uint8)
            if allowed is not None:
                marks = np.unpackbits(allowed[cell], count=len(marks), bitorder="little")
            if not params.whole_cells:
                marks[left:] = 0
            own[0, column], chosen[cell] = cell, np.packbits(marks, bitorder="little")
            left -= int(marks.sum())
        yield own, chosen
