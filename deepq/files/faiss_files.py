"""faiss's own files of an IndexPQ or IndexIVFPQ, alone or behind transforms: read without faiss.

faiss believes what such a file says of itself: one that is damaged may load and answer wrongly, end
the process, or ask for any amount of memory. Here every size and flag is compared with the others
and with the length of the file first. Numbers are not: the format has no checksums, so codes,
codewords, the numbers of transforms and settings are taken as they are, if they are finite.

The layout (faiss 1.14.2 to 1.15); `faiss_values` says what a header, a vector and a flag are:

    IndexPQ       "IxPq", header, product quantizer, vector of codes, search_type int32,
                  encode_signs flag, polysemous_ht int32
    older ones    "IxPo" the same, of metric L2 whatever it says; "IxPQ" that without the last three
    IndexIVFPQ    "IwPQ" ...: see `faiss_cells`
    chain         "IxPT", header, number of transforms int32, the transforms, an index
    map of ids    "IxMp" or "IxM2", header, an index, vector of int64
    refinement    "IxRF", header, an index, a flat one ("IxF2", ...), k_factor float32
    quantizer     d M nbits int64, vector of float32 centroids
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deepq._common.errors import FormatError
from deepq._common.safe_files import InFile, Reader, fill
from deepq._common.types import METRIC_L2
from deepq.files.faiss_cells import read_cells, read_flat
from deepq.files.faiss_transforms import check_chain, read_transforms
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
from deepq.index.native import payload
from deepq.index.native.plain import (
    PlainAround,
    PlainCells,
    PlainIndex,
    PlainMap,
    PlainNest,
    PlainRefinement,
    PlainTransforms,
    Transform,
    with_ids,
)
from deepq.index.native.refused import advice_for
from deepq.index.native.transforms import encoders_of

_FLAT = (b"IxPq", b"IxPo", b"IxPQ")
_CELLS = b"IwPQ"
_CHAIN = b"IxPT"
_MAPS = (b"IxMp", b"IxM2")
_REFINEMENT = b"IxRF"
INDEXES = (*_FLAT, _CELLS, _CHAIN, *_MAPS, _REFINEMENT)
_MOST_NESTED = 8

# How the names of faiss's other indexes begin, and whole names of those that people have most.
FAMILIES = (b"Ix", b"IB", b"IH", b"Iw", b"Iv", b"IN", b"IP", b"Is", b"IL", b"IR")
_KINDS = {
    b"IxF2": "IndexFlatL2",
    b"IxFI": "IndexFlatIP",
    b"IxFl": "IndexFlat",
    b"IxMp": "IndexIDMap",
    b"IxM2": "IndexIDMap2",
    b"IxRF": "IndexRefine",
    b"IxSQ": "IndexScalarQuantizer",
    b"IPfs": "IndexPQFastScan",
    b"IBxF": "IndexBinaryFlat",
    b"IBwF": "IndexBinaryIVF",
    b"IHNf": "IndexHNSWFlat",
    b"IwFl": "IndexIVFFlat",
    b"IwPQ": "IndexIVFPQ",
    b"IwPf": "IndexIVFPQFastScan",
    b"IwQR": "IndexIVFPQR",
    b"IwSq": "IndexIVFScalarQuantizer",
}

_ST_SDC = 3
_MOST_SYMMETRIC_BITS = 8  # of words whose distances to each other are in a table
_LOOKED_AT = 1000  # codes whose unused bits are looked at


def kind_of(name: bytes) -> str:
    """Say which class of faiss's a file of that name is of, and what to do, as far as is known."""
    if name not in _KINDS:
        return text(name)
    return f"{_KINDS[name]} ({text(name)}){advice_for(_KINDS[name])}"


class _Parts(NamedTuple):
    """What has been read: of an index, the transforms before it, and what is around them.

    `header` is that of the whole; the index with its transforms is trained if `is_trained`.
    """

    header: Header
    is_trained: bool
    content: dict[str, Any]
    transforms: list[Transform]
    around: tuple[PlainAround, ...] = ()


def parse(reader: Reader, network: Any = None, *, maps: bool = False) -> PlainNest:
    """Read a file from the beginning to its end.

    Parameters
    ----------
    reader : Reader
        At the beginning.
    network : optional
        What a user hands back, see `deepq.read_index`.
    maps : bool
        Whether the codes are to stay in the file.

    Raises
    ------
    FormatError
        If it is anything else than a whole index of parts that fit together.
    KindError, InputError
        If it has a transform that no encoder stands for, or an untrained one.
    """
    header, trained, index, transforms, around = _read(reader, _MOST_NESTED, maps=maps)
    reader.end()
    if header.ntotal and not trained:
        raise FormatError(f"{header.ntotal} codes in an untrained index")
    carried = payload.carried((each.spare for each in transforms), index["codebooks"])
    plain = PlainIndex(
        encoder=encoders_of(transforms, index.pop("d"), network, carried),
        is_trained=trained,
        carried=carried,
        **index,
    )
    return PlainNest(plain, around)


