"""A faiss IndexPQ behind transforms as plain data, from C++ objects or the bytes of a file."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.safe_files import InFile
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder


class Transform(NamedTuple):
    """A faiss VectorTransform.

    Of the kinds "linear" (`numbers` are A, `b` may be somebody else's without a bias), "centring"
    (the mean), "remapping" (which input is each output, -1 for none) and "normalizing" (the norm),
    or of another, whose numbers are not known.
    """

    kind: str
    d_in: int
    d_out: int
    is_trained: bool
    numbers: NDArray[Any]
    has_bias: bool = False
    b: Floats = np.empty(0, np.float32)


class PlainIndex(NamedTuple):
    """An encoder and what an IndexPQ holds.

    `is_trained` is that of the whole; the codebooks (M, ksub, dsub) are None if the IndexPQ is not.
    """

    encoder: Encoder
    is_trained: bool
    M: int
    nbits: int
    metric: int
    codebooks: Floats | None
    codes: Codes | InFile
    settings: dict[str, Any]
    carried: Any  # what `NativeChain.carry` put into it, or None
