"""Parquet, Arrow and Feather files, tables in memory, and data sets of Hugging Face's."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.sources import BLOCK, RowSource
from deepq.datasets.arrow_rows import as_rows, vector_type
from deepq.datasets.named import chosen, needed

Array = npt.NDArray[Any]

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
_MAGIC = b"ARROW1"  # of an Arrow file that is no stream
_LOOKED_AT = 256  # rows at a time, for the length of one
_BUFFER = 1 << 20  # bytes read from a file at once
_STATE = "state.json"  # in a folder of Dataset.save_to_disk


class Part(NamedTuple):
    """Rows that can be read without the others.

    Attributes
    ----------
    where : str
        File that they are in, for errors.
    first : int
        Number of the first of them in that file.
    rows : int
        How many there are.
    arrays : callable
        Given a number of rows, it yields Arrow arrays of about as many.
    """

    where: str
    first: int
    rows: int
    arrays: Callable[[int], Iterator[Any]]


class ArrowRows(RowSource):
    """Rows of a column of lists, in files or tables of Arrow's.

    Parameters
    ----------
    name : str
        What it is called in errors.
    kind : pyarrow.DataType
        Type of the column.
    parts : list of Part
        In order.

    Raises
    ------
    InputError
        If the column holds no vectors, or there is no row that tells how long they are.
    """

    def __init__(self, name: str, kind: Any, parts: list[Part]) -> None:
        vectors = vector_type(kind)
        if vectors is None:
            raise InputError(f"{name}: expected lists of numbers, got the type {kind}")
        d, dtype = vectors
        self._parts = [part for part in parts if part.rows]
        if not d:
            d = self._first_length(name)
        if not d:
            raise InputError(f"{name}: expected vectors of at least one number, got none")
        bounds = np.cumsum([0, *(part.rows for part in self._parts)])
        super().__init__(name, bounds, d, dtype)

    def _first_length(self, name: str) -> int:
        """Return the length of the first list that is not null; 0 if there is none."""
        for part in self._parts:
            with _explained(name):
                for array in part.arrays(_LOOKED_AT):
                    for first in getattr(array, "storage", array).drop_null()[:1]:
                        return len(first)
        return 0

    def _read_part(self, i: int, size: int) -> Iterator[Array]:
        part = self._parts[i]
        first, where = part.first, part.where
        with _explained(where):
            for array in part.arrays(size):
                yield as_rows(array, where, first, self.shape[1], self.dtype)
                first += len(array)


def read_arrow(paths: Sequence[Path], column: str | None) -> ArrowRows:
    """Open a column of files, or of the files in folders: see `read_vectors`."""
    files = [file for path in paths for file in (_in_folder(path) if path.is_dir() else [path])]
    if wrong := [f for f in files if f.suffix.lower() not in (*PARQUET, *ARROW)]:
        raise FormatError(f"{wrong[0]}: expected a file of {', '.join((*PARQUET, *ARROW))}")
    name, kind = "", None
    parts: list[Part] = []
    for file in files:
        with _explained(str(file)):
            schema = _schema(file)
            name = name or _column(file, schema, column)
            if schema.get_field_index(name) < 0:
                raise InputError(f"{file}: expected the column {name!r} of {files[0]}, got none")
            its = schema.field(name).type
            kind = its if kind is None else kind
            if vector_type(its) != vector_type(kind):
                raise InputError(f"{file}: expected {kind} in {name!r}, as before, got {its}")
            parts += _parquet_parts(file, name) if _is_parquet(file) else _ipc_parts(file, name)
    return ArrowRows(f"{paths[0]}, {name}", kind, parts)


def is_table(source: Any) -> bool:
    """Whether this is a table, column or data set that `read_table` takes."""
    return _is_hugging_face(source) or any(
        hasattr(source, f"__arrow_c_{kind}__") for kind in ("stream", "array")
    )


def read_table(source: Any, column: str | None) -> ArrowRows:
    """Open a column of a table in memory, or of a data set of Hugging Face's."""
    pa = needed("pyarrow", "tables")
    where = type(source).__name__
    if _is_hugging_face(source):
        if not hasattr(source, "with_format") or not hasattr(source, "num_rows"):
            raise KindError(f"expected a datasets.Dataset, got {type(source).__name__}")
        if isinstance(source.num_rows, dict):
            raise InputError(f"expected one split, got {', '.join(source.num_rows)}")
        n, schema = source.num_rows, source.features.arrow_schema
        name = _column(where, schema, column)
        data = source.with_format("arrow")
        parts = [
            Part(where, i, min(BLOCK, n - i), partial(_hugging_face_rows, data, name, i, n))
            for i in range(0, n, BLOCK)
        ]
        return ArrowRows(f"{where}, {name}", schema.field(name).type, parts)
    if isinstance(source, pa.Array | pa.ChunkedArray):
        source, column = pa.table({"column": source}), "column"
    table = pa.table(source)
    name = _column(where, table.schema, column)
    parts, first = [], 0
    for chunk in table.column(name).chunks:
        parts.append(Part(where, first, len(chunk), partial(_slices, chunk)))
        first += len(chunk)
    return ArrowRows(f"{where}, {name}", table.schema.field(name).type, parts)


