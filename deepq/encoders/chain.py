"""Encoders one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from deepq._common.checks import as_tuple
from deepq._common.errors import DimensionError, InputError, KindError
from deepq._common.types import Floats, Progress
from deepq.decoders.additive import AdditiveDecoder
from deepq.encoders.base import Encoder
from deepq.encoders.fixed import Identity, Normalize
from deepq.encoders.plain import encoder_state, make_encoder
from deepq.encoders.spread import Spread
from deepq.quantizers.product import ProductQuantizer


class Chain(Encoder):
    """One encoder after the other.

    The codebooks that `fit` leaves in the quantizer are those of the last member that
    learns together with it, so such a member belongs at the end.

    Parameters
    ----------
    members : iterable of Encoder
        At least one; each takes what the one before gives.

    Raises
    ------
    InputError
        If there is no member.
    DimensionError
        If two neighbours do not fit.
    """

    def __init__(self, members: Iterable[Encoder]) -> None:
        self._members: tuple[Encoder, ...] = as_tuple(members, "members")
        if not self.members:
            raise InputError("expected at least one encoder, got none")
        for member in self.members:
            if not isinstance(member, Encoder):
                raise KindError(f"expected encoders, got {type(member).__name__}")
        for left, right in zip(self.members, self.members[1:], strict=False):
            if left.d_out != right.d_in:
                raise DimensionError(
                    f"expected an encoder of {left.d_out} inputs next, got {right.d_in}"
                )
        super().__init__(self.members[0].d_in, self.members[-1].d_out)
        self.can_decode = all(member.can_decode for member in self.members)
        self.learns_codebooks = any(member.learns_codebooks for member in self.members)

    @staticmethod
    def of(members: Sequence[Encoder], d: int) -> Encoder:
        """Put encoders together; one stays as it is, and none is that of vectors of length `d`."""
        if not members:
            return Identity(d)
        return members[0] if len(members) == 1 else Chain(members)

    @property
    def members(self) -> tuple[Encoder, ...]:
        """The encoders that it is made of, in order."""
        return self._members

    @property
    def is_fitted(self) -> bool:
        """Whether all members are."""
        return all(member.is_fitted for member in self.members)

    @property
    def learns(self) -> bool:
        """Whether any member does."""
        return any(member.learns for member in self.members)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That of the first member."""
        return self.members[0].input_shape

    def fit(
        self,
        x: Floats,
        quantizer: ProductQuantizer,
        *,
        iterations: int | None = None,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Fit the members in order, each on what the ones before it give."""
        for i, member in enumerate(self.members):
            if i:
                x = self.members[i - 1].encode(x)
            member.fit(x, quantizer, iterations=iterations, seed=seed, progress=progress)

    def unlabelled(self) -> None:
        """Tell all members."""
        for member in self.members:
            member.unlabelled()

    def settle(self) -> None:
        """Settle all members."""
        for member in self.members:
            member.settle()

    def look_at(self, x: Any) -> None:
        """Let the first member look."""
        self.members[0].look_at(x)

    def encode(self, x: Floats) -> Floats:
        """Pass the rows of `x` (n, d_in) through all members."""
        for member in self.members:
            x = member.encode(x)
        return x

    def decode(self, z: Floats) -> Floats:
        """Pass the embeddings `z` (n, d_out) back through all members."""
        for member in reversed(self.members):
            z = member.decode(z)
        return z

    def state(self) -> dict[str, Any]:
        """Types and states of the members."""
        return {"members": [encoder_state(member) for member in self.members]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Chain:
        """Make the members, and a chain of them."""
        return cls(make_encoder(member) for member in state["members"])


def for_cosine(encoder: Encoder) -> Chain:
    """Return an encoder for cosines: what these are of is scaled to unit length."""
    first, *others = encoder.members
    if first.scales_embeddings:
        return Chain([first, Normalize(first.d_out), *others])
    return Chain([Normalize(encoder.d_in), first, *others])


def with_spread(encoder: Encoder, decoder: AdditiveDecoder) -> Encoder:
    """Return an encoder whose embeddings are wide, as additive codes need them."""
    members = [member for member in encoder.members if type(member) is not Identity]
    spread = Spread(decoder.arrays["shares"], decoder.arrays["centre"])
    return Chain.of([*members, spread], encoder.d_in)


def without_spread(encoder: Encoder) -> Encoder:
    """Return the encoder before `with_spread`."""
    members = [member for member in encoder.members if not isinstance(member, Spread)]
    return Chain.of(members, encoder.d_in)
