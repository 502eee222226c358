"""The state of an index as plain data: what files, pickles and copies are made of.

A state is a dict of JSON values and arrays, nested where encoders are. Nothing in it is trusted:
`make_index` hands every part to the checks of the object that it describes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pickle import PickleBuffer
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import FormatError, KindError
from deepq._common.plain_data import Blocks, OwnObject, join_arrays, split_arrays
from deepq.decoders.plain import make_decoder
from deepq.encoders.base import Encoder
from deepq.encoders.plain import encoder_state, make_encoder
from deepq.index.carried import made_objective, make_training, objective_state, training_state
from deepq.index.learned import LearnedIndex
from deepq.quantizers.binary import TYPES
from deepq.quantizers.product import ProductQuantizer

Index = TypeVar("Index", bound=LearnedIndex)
State = dict[str, Any]

# Of the arrays in files and pickles.
DTYPES = ("|u1", "<f4", "<i8")

# A state that names no kind of index is of this one.
_FIRST_KIND = "flat"


def live_state(index: LearnedIndex, *, empty: bool = False) -> State:
    """Describe an index by its own codebooks and codes, while the caller holds the lock.

    Where it is to be `empty` there are no codes.
    """
    quantizer, pq = index.product_quantizer, index._native.pq_index.pq
    named = {} if index.kind == _FIRST_KIND else {"kind": index.kind}
    return {
        **named,
        "d": int(index.d),
        "quantizer": _quantizer_state(quantizer),
        "M": quantizer.M,
        "nbits": quantizer.nbits,
        "metric": int(index.metric_type),
        "settings": {name: getattr(index, name) for name in index.settings},
        "clustering": {"niter": int(pq.cp.niter), "seed": int(pq.cp.seed)},
        "rerank": index.rerank,
        "training": training_state(index.training),
        "objective": objective_state(index.objective),
        "history": list(index.history),
        "encoder": encoder_state(index.encoder),
        "codebooks": quantizer.codebooks if index.is_trained else None,
        "decoder": None if quantizer.decoder is None else quantizer.decoder.state(),
        **index._stored(empty=empty),
    }


@contextmanager
def held_state(index: LearnedIndex, *, empty: bool = False) -> Iterator[State]:
    """Describe an index as it stays while the context lasts: changes wait."""
    with index._lock.reading():
        yield live_state(index, empty=empty)


def held_fingerprint(index: LearnedIndex) -> str | None:
    """Return the `fingerprint` of an index, inside of a `held_state`."""
    return index._fingerprint()


def empty_copy(index: Index) -> Index:
    """Copy an index without its codes."""
    with held_state(index, empty=True) as state:
        return make_index(copied(state), type(index))


def copied(state: State) -> State:
    """Copy a state that may change, by way of what a pickle of it would hold."""
    text, parts, *living = packed(state, 5)
    return unpack(text, [part.raw() for part in parts], *living)


def reduced(index: Any, home: type, restore: Callable[..., Any], content: Any) -> tuple[Any, ...]:
    """Return what `__reduce_ex__` does: the function that restores an index, and its arguments.

    `content` is what `packed` gives. That of an index of the class `home`, with nothing of a user's
    own, is data alone; else the class, and the objects, go along.
    """
    text, parts, *living = content
    if type(index) is home and not living:
        return restore, (text, parts)
    return restore, (text, parts, *(living or [()]), type(index))


def pack(index: LearnedIndex, protocol: int) -> tuple[Any, ...]:
    """Give `unpack` its arguments: text and bytes, and objects of a user's own classes if any.

    Pickles pass the bytes on without a copy: from protocol 5 on as buffers, out of band if wanted.
    """
    with held_state(index) as state:
        return packed(state, protocol)


def packed(state: State, protocol: int) -> tuple[Any, ...]:
    """Pack a state, as `pack` does, while it stays as it is."""
    arrays: list[NDArray[Any] | Blocks] = []
    living: list[OwnObject] = []
    fields = split_arrays(state, arrays, living)
    require_known(arrays)
    content = [array.tobytes() for array in arrays]  # of this moment; no view may outlive it
    listing = [(array.dtype.str, array.shape) for array in arrays]
    text = json.dumps({"index": fields, "arrays": listing})
    parts: list[Any] = content
    if protocol >= 5:
        parts = [PickleBuffer(part) for part in content]
    elif protocol < 3:  # which write bytes as a call of a function
        parts = [part.decode("latin-1") for part in content]
    return (text, parts, living) if living else (text, parts)


def unpack(text: str, parts: Sequence[Any], living: Sequence[OwnObject] = ()) -> State:
    """Make the state that `pack` was given."""
    document = json.loads(text)
    arrays = []
    for (dtype, shape), part in zip(document["arrays"], parts, strict=True):
        content = part.encode("latin-1") if isinstance(part, str) else part
        if dtype not in DTYPES:
            raise FormatError(f"an array of the dtype {dtype!r}")
        arrays.append(np.frombuffer(content, dtype).reshape(shape))
    # Encoders may write into their arrays. The codes, which are last, are copied by the index.
    return cast(
        State, join_arrays(document["index"], [*map(np.array, arrays[:-1]), *arrays[-1:]], living)
    )


def require_known(arrays: Iterable[NDArray[Any] | Blocks]) -> None:
    """Raise KindError for an array that files and pickles do not hold."""
    for array in arrays:
        if array.dtype.str not in DTYPES:
            raise KindError(f"expected arrays of float32 or uint8, got {array.dtype}")


def make_index(state: State, cls: type[Index]) -> Index:
    """Make an index of a state.

    Raises
    ------
    FormatError
        If the state lacks a part, or its parts do not fit together.
    """
    try:
        index_kind = state.get("kind", _FIRST_KIND)
        if index_kind != cls.kind:
            raise FormatError(f"an index of the kind {index_kind!r}, which a {cls.__name__} is not")
        training, clustering = state["training"], state["clustering"]
        kind = state.get("quantizer", "ProductQuantizer")  # the only one of the first files
        if kind not in TYPES:
            raise FormatError(f"a quantizer of the type {kind!r}, which this deepq does not have")
        quantizer = TYPES[kind](state["M"], state["nbits"])
        quantizer.codebooks = state["codebooks"]
        if state["decoder"] is not None:
            quantizer.decoder = make_decoder(state["decoder"])
        encoder = make_encoder(state["encoder"])
        if encoder.d_in != state["d"]:
            raise FormatError(f"d = {state['d']} and an encoder of {encoder.d_in} inputs")
        index = cls.__new__(cls)
        config = make_training(training)
        with index._carrying_once():
            index._begin(state)
            index._assemble(state["metric"], encoder, quantizer, config)
            require_same(index._fingerprint, state, encoder)
            index.rerank = state["rerank"]
            index.objective = made_objective(state["objective"])
            for name in index.settings:
                setattr(index, name, state["settings"][name])
            cp = index._native.pq_index.pq.cp
            cp.niter, cp.seed = clustering["niter"], clustering["seed"]
            index._store(state)
            index.history = list(state["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(
            f"expected the state of an index, got one with a fault: {error}"
        ) from error
    return index


def require_same(own: Callable[[], str | None], state: State, *encoders: Encoder) -> None:
    """Raise FormatError if codes stood for other vectors when a state was made.

    An encoder of a user's own class may describe itself otherwise now, and mean the same.
    """
    stored, members = state.get("fingerprint"), [m for each in encoders for m in each.members]
    if stored is None or not all(type(m).__module__.startswith("deepq.") for m in members):
        return
    if stored != own():
        raise FormatError(f"the fingerprint {stored!r} of an index that has {own()!r} now")


def _quantizer_state(quantizer: ProductQuantizer) -> str:
    """Name the kind of a quantizer; files know those in `quantizers.TYPES`."""
    name = type(quantizer).__name__
    if TYPES.get(name) is not type(quantizer):
        raise KindError(f"expected a quantizer of a class in deepq.quantizers.TYPES, got {name}")
    return name
