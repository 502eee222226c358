"""What the commands are given: options that several have, vectors and indexes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import click

import deepq
from deepq._common.errors import FormatError, InputError

_HDF5 = (".hdf5", ".h5")
METRICS = {"l2": 1, "ip": 0, "cosine": "cosine"}

column = click.option(
    "--column", metavar="NAME", help="Column, data set or tensor that the vectors are in."
)
metric = click.option(
    "--metric",
    type=click.Choice(list(METRICS)),
    help="Distance, inner product, or cosine; without it that of the data set, or l2.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
progress = click.option(
    "--progress/--no-progress",
    default=None,
    help="Bars on stderr; without it, where that is a terminal.",
)


def shows_bars(asked: bool | None) -> bool:
    """Whether bars are wanted."""
    return sys.stderr.isatty() if asked is None else asked


def rows_of(source: str, column: str | None, part: str) -> Any:
    """Open vectors: those of a file, or one part of a data set.

    Parameters
    ----------
    source : str
        A path, or "-" for what ``numpy.save`` writes on stdin.
    column : str or None
        Name of the column, data set or tensor.
    part : str
        "train", "base" or "query", of what `datasets.load` reads.
    """
    import numpy as np  # here, as all that takes time to import: --help is to be quick

    if source == "-":
        try:
            return np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FormatError(f"expected an array of numpy.save on stdin, got: {error}") from error
    if column is None and is_data_set(source):
        if Path(source).suffix in _HDF5:  # which need not be read into memory
            return deepq.datasets.read_vectors(source, "test" if part == "query" else "train")
        return getattr(deepq.datasets.load(source), part)
    return deepq.datasets.read_vectors(source, column)


def is_data_set(source: str) -> bool:
    """Whether this is a data set of several parts, and not the vectors of one file."""
    path = Path(source)
    if path.is_file() and path.suffix in _HDF5:
        from deepq.datasets.hdf5_files import opened_hdf5

        with opened_hdf5(path) as file:
            return "train" in file and "test" in file
    if path.is_file() and path.suffix == ".npz":
        from deepq.datasets.vector_files import opened_npz

        with opened_npz(path) as arrays:
            return "base" in arrays and "query" in arrays
    return path.is_dir() and any(path.glob("*base*.*"))


def metric_of(asked: str | None, source: str) -> Any:
    """Return the metric that is asked for, or that of a data set, or L2."""
    if asked is None and Path(source).suffix in _HDF5 and is_data_set(source):
        from deepq.datasets.hdf5_files import benchmark_parts

        return benchmark_parts(Path(source))[1]
    return METRICS[asked or "l2"]


def index_of(path: str) -> Any:
    """Read an index: of deepq's, or of faiss's that deepq knows."""
    index, _ = nest_of(path)
    if not isinstance(index, deepq.DeepQuantIndex | deepq.DeepQuantIVFIndex):
        kind = type(index).__name__
        raise InputError(f"expected an index that is in no composite in {path}, got an {kind}")
    return index


def nest_of(path: str) -> tuple[Any, Any]:
    """Read an index, maybe a composite of faiss's; return it, and the index of deepq inside."""
    from deepq.index.interop import inner_index

    if not Path(path).exists():
        raise FileNotFoundError(f"expected an index {path}, got no such file")
    index = deepq.read_index(path)
    if isinstance(index, deepq.HashTableIndex):
        raise InputError(f"expected an index of codes in {path}, got a HashTableIndex")
    return index, inner_index(index)


def array_of(path: str) -> Any:
    """Read an array in a file of numpy.save, such as labels. Raises FormatError for another."""
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FormatError(f"expected an array of numpy.save in {path}, got: {error}") from error


def new_file(path: str, *, replaces: bool) -> None:
    """Refuse a file that is there. Raises InputError."""
    if Path(path).exists() and not replaces:
        raise InputError(f"expected a new file, got {path}, which is there: --force replaces it")


def tell(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print facts on stdout: a line for each, or JSON."""
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
