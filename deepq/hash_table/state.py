"""A hash table as plain data, for files, pickles and copies: see `state`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deepq._common.checks import as_count
from deepq._common.errors import FormatError
from deepq._common.plain_data import as_parts, digest
from deepq.encoders.plain import encoder_state, make_encoder
from deepq.hash_table.rows import BucketRows
from deepq.hash_table.store import Store
from deepq.index.carried import made_objective, make_training, objective_state, training_state
from deepq.index.state import require_same
from deepq.quantizers.product import ProductQuantizer

if TYPE_CHECKING:
    from deepq.hash_table.index import HashTableIndex

Table = TypeVar("Table", bound="HashTableIndex")


@contextmanager
def held_table(index: HashTableIndex, *, empty: bool = False) -> Iterator[dict[str, Any]]:
    """Describe a hash table as it stays while the context lasts: changes wait.

    Where it is to be `empty` there are no rows.
    """
    with index._lock.changing():
        rows = index._store.settled()
        part = slice(0, 0) if empty else slice(None)
        quantizer = index.product_quantizer
        books = None if quantizer is None else quantizer.codebooks
        yield {
            "kind": index.kind,
            "d": index.d,
            "levels": index.levels,
            "width": index.width,
            "sparsity": index.sparsity,
            "kept": index.kept,
            "metric": index.metric_type,
            "M": None if quantizer is None else quantizer.M,
            "nbits": None if quantizer is None else quantizer.nbits,
            "codebooks": books,
            "min_candidates": index.min_candidates,
            "order": index.order,
            "training": training_state(index.training),
            "objective": objective_state(index.objective),
            "hash_objective": objective_state(index.hash_objective),
            "history": list(index.history),
            "encoder": encoder_state(index.embedder),
            "hasher": encoder_state(index.hasher),
            "next_id": 0 if empty else index._store.next_id,
            "ids": rows.ids[part],
            "buckets": rows.buckets[part],
            "rows": np.ascontiguousarray(rows.content[part]).view(np.uint8),
        }


# What buckets and rows follow from.
_MEANING = (
    *("encoder", "hasher", "codebooks"),
    *("levels", "width", "sparsity", "kept", "metric"),
)


def table_fingerprint(state: dict[str, Any]) -> str:
    """Return the fingerprint of a trained hash table by its state.

    Files hold it and are refused where it is another: what changes it needs another member there.
    """
    return digest((as_parts({name: state[name] for name in _MEANING}),))


def made_table(state: dict[str, Any], cls: type[Table]) -> Table:
    """Make the hash table of a state.

    Raises
    ------
    FormatError
        If the state lacks a part, or its parts do not fit together.
    """
    try:
        kept, quantizer = state["kept"], None
        if kept == "codes":
            quantizer = ProductQuantizer(state["M"], state["nbits"])
            quantizer.codebooks = state["codebooks"]
        index = cls(
            make_encoder(state["encoder"]),
            make_encoder(state["hasher"]),
            state["levels"],
            state["width"],
            sparsity=state["sparsity"],
            kept=kept if quantizer is None else quantizer,
            metric=state["metric"],
            objective=made_objective(state["objective"]),
            hash_objective=made_objective(state["hash_objective"]),
            training=make_training(state["training"]),
            min_candidates=state["min_candidates"],
            order=state["order"],
        )
        if index.d != state["d"]:
            raise FormatError(f"d = {state['d']} and encoders of {index.d} inputs")
        index.history = list(state["history"])
        require_same(lambda: index.fingerprint, state, index.embedder, index.hasher)
        rows = index._nothing()
        if len(state["ids"]):
            index._require_trained()
            rows = _rows(state, index)
        index._store = Store(rows, as_count(state["next_id"], "next_id"))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise FormatError(
            f"expected the state of an index, got one with a fault: {error}"
        ) from error
    return index


def _rows(state: dict[str, Any], index: HashTableIndex) -> BucketRows:
    """Sort in the rows of a state. Raises FormatError where they do not fit."""
    ids, buckets = state["ids"], state["buckets"]
    content = np.ascontiguousarray(state["rows"], np.uint8).view(index._kept.dtype)
    wanted = len(ids), index._kept.width
    if ids.shape != (len(ids),) or content.shape != wanted or ids.dtype != np.int64:
        raise FormatError(f"rows of shape {content.shape} and ids of shape {ids.shape}")
    if buckets.shape != (len(ids), index.sparsity) or buckets.dtype != np.int64:
        raise FormatError(f"buckets of shape {buckets.shape}")
    if buckets.min() < 0 or buckets.max() >= index.buckets or ids.min() < 0:
        raise FormatError("buckets or ids out of range")
    if int(state["next_id"]) <= ids.max():
        raise FormatError("ids that are to be given again")
    if content.dtype != np.uint8 and not np.isfinite(content).all():
        raise FormatError("embeddings that are not finite")
    return BucketRows.of(content, ids, buckets, index.buckets)
