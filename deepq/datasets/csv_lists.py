"""Lists of files and their tags, as tables of text."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError, InputError, KindError
from deepq.datasets.image_lists import ImageList
from deepq.datasets.named import chosen

_TABBED = (".tsv", ".tab")
_LONGEST = 9  # digits of the number of a class


def csv_list(
    path: str | Path,
    root: str | Path = "",
    *,
    column: str | None = None,
    labels: str | Sequence[str] | None = None,
    separator: str | None = None,
) -> ImageList:
    r"""Read a list of files and their classes or tags, with a line of names of columns first.

    ======================  ==========================  ==========================================
    columns                 labels                      label_names
    ======================  ==========================  ==========================================
    ``file,label``          (n,) int64: the numbers     none
                            that are there
    ``file,label``          (n,) int64: numbers of      the names, in the order of the alphabet
                            names
    ``file,tags`` with a    (n, c) bool                 the tags, in the order of the alphabet
    separator
    ``file,cat,dog,...``    (n, c) bool, from 0 and 1   the names of the columns
    ``file``                None                        none
    ======================  ==========================  ==========================================

    Parameters
    ----------
    path : str or Path
        A text file in UTF-8, with commas, or with tabs if it ends in ``.tsv`` or ``.tab``.
    root : str or Path
        The folder that the files start from; one that is absolute stays as it is.
    column : str, optional
        Column of the files; the first one without it.
    labels : str or sequence of str, optional
        Column or columns of labels; all others without it.
    separator : str, optional
        What stands between the tags of a file, such as ``"|"``, where they are in one column.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If a line has another number of columns than the first, or something else than it should
        have; with the number of the line.
    InputError, KindError
        If there is no such column, or an argument is of no use.
    """
    path, root = Path(path), Path(root)
    header, rows = _table(path)
    at = header.index(header[0] if column is None else chosen(path, "column", column, (), header))
    if labels is None:
        wanted = [name for i, name in enumerate(header) if i != at]
    else:
        wanted = [labels] if isinstance(labels, str) else list(labels)
    columns = [header.index(chosen(path, "column", name, (), header)) for name in wanted]
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise KindError(f"expected a separator of some characters, got {separator!r}")
    if separator is not None and len(columns) != 1:
        raise InputError(f"expected one column of labels with a separator, got {len(columns)}")
    blank = next((line for line, row in rows if not row[at]), None)
    if blank is not None:
        raise FormatError(f"{path}, line {blank}: expected a file in {header[at]!r}, got none")
    paths = tuple(root / row[at] for _, row in rows)
    if not columns:
        return ImageList(paths, None)
    cells = [(line, [row[c] for c in columns]) for line, row in rows]
    if separator is not None:
        return ImageList(paths, *_tags([row[0].split(separator) for _, row in cells]))
    if len(columns) > 1:
        return ImageList(paths, _bits(path, cells), tuple(wanted))
    return ImageList(paths, *_classes(path, cells))


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and every line's number and cells."""
    delimiter = "\t" if path.suffix.lower() in _TABBED else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
        except (csv.Error, UnicodeDecodeError) as error:
            where = f"{path}, line {reader.line_num}"
            raise FormatError(f"{where}: expected a table of text, got: {error}") from error
    if len(lines) < 2:
        raise FormatError(f"{path}: expected names of columns and a line, got {len(lines)} lines")
    header = lines[0][1]
    if len(set(header)) < len(header) or not all(header):
        raise FormatError(f"{path}: expected columns of different names, got {', '.join(header)}")
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise FormatError(
                f"{path}, line {line}: expected {len(header)} columns, got {len(row)}"
            )
    return header, lines[1:]


def _tags(rows: list[list[str]]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return multi-hot rows, and the tags; of a blank cell there are none."""
    rows = [[tag.strip() for tag in row if tag.strip()] for row in rows]
    names = sorted({tag for row in rows for tag in row})
    number = {name: i for i, name in enumerate(names)}
    found = np.zeros((len(rows), len(names)), np.bool_)
    for tags, row in zip(found, rows, strict=True):
        tags[[number[tag] for tag in row]] = True
    return found, tuple(names)


def _bits(path: Path, cells: list[tuple[int, list[str]]]) -> npt.NDArray[Any]:
    for line, row in cells:
        if not set(row) <= {"0", "1"}:
            got = next(cell for cell in row if cell not in ("0", "1"))
            raise FormatError(f"{path}, line {line}: expected 0 or 1 for each tag, got {got!r:.80}")
    return np.array([[cell == "1" for cell in row] for _, row in cells], np.bool_)


def _classes(
    path: Path, cells: list[tuple[int, list[str]]]
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    def values() -> Iterator[str]:
        return (row[0] for _, row in cells)

    blank = next((line for line, row in cells if not row[0]), None)
    if blank is not None:
        raise FormatError(f"{path}, line {blank}: expected a class, got a blank cell")
    if all(v.isascii() and v.isdecimal() and len(v) <= _LONGEST for v in values()):
        return np.array([int(v) for v in values()], np.int64), ()
    names = sorted(set(values()))
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[v] for v in values()], np.int64), tuple(names)
