"""The checks of single arguments: they raise `errors`, and say what was expected and came."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from deepq._common.errors import DimensionError, InputError, KindError

PRECISIONS = ("float32", "bfloat16")

# More results than this are refused when the index does not hold them: they would be padding.
_MOST_PADDED_RESULTS = 1 << 28
_LARGEST_SIZE = (1 << 31) - 1  # of C's int


def as_integer(value: Any, name: str) -> int:
    """Return a Python int. Raises KindError (TypeError, AttributeError) for anything else."""
    try:
        if isinstance(value, np.bool_):  # which older NumPy takes for 0 and 1
            raise TypeError
        number: int = operator.index(value)
    except (TypeError, RuntimeError):  # the latter by tensors
        raise KindError(f"expected {name} to be an integer, got {type(value).__name__}") from None
    return number


def as_tuple(values: Any, name: str) -> tuple[Any, ...]:
    """Return the members of an iterable. Raises KindError for anything else."""
    try:
        return tuple(values)
    except TypeError:
        raise KindError(f"expected {name} to be a sequence, got {type(values).__name__}") from None


def as_flag(value: Any, name: str) -> bool:
    """Return a bool. Raises KindError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise KindError(f"expected {name} to be True or False, got {type(value).__name__}")
    return bool(value)


def as_size(value: Any, name: str) -> int:
    """Return a positive int, a size to build with. Raises InputError below 1 and from 2**31 on."""
    size = as_integer(value, name)
    if size < 1:
        raise InputError(f"expected {name} of at least 1, got {size}")
    if size > _LARGEST_SIZE:
        raise InputError(f"expected {name} of at most {_LARGEST_SIZE}, got {size}")
    return size


def as_count(value: Any, name: str) -> int:
    """Return an int of at least 0. Raises InputError below."""
    count = as_integer(value, name)
    if count < 0:
        raise InputError(f"expected {name} of at least 0, got {count}")
    return count


def as_real(value: Any, name: str) -> float:
    """Return a float. Raises KindError for no number, InputError for NaN or a word."""
    try:
        if isinstance(value, np.ndarray) and value.ndim:  # older NumPy takes one of one number
            raise TypeError
        if isinstance(value, np.generic | np.ndarray) and value.dtype.kind == "c":
            raise TypeError  # of which float() takes one part
        number = float(value)
    except ValueError:
        raise InputError(f"expected {name} to be a number, got {value!r}") from None
    except TypeError:
        raise KindError(f"expected {name} to be a number, got {type(value).__name__}") from None
    if math.isnan(number):
        raise InputError(f"expected {name} to be a number, got NaN")
    return number


def as_precision(name: str) -> str:
    """Return the name of a precision that networks compute in. Raises InputError."""
    if not (isinstance(name, str) and name in PRECISIONS):
        raise InputError(f"expected a precision of {' or '.join(PRECISIONS)}, got {name!r}")
    return name


def as_share(value: Any, name: str, most: float = 1.0) -> float:
    """Return a float from 0 to `most`, else raise InputError, or KindError for no number."""
    share = as_real(value, name)
    if not 0 <= share <= most:
        raise InputError(f"expected {name} from 0 to {most:g}, got {value}")
    return share


def as_weight(value: Any, name: str) -> float:
    """Return a float of at least 0, else raise InputError, or KindError for no number."""
    return as_share(value, name, math.inf)


def as_metric(value: Any) -> int:
    """Return 0 (faiss.METRIC_INNER_PRODUCT) or 1 (faiss.METRIC_L2)."""
    metric = as_integer(value, "metric")
    if metric not in (0, 1):
        raise InputError(f"expected METRIC_L2 (1) or METRIC_INNER_PRODUCT (0), got {metric}")
    return metric


def as_search_type(value: Any) -> int:
    """Return one of IndexPQ's search types, ST_PQ (0) to ST_polysemous_generalize (5)."""
    mode = as_integer(value, "search_type")
    if not 0 <= mode <= 5:
        raise InputError(f"expected a search_type from ST_PQ (0) to 5, got {mode}")
    return mode


def as_k(k: Any, n: int, ntotal: int) -> int:
    """Check how many results to return for each of ``n`` queries.

    Raises DimensionError below 1, InputError for far more results than there are vectors.
    """
    count = as_integer(k, "k")
    if count < 1:
        raise DimensionError(f"expected k of at least 1, got {count}")
    if count > ntotal and count * max(n, 1) > _MOST_PADDED_RESULTS:
        raise InputError(f"expected k of at most ntotal = {ntotal} for {n} queries, got {count}")
    return count


def require_float32(numeric_type: int) -> None:
    """Refuse faiss's numeric types other than Float32 (0), as IndexPQ does."""
    if as_integer(numeric_type, "numeric_type") != 0:
        raise InputError(f"expected numeric_type faiss.Float32 (0), got {numeric_type}")
