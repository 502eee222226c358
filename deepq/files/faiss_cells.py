"""Indexes of cells in faiss's own files: an IndexIVFPQ, its coarse quantizer and its lists.

The layout; `faiss_values` says what a header, a vector and a flag are:

    IndexIVFPQ    "IwPQ", header, nlist nprobe int64, coarse quantizer, direct map, by_residual
                  flag, code_size int64, product quantizer, lists
    flat          "IxF2" (L2), "IxFI" (inner product) or "IxFl", header, vector of float32
    HNSW          "IHNf", header, vectors of probabilities float64, of neighbours up to each level,
                  levels of nodes int32, offsets int64 and neighbours int32, then entry_point,
                  max_level, efConstruction, efSearch, a number without use int32, a flat index
    multi-index   "Imiq", header, product quantizer
    direct map    its type in a byte, vector of int64; for type 2 a vector of pairs int64
    lists         "ilar", nlist code_size int64, then "full" and a vector of sizes int64, or "sprs"
                  and one of cells and sizes in turn; for every cell its codes, and ids int64
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepq._common.errors import FormatError
from deepq._common.safe_files import Reader, fill
from deepq._common.types import Floats, Ids
from deepq.files.faiss_values import (
    Header,
    flag,
    read_header,
    read_product_quantizer,
    read_vector,
    require,
    require_bits,
    text,
)
from deepq.index.native.coarse import FLAT, GRAPH, MULTI
from deepq.index.native.lists import CellList
from deepq.index.native.plain import PlainCells

_FLAT = (b"IxF2", b"IxFI", b"IxFl")
_LARGEST = (1 << 31) - 1
_MOST_EMPTY = 1 << 20  # cells without anything in the file
_ARRAY, _HASHTABLE = 1, 2  # types of direct maps


class _ListsInFile:
    """Lists of faiss's that follow one after the other from a place in a file on."""

    def __init__(self, reader: Reader, sizes: Ids, bits: int) -> None:
        self._file, self._sizes, self._bits = reader.file, sizes, bits
        self._code_size = (bits + 7) // 8
        self._at = reader.skip(int(sizes.sum()) * (self._code_size + 8), "lists")

    def __iter__(self) -> Iterator[CellList]:
        at = self._at
        for cell in np.flatnonzero(self._sizes):
            n = int(self._sizes[cell])
            codes, ids = np.empty((n, self._code_size), np.uint8), np.empty(n, np.int64)
            for part in (codes.reshape(-1), ids.view(np.uint8)):
                fill(self._file, at, part)
                at += part.size
            require_bits(codes, self._bits)
            yield CellList(int(cell), ids, codes)


