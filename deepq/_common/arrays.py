"""The door for arrays of a user's, of every kind: one look at shape, dtype and values."""

from __future__ import annotations

import math
import sys
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import DimensionError, InputError, KindError
from deepq._common.sources import is_outside
from deepq._common.types import Codes, Floats, Ids

_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_LARGEST_WHOLE = float(1 << 63)  # that int64 does not hold


def as_vectors(
    x: Any,
    d: int,
    name: str = "x",
    *,
    finite: bool = False,
    image: tuple[int, ...] = (),
    keep_bytes: bool = False,
    rows: int | NDArray[np.int64] = 0,
) -> Floats:
    """Rows of ``d`` numbers as C-contiguous float32; a copy only where one is needed.

    They are those of an array, or of what has a shape and becomes one: see `as_array`. Images may
    come unflattened, (n, *image), where `image` is the shape of one. With `keep_bytes`
    an array of uint8 stays one, for a caller that goes through it in parts. `rows` are the numbers
    that a user knows the rows by, or that of the first: of one that is not finite it is told.

    Raises
    ------
    KindError
        If `x` is no array, or of a dtype that does not stand for real numbers.
    DimensionError
        If the shape is not (n, d), nor that of images.
    InputError
        If `finite` is asked for and a row is not finite, or too large, in float32.
    """
    if _is_rows(x, d):
        if finite:
            require_usable(x, name, rows)
        return x
    if not _is_array(x):  # lists: faiss refuses them, too
        raise KindError(f"expected {name} to be an (n, {d}) array, got {type(x).__name__}")
    x = _stacked(as_array(x, name), d, name)
    given, x = x.shape, flattened(x, image)
    if x.ndim != 2 or x.shape[1] != d:
        images = f" or (n, {', '.join(map(str, image))})" if len(image) == 3 else ""
        raise DimensionError(f"expected {name} of shape (n, {d}){images}, got {given}")
    if x.dtype.kind not in "fiub":
        raise KindError(f"expected {name} of real numbers, got dtype {x.dtype}")
    if keep_bytes and x.dtype == np.uint8:
        return np.ascontiguousarray(np.asarray(x))
    vectors: Floats = np.asarray(x)
    if vectors.dtype != np.float32:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is what is checked
            vectors = vectors.astype(np.float32)
    vectors = np.ascontiguousarray(vectors)
    if finite:
        require_usable(vectors, name, rows)
    return vectors


def _is_rows(x: Any, d: int) -> TypeGuard[Floats]:
    """Whether `x` is what `as_vectors` returns already, which it mostly is."""
    return (
        type(x) is np.ndarray
        and x.dtype == np.float32
        and x.ndim == 2
        and x.shape[1] == d
        and x.flags.c_contiguous
    )


def _stacked(x: NDArray[Any], d: int, name: str) -> NDArray[Any]:
    """Rows (n, d) of an array of arrays (n,), as Ray reads a column of lists; else `x`.

    Raises DimensionError where a row has another length.
    """
    if x.dtype.kind != "O" or x.ndim != 1 or not len(x):
        return x
    if not all(isinstance(row, np.ndarray | list | tuple) for row in x):
        return x
    for i, row in enumerate(x):
        if len(row) != d:
            raise DimensionError(
                f"expected rows of {d} numbers in {name}, got {len(row)} in row {i}"
            )
    return np.array(x.tolist())


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
    limit = math.sqrt(_LARGEST_FLOAT / x.shape[1]) / 2
    largest = float(np.maximum(x.max(), -x.min()))
    if not np.isfinite(largest):
        require_finite(x, name, rows)
    if largest > limit:
        raise InputError(
            f"expected numbers up to {limit:.3g} in {name}, whose squared distances float32 holds, "
            f"got {largest:.3g}"
        )


def as_array(value: Any, name: str) -> NDArray[Any]:
    """Return what a user gives as a plain NumPy array, uncopied where that goes.

    Taken is whatever NumPy makes an array of: arrays, lists, tables of pandas and polars, data sets
    of h5py and zarr, arrays of jax and tensorflow, tensors of torch, also those with gradients, and
    what has DLPack's ``__dlpack__`` alone, in the memory of the CPU.
    bfloat16 becomes float32, and a table of Python's numbers one of NumPy's.

    Raises KindError where that is nothing, or would lose something: a mask, or all but the numbers
    that are not 0.
    """
    ma = sys.modules.get("numpy.ma")  # without which there is no masked array
    if ma is not None and (isinstance(value, ma.MaskedArray) or value is ma.masked):
        raise KindError(f"expected {name} to be a plain array, got a masked one")
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        got = type(value).__name__
        raise KindError(f"expected {name} to be an array, got a sparse {got}: call toarray()")
    try:
        array = np.asarray(without_tensor(value) if not is_dlpack(value) else of_dlpack(value))
    except KindError as error:
        raise KindError(f"expected {name} to be an array of numbers, got {error}") from error
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        got = type(value).__name__
        raise KindError(f"expected {name} to be an array of numbers, got {got}: {error}") from error
    if array.dtype.kind == "O" and array.size and all(isinstance(v, Real) for v in array.flat):
        return np.array(array.tolist())
    if array.dtype.isbuiltin == 2:  # a type of another library: bfloat16
        return array.astype(np.float32)
    return array


def as_numbers(value: Any, name: str) -> NDArray[Any]:
    """Return an array of real numbers, of its own dtype; rows in a file stay there.

    Raises KindError for anything else, also for what has no shape: faiss refuses lists, too.
    """
    if not _is_array(value):
        raise KindError(f"expected {name} to be an array, got {type(value).__name__}")
    array: NDArray[Any] = value if is_outside(value) else as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise KindError(f"expected {name} to be an array of real numbers, got dtype {array.dtype}")
    return array