# ---- Parts of files ------------------------------------------------------------------------------


def _parquet(file: Path) -> Any:
    parquet = needed("pyarrow.parquet", "Parquet files")
    return parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)


def _parquet_parts(file: Path, column: str) -> Iterator[Part]:
    first = 0
    with _parquet(file) as opened:
        counts = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
    for group, count in enumerate(counts):
        yield Part(str(file), first, count, partial(_row_group, file, column, group))
        first += count


def _row_group(file: Path, column: str, group: int, size: int) -> Iterator[Any]:
    with _parquet(file) as opened:
        for batch in opened.iter_batches(size, row_groups=[group], columns=[column]):
            yield batch.column(batch.schema.get_field_index(column))


def _ipc_parts(file: Path, column: str) -> Iterator[Part]:
    if not _has_batches(file):
        count = sum(map(len, _stream(file, column, BLOCK)))
        yield Part(str(file), 0, count, partial(_stream, file, column))
        return
    first = 0
    with _ipc_file(file, column) as reader:
        for i in range(reader.num_record_batches):
            count = reader.get_batch(i).num_rows
            yield Part(str(file), first, count, partial(_batch, file, column, i))
            first += count


def _batch(file: Path, column: str, i: int, size: int) -> Iterator[Any]:
    with _ipc_file(file, column) as reader:
        yield from _slices(_checked(reader.get_batch(i).column(0)), size)


def _stream(file: Path, column: str, size: int) -> Iterator[Any]:
    pa = needed("pyarrow", "Arrow files")
    with pa.memory_map(str(file)) as memory, pa.ipc.open_stream(memory) as reader:
        at = reader.schema.get_field_index(column)
        for batch in reader:
            yield from _slices(_checked(batch.column(at)), size)


@contextmanager
def _ipc_file(file: Path, column: str) -> Iterator[Any]:
    """Open one column of an Arrow file that is no stream."""
    pa = needed("pyarrow", "Arrow files")
    with pa.memory_map(str(file)) as memory:
        with pa.ipc.open_file(memory) as reader:
            at = reader.schema.get_field_index(column)
        options = pa.ipc.IpcReadOptions(included_fields=[at])
        with pa.ipc.open_file(memory, options=options) as reader:
            yield reader


def _checked(array: Any) -> Any:
    """Return an array whose offsets have been looked at: a file may say anything."""
    array.validate(full=True)
    return array


def _slices(array: Any, size: int) -> Iterator[Any]:
    for i in range(0, len(array), size):
        yield array[i : i + size]


def _hugging_face_rows(data: Any, column: str, start: int, n: int, size: int) -> Iterator[Any]:
    """Yield rows in the order of a data set, also where it has been filtered or shuffled."""
    for i in range(start, min(start + BLOCK, n), size):
        table = data[i : min(i + size, start + BLOCK, n)]
        yield from table.column(column).chunks


# ---- Files and columns ---------------------------------------------------------------------------


def _in_folder(folder: Path) -> list[Path]:
    """Return the files of a folder, in order."""
    if (folder / _STATE).is_file():  # of Hugging Face's
        try:
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            return [folder / Path(entry["filename"]).name for entry in state["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{folder}: expected the {_STATE} of a saved data set, got: {error!r}"
            ) from error
    for suffixes in (PARQUET, ARROW):
        found = [f for f in folder.iterdir() if f.suffix.lower() in suffixes and f.is_file()]
        if found:
            return sorted(found)
    splits = sorted(file.parent.name for file in folder.glob(f"*/{_STATE}"))
    got = f"the splits {', '.join(splits)}: name one" if splits else "none"
    raise FormatError(
        f"{folder}: expected files of {', '.join((*PARQUET, *ARROW))} in it, got {got}"
    )


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() in PARQUET


def _has_batches(file: Path) -> bool:
    """Whether this is an Arrow file whose batches can be read in any order, and no stream."""
    with file.open("rb") as opened:
        return opened.read(len(_MAGIC)) == _MAGIC


def _schema(file: Path) -> Any:
    pa = needed("pyarrow", "Parquet and Arrow files")
    if _is_parquet(file):
        with _parquet(file) as opened:
            return opened.schema_arrow
    with pa.memory_map(str(file)) as memory:
        kind = pa.ipc.open_file if _has_batches(file) else pa.ipc.open_stream
        with kind(memory) as reader:
            return reader.schema


def _column(where: Any, schema: Any, column: str | None) -> str:
    usable = [field.name for field in schema if vector_type(field.type) is not None]
    return chosen(where, "column", column, usable, schema.names)


def _is_hugging_face(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "datasets" and "datasets" in sys.modules


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Raise FormatError where pyarrow finds a file damaged."""
    pa = needed("pyarrow", "Parquet and Arrow files")
    try:
        yield
    except pa.ArrowException as error:
        raise FormatError(f"{where}: expected a file that pyarrow reads, got: {error}") from error
    except OSError as error:
        if error.errno is not None:  # of the system
            raise
        raise FormatError(f"{where}: expected a file that pyarrow reads, got: {error}") from error
