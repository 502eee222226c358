"""The one door to vectors in files and tables, whatever the format."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.sources import RowSource
from deepq.datasets.arrow_files import ARROW, PARQUET, is_table, read_arrow, read_table
from deepq.datasets.hdf5_files import HDF5, read_hdf5
from deepq.datasets.safetensors_files import SAFETENSORS, read_safetensors
from deepq.datasets.vector_files import MAPPED, NPZ, map_vectors, read_npz

Rows = npt.NDArray[Any] | RowSource
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# The readers of files with named parts, by their suffixes.
_NAMED: dict[str, Callable[[Path, str | None], Rows]] = {
    **dict.fromkeys(HDF5, read_hdf5),
    **dict.fromkeys(SAFETENSORS, read_safetensors),
    **dict.fromkeys(NPZ, read_npz),
}
KNOWN = (*MAPPED, *PARQUET, *ARROW, *_NAMED)


def read_vectors(source: Paths | Any, column: str | None = None) -> Rows:
    """Open the vectors of a file or table, in their own dtype; what is not used is not read.

    =====================================================  ====================================
    source                                                 what it returns
    =====================================================  ====================================
    ``.npy``, ``.fvecs``, ``.ivecs``, ``.bvecs``,          array, mapped from the file
    ``.fbin``, ``.f16bin``, ``.u8bin``, ``.i8bin``,
    ``.ibin``
    ``.npz``                                               array, in memory
    ``.hdf5``, ``.h5`` (extra ``formats``)                 array, mapped from the file; of a data
                                                           set in chunks a `RowSource`
    ``.safetensors``                                       array, mapped from the file; of
                                                           bfloat16 a `RowSource` of float32
    ``.parquet``, ``.arrow``, ``.feather``, several of     `RowSource`
    these, or a folder of them; a folder that
    ``Dataset.save_to_disk`` of Hugging Face's made
    (extra ``formats``)
    a ``datasets.Dataset``, a table of pyarrow's, or       `RowSource`
    anything with ``__arrow_c_stream__``: of polars,
    DuckDB, pandas
    =====================================================  ====================================

    In the ``vecs`` formats every row is its length as a little-endian int32 and then its numbers;
    the lengths of all rows are compared in files of up to 16 MiB, those of 1000 rows in larger
    ones. The ``bin`` formats are n and d as uint32 and then all numbers; what follows the ids in an
    ``.ibin`` of true neighbours, their distances, is left out. In Arrow's formats vectors are lists
    of numbers, all of one length, or bytes of one width.

    Parameters
    ----------
    source : str, path, list of these, or table
        What to read.
    column : str, optional
        Name of the column, data set, array or tensor; not needed where one alone holds vectors.

    Returns
    -------
    (n, d) array, mapped and read-only, or RowSource
        An index takes both.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If the format needs a package that is not installed; the message names it.
    FormatError, InputError, KindError
        If the format is unknown, the file is damaged, there is no such column, or it holds nulls,
        lists of several lengths, or no numbers; with the first row that does.
    """
    if not isinstance(source, str | os.PathLike | list | tuple):
        if is_table(source):
            return read_table(source, column)
        raise KindError(f"expected a path or a table, got {type(source).__name__}")
    paths = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(s) for s in source]
    if not paths:
        raise InputError("expected a path at least, got an empty list")
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"expected a file or folder {path}, got none")
    suffix = paths[0].suffix.lower()
    if paths[0].is_dir() or suffix in (*PARQUET, *ARROW):
        return read_arrow(paths, column)
    if suffix not in KNOWN:
        raise FormatError(f"{paths[0]}: expected a file that ends in one of {', '.join(KNOWN)}")
    if len(paths) > 1:
        raise InputError(f"expected one file of the format {suffix}, got {len(paths)}")
    if suffix in _NAMED:
        return _NAMED[suffix](paths[0], column)
    if column is not None:
        raise InputError(f"{paths[0]}: expected no column of an array without names, got {column}")
    return map_vectors(paths[0])