def _read(reader: Reader, most_nested: int, *, maps: bool) -> _Parts:
    """Read an index with all that is inside."""
    name = reader.take(4, "the name of an index")
    if name not in INDEXES:
        raise FormatError(f"an index of the kind {kind_of(name)}")
    if not most_nested:
        raise FormatError(f"more than {_MOST_NESTED} indexes one in the other")
    if name == _CHAIN:
        return _chain(reader, most_nested - 1, maps=maps)
    if name in _MAPS:
        return _in_a_map(reader, _KINDS[name], most_nested - 1, maps=maps)
    if name == _REFINEMENT:
        return _refined(reader, most_nested - 1, maps=maps)
    if name == _CELLS:
        if maps:  # ids would not be where numbers of 8 bytes may be
            raise FormatError(
                "one in cells, which deepq.write_index writes so that it can be mapped"
            )
        header, index = read_cells(reader)
    else:
        header, index = _flat(reader, name, maps=maps)
    index = {"d": header.d, "metric": header.metric, **index}
    return _Parts(header, header.is_trained, index, [])


def _chain(reader: Reader, most_nested: int, *, maps: bool) -> _Parts:
    header, transforms = read_header(reader), read_transforms(reader)
    inner = _read(reader, most_nested, maps=maps)
    trained = inner.header.is_trained and all(each.is_trained for each in transforms)
    check_chain(header, transforms, inner.header._replace(is_trained=trained))
    if inner.transforms or inner.around:
        around = (PlainTransforms(transforms), *inner.around)
        return inner._replace(header=header, around=around)
    return inner._replace(header=header, is_trained=trained, transforms=transforms)


def _in_a_map(reader: Reader, name: str, most_nested: int, *, maps: bool) -> _Parts:
    """Read a map of ids. Around cells alone its ids become those of the lists."""
    header, inner = read_header(reader), _read(reader, most_nested, maps=maps)
    _require_same(header, inner.header, name)
    ids = read_vector(reader, "<i8", "ids", header.ntotal)
    cells = inner.content["codes"]
    if isinstance(cells, PlainCells) and not inner.around:
        return inner._replace(content={**inner.content, "codes": with_ids(cells, ids)})
    around = PlainMap(ids, name == "IndexIDMap2")
    return inner._replace(header=header, around=(around, *inner.around))


def _refined(reader: Reader, most_nested: int, *, maps: bool) -> _Parts:
    header, inner = read_header(reader), _read(reader, most_nested, maps=maps)
    _require_same(header, inner.header, "IndexRefineFlat")
    exact, vectors = read_flat(reader, "what refines")
    _require_same(header, exact._replace(is_trained=header.is_trained), "IndexRefineFlat")
    (k_factor,) = reader.unpack("<f", "k_factor")
    if not 1 <= k_factor < np.inf:
        raise FormatError(f"k_factor {k_factor}")
    return inner._replace(header=header, around=(PlainRefinement(vectors, k_factor), *inner.around))


def _require_same(header: Header, inner: Header, name: str) -> None:
    for own, wanted, what in zip(header, inner, Header._fields, strict=True):
        require(own, wanted, f"as {what} of an {name}")


# ---- an IndexPQ ----------------------------------------------------------------------------------


def _flat(reader: Reader, name: bytes, *, maps: bool) -> tuple[Header, dict[str, Any]]:
    header = read_header(reader)
    parts = read_product_quantizer(reader, header.d, is_trained=header.is_trained)
    parts["codes"] = _codes(reader, header.ntotal, parts["M"] * parts["nbits"], maps=maps)
    parts["settings"] = _settings(reader, name, parts["nbits"])
    return header, parts if name == b"IxPq" else {**parts, "metric": METRIC_L2}


def _codes(reader: Reader, ntotal: int, bits: int, *, maps: bool) -> InFile:
    (size,) = reader.unpack("<Q", "the size of the codes")
    code_size = (bits + 7) // 8
    require(size, ntotal * code_size, "bytes of codes")
    at = reader.skip(size, "codes")
    few = np.empty((min(ntotal, _LOOKED_AT), code_size), np.uint8)
    fill(reader.file, at, few.reshape(-1))
    require_bits(few, bits)
    return InFile(reader.file, at, (ntotal, code_size), maps=maps)


def _settings(reader: Reader, name: bytes, nbits: int) -> dict[str, Any]:
    if name == b"IxPQ":  # as faiss has them then
        return {"search_type": 0, "encode_signs": False, "polysemous_ht": 1}
    search_type, encode_signs, ht = reader.unpack("<iBi", "the settings of searches")
    if not 0 <= search_type <= 5 or (search_type == _ST_SDC and nbits > _MOST_SYMMETRIC_BITS):
        raise FormatError(f"search_type {search_type} for nbits = {nbits}")
    if ht < 0:
        raise FormatError(f"polysemous_ht {ht}")
    encode_signs = flag(encode_signs, "encode_signs")
    return {"search_type": search_type, "encode_signs": encode_signs, "polysemous_ht": ht}
