"""The checks of arguments: they raise `errors`, and say what was expected and what came."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import DimensionError, InputError, KindError
from deepq._common.types import Codes, Floats

PRECISIONS = ("float32", "bfloat16")

# More results than this are refused when the index does not hold them: they would be padding.
_MOST_PADDED_RESULTS = 1 << 28
_LARGEST_SIZE = (1 << 31) - 1  # of C's int


def as_vectors(
    x: Any,
    d: int,
    name: str = "x",
    *,
    finite: bool = False,
    image: tuple[int, ...] = (),
    keep_bytes: bool = False,
) -> Floats:
    """Rows of ``d`` numbers as C-contiguous float32; a copy only where one is needed.

    Images may come unflattened, (n, *image), where `image` is the shape of one. With `keep_bytes`
    an array of uint8 stays one, for a caller that goes through it in parts.

    Raises
    ------
    KindError
        If `x` is no array, or of a dtype that does not stand for real numbers.
    DimensionError
        If the shape is not (n, d), nor that of images.
    InputError
        If `finite` is asked for and a row is not finite, or too large, in float32.
    """
    if isinstance(x, np.ma.MaskedArray):
        raise KindError(f"expected {name} to be a plain array, got a masked one")
    if not isinstance(x, np.ndarray):
        raise KindError(f"expected {name} to be an (n, {d}) array, got {type(x).__name__}")
    given, x = x.shape, flattened(x, image)
    if x.ndim != 2 or x.shape[1] != d:
        images = f" or (n, {', '.join(map(str, image))})" if len(image) == 3 else ""
        raise DimensionError(f"expected {name} of shape (n, {d}){images}, got {given}")
    if x.dtype.kind not in "fiub":
        raise KindError(f"expected {name} of real numbers, got dtype {x.dtype}")
    if keep_bytes and x.dtype == np.uint8:
        return np.ascontiguousarray(np.asarray(x))
    with np.errstate(over="ignore"):  # beyond float32 is infinite, which is what is checked
        rows: Floats = np.ascontiguousarray(np.asarray(x), dtype=np.float32)
    if finite:
        require_usable(rows, name)
    return rows


def flattened(x: Any, image: tuple[int, ...]) -> Any:
    """Rows of an array of images (n, *image), where that is a shape of images; else `x`."""
    is_images = len(image) == 3 and isinstance(x, np.ndarray) and x.shape[1:] == image
    return x.reshape(len(x), math.prod(image)) if is_images else x


def require_finite(x: Floats, name: str, rows: int | NDArray[np.int64] = 0) -> None:
    """Raise InputError where a row (n, d) is not finite.

    `rows` are the numbers that a user knows the rows by, or that of the first.
    """
    if np.isfinite(x).all():
        return
    bad = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
    number = rows + bad if isinstance(rows, int) else int(rows[bad])
    raise InputError(f"expected finite numbers in {name}, got NaN or infinity in row {number}")


def require_usable(x: Floats, name: str, rows: int | NDArray[np.int64] = 0) -> None:
    """Raise InputError where a row (n, d) is not finite, or too large for squared distances.

    `rows` as in `require_finite`.
    """
    if not x.size:
        return
    require_finite(x, name, rows)
    limit = math.sqrt(float(np.finfo(np.float32).max) / x.shape[1]) / 2
    largest = float(max(x.max(), -x.min()))
    if largest > limit:
        raise InputError(
            f"expected numbers up to {limit:.3g} in {name}, whose squared distances float32 holds, "
            f"got {largest:.3g}"
        )


def as_array(value: Any, name: str) -> NDArray[Any]:
    """Return what NumPy makes of a value. Raises KindError where that is nothing."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = type(value).__name__
        raise KindError(f"expected {name} to be an array of numbers, got {got}: {error}") from error


def as_floats(value: Any, name: str) -> Floats:
    """Copy an array of real numbers, float32 and C-contiguous; those beyond float32 are infinite.

    Raises KindError for anything else.
    """
    given = as_array(value, name)
    if given.dtype.kind not in "fiub":
        got = f"dtype {given.dtype} from {type(value).__name__}"
        raise KindError(f"expected {name} to be an array of real numbers, got {got}")
    with np.errstate(over="ignore"):
        return np.array(given, np.float32, order="C", subok=False)


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


def as_part(value: Any, name: str, most: float) -> float:
    """Return a float from 0 to `most`, else raise InputError, or KindError for no number."""
    part = as_real(value, name)
    if not 0 <= part <= most:
        raise InputError(f"expected {name} from 0 to {most:g}, got {value}")
    return part


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


def as_output(out: Any, shape: tuple[int, ...], dtype: Any, name: str) -> NDArray[Any]:
    """Return the array that results go to: `out` if it fits, or a new one."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise KindError(f"expected {name} to be an array, got {type(out).__name__}")
    if out.shape != shape:
        raise DimensionError(f"expected {name} of shape {shape}, got {out.shape}")
    if out.dtype != dtype:
        raise KindError(f"expected {name} of dtype {np.dtype(dtype)}, got {out.dtype}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        got = "a read-only one" if out.flags.c_contiguous else f"strides {out.strides}"
        raise InputError(f"expected {name} to be a C-contiguous array to write to, got {got}")
    return out


def as_codes(codes: Any, code_size: int) -> Codes:
    """Packed codes, (n, code_size) uint8, C-contiguous."""
    if not isinstance(codes, np.ndarray):
        raise KindError(f"expected codes to be a uint8 array, got {type(codes).__name__}")
    if codes.ndim != 2 or codes.shape[1] != code_size:
        raise DimensionError(f"expected codes of shape (n, {code_size}), got {codes.shape}")
    if codes.dtype != np.uint8:
        raise KindError(f"expected codes of dtype uint8, got {codes.dtype}")
    return np.ascontiguousarray(codes)


def as_ids(ids: Any, ntotal: int, name: str = "ids") -> NDArray[np.int64]:
    """Positions of stored vectors, (n,) int64, each from 0 to ntotal - 1."""
    ids = as_array(ids, name)
    if ids.ndim != 1:
        raise DimensionError(f"expected {name} of shape (n,), got {ids.shape}")
    if ids.dtype.kind not in "iu" and ids.size:
        raise KindError(f"expected {name} to be integers, got dtype {ids.dtype}")
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < ntotal:
        raise InputError(f"expected {name} from 0 to {ntotal - 1}, got {ids.min()} to {ids.max()}")
    return np.ascontiguousarray(ids, dtype=np.int64)


def require_float32(numeric_type: int) -> None:
    """Refuse faiss's numeric types other than Float32 (0), as IndexPQ does."""
    if as_integer(numeric_type, "numeric_type") != 0:
        raise InputError(f"expected numeric_type faiss.Float32 (0), got {numeric_type}")
