"""The state of an index as plain data: what files, pickles and copies are made of.

A state is a dict of JSON values and arrays, nested where encoders are. Nothing in it is trusted:
`make_index` hands every part to the checks of the object that it describes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np

from deepq._checks import FormatError
from deepq._store import Store
from deepq.encoders import Affine, Chain, Encoder, Identity, Normalize, Rotation
from deepq.quantizers import ProductQuantizer
from deepq.trainer import TrainConfig

Index = TypeVar("Index", bound=Store)
State = dict[str, Any]

# faiss attributes that are settings of the user, not results of training.
SETTINGS = (
    "do_polysemous_training",
    "encode_signs",
    "metric_arg",
    "polysemous_ht",
    "search_type",
    "verbose",
)


def get_state(index: Store) -> State:
    """Copy an index's parts into a state."""
    with index._lock.reading():
        quantizer = index.quantizer
        trained = bool(index.is_trained)
        return {
            "d": int(index.d),
            "M": quantizer.M,
            "nbits": quantizer.nbits,
            "metric": int(index.metric_type),
            "settings": {name: getattr(index, name) for name in SETTINGS},
            "clustering": {"niter": int(index.pq.cp.niter), "seed": int(index.pq.cp.seed)},
            "training": None if index.training is None else dataclasses.asdict(index.training),
            "history": list(index.history),
            "encoder": encoder_state(index.encoder),
            "codebooks": np.array(quantizer.codebooks) if trained else None,
            "codes": np.array(index._native.codes),
        }


def make_index(state: State, cls: type[Index]) -> Index:
    """Make an index of a state.

    Raises
    ------
    FormatError
        If the state lacks a part, or its parts do not fit together.
    """
    try:
        training, clustering = state["training"], state["clustering"]
        quantizer = ProductQuantizer(state["M"], state["nbits"])
        quantizer.codebooks = state["codebooks"]
        encoder = make_encoder(state["encoder"])
        if encoder.d_in != state["d"]:
            raise FormatError(f"d = {state['d']} and an encoder of {encoder.d_in} inputs")
        index = cls.__new__(cls)
        config = None if training is None else TrainConfig(**training)
        index._assemble(state["metric"], encoder, quantizer, config)
        for name in SETTINGS:
            setattr(index, name, state["settings"][name])
        index.pq.cp.niter, index.pq.cp.seed = clustering["niter"], clustering["seed"]
        if len(state["codes"]):
            index.add_sa_codes(state["codes"])
        index.history = list(state["history"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(
            f"expected the state of an index, got one with a fault: {error}"
        ) from error
    return index


def encoder_state(encoder: Encoder) -> State:
    """Describe an encoder by the name of its class and its numbers."""
    if isinstance(encoder, Chain):
        return {"type": "Chain", "members": [encoder_state(member) for member in encoder.members]}
    if isinstance(encoder, Rotation):
        return {"type": "Rotation", "A": encoder.A, "is_fitted": encoder.is_fitted}
    if isinstance(encoder, Affine):
        return {"type": "Affine", "A": encoder.A, "b": encoder.b}
    return {"type": type(encoder).__name__, "d": encoder.d_in}


def make_encoder(state: State) -> Encoder:
    """Make the encoder that a state describes. Raises FormatError for an unknown one."""
    kind = state["type"]
    if kind == "Chain":
        return Chain(make_encoder(member) for member in state["members"])
    if kind == "Rotation":
        return Rotation.of(state["A"]) if state["is_fitted"] else Rotation(len(state["A"]))
    if kind == "Affine":
        return Affine(state["A"], state["b"])
    if kind == "Identity":
        return Identity(state["d"])
    if kind == "Normalize":
        return Normalize(state["d"])
    raise FormatError(f"expected an encoder of this version of deepq, got {kind!r}")
