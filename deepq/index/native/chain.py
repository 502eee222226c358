"""The chain of faiss transforms before an index of faiss's, with the encoder and the codebooks.

All knowledge of faiss's C++ objects and their SWIG wrappers is in this room. What an index keeps of
its codes is a matter of its kind: see `flat`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import faiss
import numpy as np

from deepq._common.errors import StateError
from deepq._common.plain_data import to_bytes
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.encoders.fixed import Affine
from deepq.encoders.spread import Spread
from deepq.index.native import bridge, payload
from deepq.index.native.originals import downcast_index
from deepq.index.native.transforms import (
    encoder_in,
    fill_spare,
    has_spare,
    is_foreign,
    joined,
    make_transform,
    members_of,
    numbers_of,
    placed_members,
    rotations,
    spare_in,
    write_affine,
)

# Kept at import: a program may put a class of ours in its place.
IndexPreTransform, IndexFlat = faiss.IndexPreTransform, faiss.IndexFlatL2

Native = TypeVar("Native", bound="NativeChain")


class NativeChain:
    """A chain of transforms before an index with a product quantizer, owned by `chain`.

    Attributes
    ----------
    chain : faiss.IndexPreTransform
        Owns the C++ objects.
    pq_index : faiss.Index
        The index inside; valid as long as `chain` is.
    """

    def __init__(self, chain: Any) -> None:
        self.chain = chain
        self.pq_index = downcast_index(chain.index)

    @classmethod
    def of(cls: type[Native], index: Any) -> Native | None:
        """Take an index of faiss's that is of this kind behind transforms; None for another."""
        raise NotImplementedError

    @classmethod
    def around(cls: type[Native], pq_index: Any, encoder: Encoder, M: int) -> Native:
        """Put the transforms of an encoder before an empty index, which the chain then owns."""
        members = placed_members(encoder)
        chain = IndexPreTransform(pq_index)
        pq_index.this.disown()
        for member in reversed(members):
            transform = make_transform(member, M)
            chain.prepend_transform(transform)
            if not (is_foreign(member) and bridge.place_encoder(chain, member)):
                transform.this.disown()
        chain.own_fields = True
        chain.is_trained = False
        return cls(chain)

    def reshape(self, encoder: Encoder) -> None:
        """Take the transforms of another encoder, for embeddings of another length.

        The index must be empty. The object stays the same for composites around it.
        """
        index = self.pq_index
        pq = faiss.ProductQuantizer(encoder.d_out, index.pq.M, index.pq.nbits)
        pq.cp.niter, pq.cp.seed = index.pq.cp.niter, index.pq.cp.seed
        other = NativeChain.around(IndexFlat(encoder.d_out), encoder, pq.M)
        self.chain.chain.swap(other.chain.chain)
        index.pq, index.d = pq, encoder.d_out

    # ---- encoder ----------------------------------------------------------------------------

    @property
    def transforms(self) -> list[Any]:
        """The transforms of the chain, as the classes they are."""
        chain = self.chain.chain
        return [faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size())]

    def write_encoder(self, encoder: Encoder) -> None:
        """Copy a fitted encoder's numbers into the chain that was built for it."""
        for transform, member in zip(self.transforms, members_of(encoder), strict=False):
            if is_foreign(member):
                bridge.write(transform, member)
            elif isinstance(member, Affine):
                write_affine(transform, member)
            elif isinstance(member, Spread):
                write_affine(transform, Affine(*member.matrix()))

    def read_encoder(self, network: Any = None) -> Encoder:
        """Make the encoder that the chain holds, with the network that a user hands back.

        Raises KindError for an unknown transform.
        """
        carried = self.carried()
        known = zip(self.transforms, rotations(carried), strict=False)
        members = (encoder_in(each, network, is_rotation=learned) for each, learned in known)
        return joined(members, self.chain.d, carried)

    # ---- codebooks --------------------------------------------------------------------------

    @property
    def codebooks(self) -> Floats:
        """Live, read-only view (M, ksub, dsub) of the centroids; it keeps the object alive."""
        pq = self.pq_index.pq
        shape = (pq.M, pq.ksub, pq.dsub)
        if pq.centroids.size() != pq.M * pq.ksub * pq.dsub:
            raise StateError(f"expected centroids {shape}, got {pq.centroids.size()} numbers")
        return np.asarray(Memory(self, pq.centroids.data(), shape, "<f4"))

    def write_codebooks(self, codebooks: Floats) -> None:
        """Copy codewords (M, ksub, dsub) into the centroids."""
        faiss.copy_array_to_vector(
            np.ascontiguousarray(codebooks).ravel(), self.pq_index.pq.centroids
        )

    def codebooks_crc(self) -> int:
        """Checksum of the centroids."""
        return payload.codebooks_crc(self.codebooks)

    @property
    def polysemous_training(self) -> Any:
        """Faiss's settings for the order of codewords: those that are set, or its defaults."""
        return self.pq_index.polysemous_training or faiss.PolysemousTraining()

    def polysemous(self, codebooks: Floats, z: Floats) -> Floats:
        """Codewords in an order in which Hamming distances of codes follow distances."""
        M, ksub, dsub = codebooks.shape
        pq = faiss.ProductQuantizer(M * dsub, M, ksub.bit_length() - 1)
        faiss.copy_array_to_vector(codebooks.ravel(), pq.centroids)
        self.polysemous_training.optimize_pq_for_hamming(pq, len(z), faiss.swig_ptr(z))
        ordered: Floats = faiss.vector_to_array(pq.centroids).reshape(codebooks.shape)
        return ordered

    def finish_training(self) -> None:
        """Declare encoder and codebooks complete."""
        self.pq_index.is_trained = self.chain.is_trained = True

    def meaning(self, encoder: Encoder | None = None) -> tuple[Any, ...]:
        """Everything that gives codes their meaning; compared with ==.

        An encoder that is known to be that in the chain need not be read.
        """
        pq = self.pq_index.pq
        known = self.read_encoder() if encoder is None else encoder
        parts = [numbers_of(member) for member in members_of(known)]
        return (self.chain.metric_type, pq.M, pq.nbits, self.codebooks.tobytes(), *parts)

    # ---- codes ------------------------------------------------------------------------------

    @property
    def is_mapped(self) -> bool:
        """Whether the codes are in a file; nothing but `reset` is possible with them then."""
        raise NotImplementedError

    def require_memory(self) -> None:
        """Raise StateError if the codes are in a file."""
        if self.is_mapped:
            raise StateError(
                "expected an index in memory to change, got one mapped from a file: "
                "copy.copy(index) is in memory, and so is what is added after reset()"
            )

    # ---- what faiss does not know ------------------------------------------------------------

    def carry(self, value: dict[str, Any]) -> None:
        """Put nested data where faiss takes it along."""
        fill_spare(self._spare()[0], payload.carry(value))

    def carried(self) -> dict[str, Any] | None:
        """Return what `carry` put there; see `payload.carried`."""
        return payload.carried(map(spare_in, self._spare()), self.codebooks)

    @property
    def is_ours(self) -> bool:
        """Whether it is the chain of an index of ours, or what faiss has made of one."""
        return any(payload.is_carried(spare_in(each)) for each in self._spare())

    def carried_decoder(self) -> bytes:
        """Return the decoder that is carried as bytes that can be compared; none without one."""
        value = self.carried()
        return b"" if value is None or value["decoder"] is None else to_bytes(value["decoder"])

    def _spare(self) -> list[Any]:
        return [transform for transform in self.transforms if has_spare(transform)]


class Memory:
    """Numbers inside a C++ object, for np.asarray; holds a reference to the object's owner."""

    def __init__(
        self,
        owner: NativeChain,
        pointer: Any,
        shape: tuple[int, ...],
        dtype: str,
        *,
        writes: bool = False,
    ) -> None:
        self.owner = owner.chain
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(map(int, shape)),
            "typestr": dtype,
            "data": (int(pointer), not writes),
        }
