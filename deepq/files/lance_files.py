"""Lance data sets: an index exported with its codebooks, for Lance to search.

Lance stores vectors beside their codes. Here they are embeddings, what the encoder makes of
vectors, for that is what the codebooks are of; or what the codes stand for, where the vectors are
not at hand.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepq._common.arrays import as_free_ids
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.extras import need
from deepq._common.types import METRIC_L2, Floats, Ids
from deepq.encoders.base import embed
from deepq.index.flat import DeepQuantIndex
from deepq.index.training_data import checked_blocks, rows_to_add
from deepq.quantizers.packing import unpack

COLUMN = "vector"
_BLOCK = 1 << 14


def write_lance(index: Any, path: str | os.PathLike[str], x: Any = None, *, ids: Any = None) -> Any:
    """Export an index as a Lance data set, whose IVF_PQ index has the same codebooks.

    It has the columns "id" and "vector". Lance makes the codes, those of the nearest codewords.
    Queries must be encoded, ``index.encoder.encode(q)``: the vectors in it are. Of a search with
    the metric "dot" ``_distance`` is 1 less the inner product.

    Parameters
    ----------
    index : DeepQuantIndex
        Trained, with a vector at least. Codes of 8 bits, or of 4 where M is even. `rerank` and a
        decoder are left out.
    path : str or path
        Folder to make, which is there whole or not at all.
    x : (n, d) array or RowSource, optional
        The vectors whose codes are stored, in their order: their embeddings go into "vector".
        Without them what the codes stand for does, which has the same codes.
    ids : (n,) array of integers from 0 on, optional
        By default the numbers of the rows.

    Returns
    -------
    lance.LanceDataset

    Raises
    ------
    ImportError
        If Lance is not installed: extra ``deepq[lance]``.
    KindError
        If it is another kind of index, or `ids` are no integers.
    InputError
        If Lance has no such codes, there is something at `path`, or a row of `x` is not finite.
    StateError
        If the index is not trained, or empty.
    DimensionError
        If there are not as many rows, or ids, as stored vectors.
    OSError
        If it cannot be written.
    """
    what = "write a Lance data set"
    lance, pa = need("lance", what, "lance"), need("pyarrow", what, "lance")
    _require_exportable(index)
    target = Path(path)
    if target.exists() or target.is_symlink():
        raise InputError(f"expected a new folder, got {target}, which is there")
    rows = None if x is None else rows_to_add(index.encoder, x)
    numbers = np.arange(index.ntotal) if ids is None else as_free_ids(ids, "ids")
    for name, given in (("x", rows), ("ids", numbers)):
        if given is not None and len(given) != index.ntotal:
            raise DimensionError(f"expected {name} of {index.ntotal} rows, got {len(given)}")
    width = index.encoder.d_out
    schema = pa.schema(
        [("id", pa.int64()), (COLUMN, pa.list_(pa.float32(), width))],
        metadata={"deepq.fingerprint": index.fingerprint},
    )
    batches = _batches(pa, schema, numbers, _stored(index) if rows is None else _given(index, rows))
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        made = lance.write_dataset(reader, folder / "new")
        made.create_index(
            COLUMN,
            "IVF_PQ",
            metric="L2" if index.metric_type == METRIC_L2 else "dot",
            num_partitions=1,
            ivf_centroids=np.zeros((1, width), np.float32),
            pq_codebook=np.array(index.codebooks),
            num_sub_vectors=index.product_quantizer.M,
            num_bits=index.product_quantizer.nbits,
        )
        (folder / "new").rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return lance.dataset(target)


def _require_exportable(index: Any) -> None:
    if not isinstance(index, DeepQuantIndex):
        raise KindError(f"expected a DeepQuantIndex for Lance, got {type(index).__name__}")
    if not (index.is_trained and index.ntotal):
        raise StateError("expected a trained index with vectors for Lance, got another")
    M, nbits = index.product_quantizer.M, index.product_quantizer.nbits
    if nbits != 8 and (nbits != 4 or M % 2):
        raise InputError(
            f"expected codes of 8 bits for Lance, or 4 with an even M, got M = {M}, nbits = {nbits}"
        )


def _stored(index: DeepQuantIndex) -> Iterator[Floats]:
    """Yield the codewords that stored codes stand for, block by block."""
    quantizer = index.product_quantizer
    for codes in index.code_blocks(_BLOCK):
        yield quantizer.gather(unpack(codes, quantizer.M, quantizer.nbits))


def _given(index: DeepQuantIndex, rows: Any) -> Iterator[Floats]:
    """Yield the embeddings of rows, block by block."""
    for _, block in checked_blocks(rows):
        yield embed(index.encoder, block)


def _batches(pa: Any, schema: Any, ids: Ids, blocks: Iterator[Floats]) -> Iterator[Any]:
    """Yield Arrow's batches of ids and vectors."""
    first, width = 0, schema.field(COLUMN).type.list_size
    for z in blocks:
        numbers = pa.array(ids[first : first + len(z)], pa.int64())
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel(), pa.float32()), width)
        yield pa.record_batch([numbers, vectors], schema=schema)
        first += len(z)
