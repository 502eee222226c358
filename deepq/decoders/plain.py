"""Decoders as plain data: their kinds by name, for files, pickles and copies."""

from __future__ import annotations

from typing import Any

from deepq.decoders.additive import AdditiveDecoder
from deepq.decoders.neural import Decoder

AnyDecoder = Decoder | AdditiveDecoder


def make_decoder(state: dict[str, Any]) -> AnyDecoder:
    """Make the decoder that a `state` describes; one without a kind is a `Decoder`.

    Raises KeyError where a part is missing, InputError and DimensionError where one is wrong.
    """
    kind = AdditiveDecoder if state.get("kind") == AdditiveDecoder.kind else Decoder
    return kind.from_state(state)