def read_cells(reader: Reader) -> tuple[Header, dict[str, Any]]:
    """Read an IndexIVFPQ after its name: its header, and what a `PlainIndex` has of it.

    Raises FormatError for what cannot be, or lists and coarse quantizers that are not known.
    """
    header = read_header(reader)
    nlist, nprobe = reader.unpack("<QQ", "the number of cells")
    if not 1 <= nlist <= _LARGEST or not 1 <= nprobe <= _LARGEST:
        raise FormatError(f"nlist = {nlist}, nprobe = {nprobe}")
    trained, coarse = _coarse(reader, header.d)
    known = _cells_of(coarse)
    if known not in (0, nlist) or (header.is_trained and not (trained and known)):
        raise FormatError(f"{known} centres of {nlist} cells")
    direct_map = _direct_map(reader, header.ntotal)
    by_residual = flag(reader.unpack("<B", "by_residual")[0], "by_residual")
    (code_size,) = reader.unpack("<Q", "the size of a code")
    parts = read_product_quantizer(reader, header.d, is_trained=header.is_trained)
    bits = parts["M"] * parts["nbits"]
    require(code_size, (bits + 7) // 8, "bytes of a code")
    sizes = _sizes(reader, nlist, code_size)
    require(int(sizes.sum()), header.ntotal, "vectors in the lists")
    lists = _ListsInFile(reader, sizes, bits)
    codes = PlainCells(nlist, by_residual, coarse, direct_map, lists)
    return header, {**parts, "codes": codes, "settings": {"nprobe": nprobe}}


# ---- coarse quantizers ---------------------------------------------------------------------------


def _coarse(reader: Reader, d: int) -> tuple[bool, dict[str, Any]]:
    """Read a coarse quantizer: whether it is trained, and its state (`native.coarse`)."""
    name = reader.take(4, "the name of the coarse quantizer")
    if name == b"Imiq":
        return _multi_index(reader, d)
    if name == b"IHNf":
        return _graph(reader, d)
    if name not in _FLAT:
        raise FormatError(
            f"a coarse quantizer of the kind {text(name)}: IndexFlat, IndexHNSWFlat and "
            "MultiIndexQuantizer can be read"
        )
    header = read_header(reader)
    return header.is_trained, {"kind": FLAT, **_centres(reader, header, d)}


def read_flat(reader: Reader, what: str) -> tuple[Header, Floats]:
    """Read an IndexFlat: its header, and its vectors (n, d)."""
    name = reader.take(4, f"the name of {what}")
    if name not in _FLAT:
        raise FormatError(f"{what} of the kind {text(name)}: an IndexFlat can be read")
    header = read_header(reader)
    return header, _vectors(reader, header, what)


def _vectors(reader: Reader, header: Header, what: str) -> Floats:
    numbers = read_vector(reader, "<f4", what, header.ntotal * header.d)
    return numbers.reshape(-1, header.d)


def _centres(reader: Reader, header: Header, d: int) -> dict[str, Any]:
    require(header.d, d, "dimensions of the coarse quantizer")
    centres = _vectors(reader, header, "centres")
    return {"d": d, "metric": header.metric, "centres": centres}


def _multi_index(reader: Reader, d: int) -> tuple[bool, dict[str, Any]]:
    header = read_header(reader)
    require(header.d, d, "dimensions of the coarse quantizer")
    parts = read_product_quantizer(reader, d, is_trained=header.is_trained)
    books = parts.pop("codebooks")
    centres = np.empty(0, np.float32) if books is None else books.reshape(-1)
    known = {"kind": MULTI, "d": d, "metric": header.metric, **parts, "centres": centres}
    require(header.ntotal, _cells_of(known) * header.is_trained, "cells of a multi-index")
    return header.is_trained, known


def _graph(reader: Reader, d: int) -> tuple[bool, dict[str, Any]]:
    header = read_header(reader)
    read_vector(reader, "<f8", "probabilities of levels")
    ends = read_vector(reader, "<i4", "neighbours up to a level").astype(np.int64)
    M = int(ends[2] - ends[1]) if len(ends) > 2 else 0
    if M < 1 or not np.array_equal(ends[1:], M * np.arange(2, len(ends) + 1)) or ends[0]:
        raise FormatError(f"levels of a graph of {ends.tolist()[:4]} neighbours")
    levels = read_vector(reader, "<i4", "levels", header.ntotal).astype(np.int64)
    if len(levels) and not 1 <= levels.min() <= levels.max() < len(ends):
        raise FormatError(f"levels from {levels.min()} to {levels.max()} of {len(ends)}")
    offsets = read_vector(reader, "<i8", "offsets", header.ntotal + 1)
    if not np.array_equal(offsets, np.concatenate([[0], np.cumsum(ends[levels])])):
        raise FormatError("offsets that are not those of the levels")
    neighbors = read_vector(reader, "<i4", "neighbours", int(offsets[-1])).astype(np.int64)
    entry, highest, ef_construction, ef_search, _ = reader.unpack("<iiiii", "the settings of HNSW")
    require(highest, int(levels.max(initial=0)) - 1, "as the highest level")
    name = reader.take(4, "the name of what a graph is of")
    if name not in _FLAT:
        raise FormatError(f"a graph of the kind {text(name)}")
    inner = read_header(reader)
    require(inner.ntotal, header.ntotal, "vectors in a graph")
    require(inner.metric, header.metric, "as the metric of a graph")
    return header.is_trained and inner.is_trained, {
        "kind": GRAPH,
        "M": M,
        "efSearch": ef_search,
        "efConstruction": ef_construction,
        "graph": {"levels": levels, "neighbors": neighbors, "entry_point": entry},
        **_centres(reader, inner, d),
    }


def _cells_of(coarse: dict[str, Any]) -> int:
    """Return how many cells a coarse quantizer makes; 0 if that is not said yet."""
    if coarse["kind"] == MULTI:
        return 1 << int(coarse["M"] * coarse["nbits"])
    return len(coarse["centres"])


# ---- lists ---------------------------------------------------------------------------------------


def _direct_map(reader: Reader, ntotal: int) -> int:
    """Read past a direct map, which is made anew; return its type."""
    kind, count = reader.unpack("<BQ", "a direct map")
    if kind > _HASHTABLE:
        raise FormatError(f"a direct map of the type {kind}")
    require(count, ntotal if kind == _ARRAY else 0, "places in a direct map")
    reader.skip(8 * count, "a direct map")
    if kind == _HASHTABLE:
        (count,) = reader.unpack("<Q", "the size of a direct map")
        if count > ntotal:
            raise FormatError(f"{count} places of {ntotal} vectors in a direct map")
        reader.skip(16 * count, "a direct map")
    return int(kind)


def _sizes(reader: Reader, nlist: int, code_size: int) -> Ids:
    """Read how many codes every cell has."""
    name = reader.take(4, "the name of the lists")
    if name != b"ilar":
        raise FormatError(
            f"lists of the kind {text(name)} instead of ArrayInvertedLists: from_faiss copies any"
        )
    for wanted, what in ((nlist, "lists"), (code_size, "bytes of a code in a list")):
        require(reader.unpack("<Q", f"the number of {what}")[0], wanted, what)
    kind = reader.take(4, "the kind of the lists")
    if kind == b"full":
        sizes = read_vector(reader, "<i8", "sizes of lists", nlist)
    elif kind == b"sprs":
        if nlist > max(_MOST_EMPTY, reader.size):
            raise FormatError(f"{nlist} cells in a file of {reader.size} bytes")
        pairs = read_vector(reader, "<i8", "sizes of lists")
        require(len(pairs) % 2, 0, "numbers too many among sizes of lists")
        cells, sizes = pairs[::2], np.zeros(nlist, np.int64)
        if len(cells) and not (cells[0] >= 0 and (np.diff(cells) > 0).all() and cells[-1] < nlist):
            raise FormatError("sizes of lists of other cells")
        sizes[cells] = pairs[1::2]
    else:
        raise FormatError(f"lists of the kind {text(kind)}")
    if sizes.min() < 0 or sizes.max() > reader.left:
        raise FormatError(f"lists of {sizes.min()} to {sizes.max()} codes")
    return sizes
