"""Encoders as plain data: their kinds by name, for files, pickles and copies."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from deepq._common.errors import FormatError, InputError, KindError
from deepq.encoders.base import Encoder

# Encoders that files may hold: the name of the class, and where it is imported from when needed.
TYPES = {
    "Identity": "deepq.encoders.fixed:Identity",
    "Normalize": "deepq.encoders.fixed:Normalize",
    "Affine": "deepq.encoders.fixed:Affine",
    "Chain": "deepq.encoders.chain:Chain",
    "Rotation": "deepq.encoders.rotation:Rotation",
    "Spread": "deepq.encoders.spread:Spread",
    "Sign": "deepq.encoders.fixed:Sign",
    "KernelHash": "deepq.encoders.kernel_hash:KernelHash",
    "NetworkEncoder": "deepq.encoders.network:NetworkEncoder",
}


def as_encoder(value: Any, d: int) -> Encoder:
    """Take an encoder of `d` inputs, or a trained torch module, which becomes a `NetworkEncoder`.

    Raises KindError for anything else, InputError if `d` is not the length of its inputs.
    """
    torch = sys.modules.get("torch")  # without which there is no module
    if torch is not None and isinstance(value, torch.nn.Module):
        network: Any = _class("NetworkEncoder")
        value = network(value, d, fitted=True)
    if not isinstance(value, Encoder):
        raise KindError(f"expected an Encoder or a torch.nn.Module, got {type(value).__name__}")
    if value.d_in != d:
        raise InputError(f"expected an encoder of {d} inputs, got {value.d_in}")
    return value


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """Describe an encoder by its name in `TYPES` and its state.

    Raises KindError if its class is not there, or has no `state`.
    """
    name = type(encoder).__name__
    if name not in TYPES or _class(name) is not type(encoder):
        raise KindError(f"expected an encoder of a class in deepq.encoders.TYPES, got {name}")
    return {"type": name, **encoder.state()}


def make_encoder(state: dict[str, Any]) -> Encoder:
    """Make the encoder that a state describes. Raises FormatError for an unknown or faulty one."""
    try:
        rest = dict(state)
        name = rest.pop("type")
        if name not in TYPES:
            raise FormatError(f"one of the type {name!r}, which deepq.encoders.TYPES does not have")
        return _class(name).from_state(rest)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"expected the state of an encoder, got {error}") from error


def with_network(state: dict[str, Any], network: Any) -> dict[str, Any]:
    """Put a network into the state of an encoder, where that has one.

    `network` may also be an encoder like the one described; None leaves the state as it is.
    """
    if isinstance(network, Encoder):
        network = next((m for m in network.members if hasattr(m, "network")), None)
    if network is None:
        return state
    if state.get("type") == "Chain":
        return {**state, "members": [with_network(member, network) for member in state["members"]]}
    return {**state, "handed_back": network} if state.get("type") == "NetworkEncoder" else state


def _class(name: str) -> type[Encoder]:
    module, _, attribute = TYPES[name].partition(":")
    found: type[Encoder] = getattr(import_module(module), attribute)
    return found