def _is_array(value: Any) -> bool:
    """Whether this is an array of some kind, and no list."""
    return hasattr(value, "shape") or is_dlpack(value)


def is_dlpack(value: Any) -> bool:
    """Whether this gives its numbers by DLPack, and in no way that NumPy's functions know."""
    return (
        type(value) is not np.ndarray
        and hasattr(value, "__dlpack__")
        and not hasattr(value, "__array__")
        and not hasattr(value, "__array_interface__")
    )


def of_dlpack(value: Any) -> NDArray[Any]:
    """Return an array of what has ``__dlpack__``, uncopied.

    Raises KindError where its numbers are not in the memory of the CPU, or of no type of NumPy's.
    """
    try:
        array: NDArray[Any] = np.from_dlpack(value)
    except (BufferError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise KindError(
            f"expected a {type(value).__name__} whose numbers NumPy can take by DLPack, from the "
            f"memory of the CPU, got another: {error}"
        ) from error
    return array


def without_tensor(value: Any) -> Any:
    """Return a torch tensor as an array, uncopied where it is on the CPU; all else as it is.

    A bit that says "negative", or "conjugated", is applied. Raises KindError for a tensor that
    holds no numbers, or only some of them.
    """
    torch = sys.modules.get("torch")  # without which there is none
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    try:
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError) as error:
        raise KindError(f"expected a tensor that holds numbers, got another: {error}") from error


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
    if not _is_array(codes):
        raise KindError(f"expected codes to be a uint8 array, got {type(codes).__name__}")
    codes = as_array(codes, "codes")
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


def as_whole(value: Any, name: str) -> Ids:
    """Whole numbers as int64, of an array of integers or of whole floats, as some programs save.

    Raises KindError for an array of anything else, InputError for fractions, NaN, and numbers that
    int64 does not hold.
    """
    given = as_array(value, name)
    if given.dtype.kind not in "fiub":
        raise KindError(f"expected whole numbers in {name}, got dtype {given.dtype}")
    if given.dtype.kind == "f":
        is_whole = (np.floor(given) == given) & (np.abs(given) < _LARGEST_WHOLE)
        if not is_whole.all():
            raise InputError(f"expected whole numbers in {name}, got {given[~is_whole][0]}")
    elif given.dtype == np.uint64 and given.size and given.max() > np.iinfo(np.int64).max:
        raise InputError(f"expected whole numbers of 64 bits in {name}, got {given.max()}")
    return given.astype(np.int64)


def as_labels(value: Any, name: str) -> NDArray[Any]:
    """Labels in one of the forms that people have them in.

    Parameters
    ----------
    value : (n,) or (n, c) array, or what becomes one
        One class for each row: integers, whole floats, bools for two classes, or names. Or tags:
        for each row and class a bool, or 0 or 1.

    Returns
    -------
    (n,) int, (n,) str, or (n, c) bool
        Integers keep their dtype.

    Raises
    ------
    DimensionError
        If the shape is neither.
    KindError
        If it holds anything else: complex numbers, gaps among names.
    InputError
        If it holds fractions, NaN, or tags other than 0 and 1.
    """
    given = as_array(value, name)
    if given.ndim == 1:
        return _as_classes(given, name)
    if given.ndim != 2:
        raise DimensionError(f"expected {name} of shape (n,) or (n, c), got {given.shape}")
    if given.dtype.kind == "b":
        return given
    if given.dtype.kind not in "fiu":
        raise KindError(f"expected bools, or 0 and 1, in {name} (n, c), got dtype {given.dtype}")
    if given.shape[1] == 1:  # of which 0 may be a class, or no tag
        raise KindError(
            f"expected {name} (n,) of classes, or (n, c) of bools, got {given.dtype} of shape "
            f"{given.shape}: {name}.ravel() are classes"
        )
    is_tag = (given == 0) | (given == 1)
    if not is_tag.all():
        raise InputError(f"expected bools, or 0 and 1, in {name} (n, c), got {given[~is_tag][0]}")
    return np.asarray(given == 1)


def _as_classes(given: NDArray[Any], name: str) -> NDArray[Any]:
    if given.dtype.kind in "fb":
        return as_whole(given, name)
    if given.dtype.kind == "S":
        return np.char.decode(given, "utf-8")
    if given.dtype.kind == "O" and given.size and all(isinstance(v, str) for v in given):
        return given.astype(np.str_)
    if given.dtype.kind == "T":  # NumPy's own strings, whose bytes are elsewhere
        return given.astype(np.str_)
    if given.dtype.kind not in "iuU":
        raise KindError(
            f"expected integers or names in {name} (n,), got dtype {given.dtype}"
            + (", with gaps or of several kinds" if given.dtype.kind == "O" else "")
        )
    return given


def as_free_ids(ids: Any, name: str, *, least: int | None = 0) -> Ids:
    """Ids (n,) int64 of an array of integers, at least `least`."""
    given = type(ids).__name__
    ids = as_array(ids, name) if _is_array(ids) else None  # lists: faiss refuses them, too
    if ids is None or ids.dtype.kind not in "iu":
        raise KindError(
            f"expected {name} to be an array of integers, got {given if ids is None else ids.dtype}"
        )
    if ids.ndim != 1:
        raise DimensionError(f"expected {name} of shape (n,), got {ids.shape}")
    numbers: Ids = np.ascontiguousarray(ids, dtype=np.int64)
    if least is not None and len(numbers) and numbers.min() < least:
        raise InputError(f"expected {name} from {least} on, got {int(numbers.min())}")
    return numbers
