"""Indexes of faiss's around others: what is inside, and how an index of ours gets there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss

from deepq.index.native import called
from deepq.index.native.originals import downcast_index
from deepq.index.native.plain import PlainAround, PlainMap, PlainRefinement
from deepq.index.native.transforms import plain_transform

# Where the index is that searches, in those that faiss writes.
_PLACES = {
    faiss.IndexIDMap: "index",
    faiss.IndexPreTransform: "index",
    faiss.IndexRefine: "base_index",
}
# Those that it does not write have any number of them.
_MANY = (faiss.IndexShards, faiss.IndexReplicas)


def nested(index: Any) -> list[Any]:
    """Return an index and those inside, one in the other, as the classes that they are."""
    found = [downcast_index(index)]
    while (place := _place(found[-1])) is not None:
        found.append(downcast_index(getattr(found[-1], place)))
    return found


def put_inside(index: Any, depth: int, new: Any) -> None:
    """Put an index of ours in the place of ``nested(index)[depth]``, of `depth` at least 1.

    `index` owns all that is inside, as what faiss has read does: it owns `new` as well from here
    on, and what was there is deleted. Only where `called` has no fault.
    """
    holder, old = nested(index)[depth - 1 : depth + 1]
    setattr(holder, str(_place(holder)), new)
    called.hand_over(new)
    old.this.acquire()  # it ends here


def put_around(index: Any, plain: PlainAround) -> Any:
    """Make a composite around an index of ours, or around a composite made here, and own it.

    Raises KindError where transforms are encoders of ours.
    """
    empty = faiss.IndexFlat(index.d, index.metric_type)  # which faiss demands at first
    if isinstance(plain, PlainMap):
        outer = (faiss.IndexIDMap2 if plain.finds else faiss.IndexIDMap)(empty)
        faiss.copy_array_to_vector(plain.ids, outer.id_map)
    elif isinstance(plain, PlainRefinement):
        outer = faiss.IndexRefineFlat(empty)
        outer.k_factor = plain.k_factor
        refining = downcast_index(outer.refine_index)
        refining.add_c(len(plain.vectors), faiss.swig_ptr(plain.vectors))
    else:
        outer = faiss.IndexPreTransform(empty)
        for transform in reversed(plain.transforms):
            made = plain_transform(transform)
            outer.prepend_transform(made)
            made.this.disown()
    setattr(outer, str(_place(outer)), index)
    outer.own_fields = True
    if called.living(index) is index:
        called.hand_over(index)
    else:
        index.this.disown()
    outer.ntotal, outer.is_trained = index.ntotal, index.is_trained
    if isinstance(plain, PlainMap) and plain.finds:
        outer.construct_rev_map()
    return outer


def many_like(index: Any, make: Callable[[Any], Any]) -> Any:
    """Make shards or replicas of what `make` returns for each of these; None for another index."""
    if not isinstance(index, _MANY):
        return None
    like = type(index)(index.d)
    # The names by which faiss keeps what is added.
    add = like.addIndex if isinstance(index, faiss.IndexReplicas) else like.add_shard
    if isinstance(index, faiss.IndexShards):
        like.successive_ids = index.successive_ids
    for i in range(index.count()):
        add(make(downcast_index(index.at(i))))
    return like


def _place(index: Any) -> str | None:
    return next((place for cls, place in _PLACES.items() if isinstance(index, cls)), None)
