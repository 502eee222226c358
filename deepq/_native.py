"""The faiss object under an index: builds it, reads it and writes it.

It is an ``IndexPreTransform(chain, IndexPQ)``: the chain holds the encoder, the IndexPQ holds the
codebooks and codes, once. All knowledge of faiss's C++ objects and their SWIG wrappers is here and,
for encoders that faiss has no transforms for, in `_foreign`.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq import _foreign, _mapping, _plain
from deepq._binary import InFile
from deepq._checks import Codes, DimensionError, Floats, InputError, StateError
from deepq._plain import PlainIndex, Transform
from deepq._threads import openmp_threads
from deepq.encoders import Affine, Chain, Encoder, Identity, Normalize, Rotation

# Kept at import: a program may put DeepQuantIndex in its place.
IndexPQ = faiss.IndexPQ
IndexPreTransform = faiss.IndexPreTransform


class Native:
    """A chain of transforms before a product-quantizer index, all of it owned by `chain`.

    Attributes
    ----------
    chain : faiss.IndexPreTransform
        Owns the C++ objects.
    pq_index : faiss.IndexPQ
        The index inside; valid as long as `chain` is.
    """

    def __init__(self, chain: Any) -> None:
        self.chain = chain
        self.pq_index = faiss.downcast_index(chain.index)
        self._code_size = self.pq_index.code_size
        self._bytes = self.pq_index.codes  # the vector itself, wherever it has its memory
        self._seen: tuple[Any, Codes] = None, np.empty((0, 0), np.uint8)

    @classmethod
    def build(cls, encoder: Encoder, M: int, nbits: int, metric: int) -> Native:
        """Make an empty, untrained object for an encoder. Raises InputError where faiss refuses."""
        members = _members(encoder)
        if not members:  # without one, training a composite would train the codebooks again
            members = [encoder]
        try:
            pq_index = IndexPQ(encoder.d_out, M, nbits, metric)
        except RuntimeError as error:
            raise InputError(str(error)) from error
        chain = IndexPreTransform(pq_index)
        pq_index.this.disown()
        for member in reversed(members):
            transform = _transform(member, M)
            chain.prepend_transform(transform)
            if not (_is_foreign(member) and _foreign.place(chain, member)):
                transform.this.disown()
        chain.own_fields = True
        chain.is_trained = False
        return cls(chain)

    # ---- encoder ----------------------------------------------------------------------------

    @property
    def transforms(self) -> list[Any]:
        """The transforms of the chain, as the classes they are."""
        chain = self.chain.chain
        return [faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size())]

    def write_encoder(self, encoder: Encoder) -> None:
        """Copy a fitted encoder's numbers into the chain that was built for it."""
        for transform, member in zip(self.transforms, _members(encoder), strict=False):
            if _is_foreign(member):
                _foreign.write(transform, member)
            elif isinstance(member, Affine):
                _write_affine(transform, member)

    def read_encoder(self, network: Any = None) -> Encoder:
        """Make the encoder that the chain holds, with the network that a user hands back.

        Raises KindError for an unknown transform.
        """
        members = [_encoder(transform, network) for transform in self.transforms]
        return _plain.chained(members, self.chain.d)

    def plain(self, network: Any = None) -> PlainIndex:
        """Describe it, without settings; codes and codebooks are its own, not copies.

        Raises as `read_encoder` does, and FormatError if what it carries is damaged.
        """
        index = self.pq_index
        trained = bool(self.chain.is_trained)
        return PlainIndex(
            encoder=self.read_encoder(network),
            is_trained=trained,
            M=index.pq.M,
            nbits=index.pq.nbits,
            metric=index.metric_type,
            codebooks=self.codebooks if index.is_trained else None,
            codes=self.codes if trained else self.codes[:0],
            settings={},
            carried=self.carried(),
        )

    # ---- codebooks and codes ----------------------------------------------------------------

    @property
    def codebooks(self) -> Floats:
        """Live, read-only view (M, ksub, dsub) of the centroids; it keeps the object alive."""
        pq = self.pq_index.pq
        shape = (pq.M, pq.ksub, pq.dsub)
        if pq.centroids.size() != pq.M * pq.ksub * pq.dsub:
            raise StateError(f"expected centroids {shape}, got {pq.centroids.size()} numbers")
        return np.asarray(_Memory(self, pq.centroids.data(), shape, "<f4"))

    def write_codebooks(self, codebooks: Floats) -> None:
        """Copy codewords (M, ksub, dsub) into the centroids."""
        faiss.copy_array_to_vector(
            np.ascontiguousarray(codebooks).ravel(), self.pq_index.pq.centroids
        )

    def codebooks_crc(self) -> int:
        """Checksum of the centroids."""
        return _plain.codebooks_crc(self.codebooks)

    # ---- what faiss does not know ------------------------------------------------------------

    def carry(self, value: Any) -> None:
        """Put nested data where faiss takes it along, if the chain has a place; None for none."""
        for transform in self._spare_biases()[:1]:
            faiss.copy_array_to_vector(_plain.carry(value), transform.b)

    def carried(self) -> Any:
        """Return what `carry` put there; see `_plain.carried`."""
        spare = [faiss.vector_to_array(transform.b) for transform in self._spare_biases()[:1]]
        return _plain.carried(spare, self.codebooks) if spare else None

    def _spare_biases(self) -> list[Any]:
        linear = [t for t in self.transforms if isinstance(t, faiss.LinearTransform)]
        return [transform for transform in linear if not transform.have_bias]

    @property
    def codes(self) -> Codes:
        """View (ntotal, code_size) of the codes. They move when rows are added: hold a lock."""
        index = self.pq_index
        n, code_size, size = index.ntotal, self._code_size, self._bytes.size()
        if n * code_size > size:
            raise StateError(f"expected {n} codes, got {size} bytes of them")
        if not n:
            return np.empty((n, code_size), np.uint8)
        place = int(self._bytes.data()), n, code_size
        seen, codes = self._seen
        if seen != place:
            codes = np.asarray(_Memory(self, place[0], place[1:], "|u1"))
            self._seen = place, codes
        return codes

    def append(self, codes: Codes) -> None:
        """Add packed codes (n, code_size)."""
        if len(codes):
            self.pq_index.add_sa_codes_c(len(codes), faiss.swig_ptr(codes), None)
        self.chain.ntotal = self.pq_index.ntotal

    def fill(self, codes: Codes | InFile) -> None:
        """Take packed codes (n, code_size) that may be in a file; there may be none before."""
        index = self.pq_index
        if not isinstance(codes, InFile):
            self.append(codes)
            return
        if codes.shape[1] != index.code_size:
            wanted = f"(n, {index.code_size})"
            raise DimensionError(f"expected codes of shape {wanted}, got {codes.shape}")
        if codes.maps:
            _mapping.place(index, codes.map())
        elif len(codes):
            index.codes.resize(len(codes) * index.code_size)
            memory = _Memory(self, index.codes.data(), codes.shape, "|u1", writes=True)
            codes.read(np.asarray(memory))
            index.ntotal = len(codes)
        self.chain.ntotal = index.ntotal

    @property
    def is_mapped(self) -> bool:
        """Whether the codes are in a file; nothing but `reset` is possible with them then."""
        return not self.pq_index.codes.is_owned

    def remove(self, selector: Any) -> int:
        """Remove the vectors that a faiss.IDSelector picks, or an int64 array lists."""
        if isinstance(selector, np.ndarray):
            selector = faiss.IDSelectorBatch(selector)
        return int(self.chain.remove_ids_c(selector))

    def permute(self, perm: NDArray[np.int64]) -> None:
        """Put the vector of position perm[i] at position i."""
        self.pq_index.permute_entries_c(faiss.swig_ptr(perm))

    def finish_training(self) -> None:
        """Declare encoder and codebooks complete; symmetric tables of older ones are forgotten."""
        self.pq_index.is_trained = self.chain.is_trained = True
        self.pq_index.pq.sdc_table.resize(0)
        self.settle_symmetric()

    def fingerprint(self) -> tuple[Any, ...]:
        """Everything that gives codes their meaning; equal fingerprints, equal meaning."""
        pq = self.pq_index.pq
        parts = [_numbers(_encoder(transform)) for transform in self.transforms]
        return (self.chain.metric_type, pq.M, pq.nbits, self.codebooks.tobytes(), *parts)

    # ---- faiss's own ways --------------------------------------------------------------------
    # By the raw methods: faiss.contrib.torch_utils replaces the wrappers that take arrays.

    def search(
        self, z: Floats, k: int, params: Any, threads: int, D: Floats, I: NDArray[np.int64]
    ) -> None:
        """Search for embeddings with faiss, in whatever mode is set or asked for."""
        pointers = [faiss.swig_ptr(array) for array in (z, D, I)]
        with openmp_threads(threads):
            self.pq_index.search_c(len(z), pointers[0], k, *pointers[1:], params)

    def range_search(
        self, z: Floats, thresh: float, params: Any, threads: int
    ) -> tuple[Any, Any, Any]:
        """Return lims, D, I of faiss's range search for embeddings."""
        result = faiss.RangeSearchResult(len(z))
        with openmp_threads(threads):
            self.pq_index.range_search_c(len(z), faiss.swig_ptr(z), thresh, result, params)
        lims = faiss.rev_swig_ptr(result.lims, len(z) + 1).copy()
        found = int(lims[-1])
        D, I = (
            faiss.rev_swig_ptr(part, found).copy() for part in (result.distances, result.labels)
        )
        return lims, D, I

    def polysemous(self, codebooks: Floats, z: Floats) -> Floats:
        """Codewords in an order in which Hamming distances of codes follow distances."""
        M, ksub, dsub = codebooks.shape
        pq = faiss.ProductQuantizer(M * dsub, M, ksub.bit_length() - 1)
        faiss.copy_array_to_vector(codebooks.ravel(), pq.centroids)
        training = self.pq_index.polysemous_training
        training.optimize_pq_for_hamming(pq, len(z), faiss.swig_ptr(z))
        ordered: Floats = faiss.vector_to_array(pq.centroids).reshape(codebooks.shape)
        return ordered

    def settle_symmetric(self) -> None:
        """Prepare symmetric search if it is set and can be."""
        index = self.pq_index
        if index.search_type == IndexPQ.ST_SDC and self.chain.is_trained and index.pq.nbits == 8:
            self.prepare_symmetric()

    def prepare_symmetric(self) -> None:
        """Fill the (M, ksub, ksub) tables of symmetric search, if they are not.

        Raises InputError for other words than those of 8 bits, with which faiss cannot search so.
        """
        pq = self.pq_index.pq
        if pq.nbits != 8:
            raise InputError(f"expected nbits = 8 for symmetric search (ST_SDC), got {pq.nbits}")
        if pq.sdc_table.size() != pq.M * pq.ksub * pq.ksub:
            with openmp_threads():
                pq.compute_sdc_table()


class _Memory:
    """Numbers inside a C++ object, for np.asarray; holds a reference to the object's owner."""

    def __init__(
        self,
        owner: Native,
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


def _members(encoder: Encoder) -> list[Encoder]:
    """Return the encoders that need a transform each, in order."""
    if type(encoder) is Chain:
        return [inner for member in encoder.members for inner in _members(member)]
    return [] if type(encoder) is Identity else [encoder]


def _is_foreign(encoder: Encoder) -> bool:
    """Whether faiss has no transform for an encoder, as it has none for subclasses of ours."""
    return type(encoder) not in (Identity, Affine, Rotation, Normalize)


def _transform(encoder: Encoder, M: int) -> Any:
    """Make the faiss transform for one encoder."""
    if _is_foreign(encoder):
        return faiss.LinearTransform(encoder.d_in, encoder.d_out)  # `_foreign` fills it
    if type(encoder) is Rotation:
        # Where C++ code trains (a composite's train), faiss's own OPQ runs, from the identity.
        opq = faiss.OPQMatrix(encoder.d_in, M)
        faiss.copy_array_to_vector(np.eye(encoder.d_in, dtype=np.float32).ravel(), opq.A)
        return opq
    if type(encoder) is Affine:
        linear = faiss.LinearTransform(encoder.d_in, encoder.d_out, encoder.b is not None)
        _write_affine(linear, encoder)
        return linear
    if type(encoder) is Normalize:
        return faiss.NormalizationTransform(encoder.d_in, 2.0)
    return faiss.RemapDimensionsTransform(encoder.d_in, encoder.d_out, True)


def _write_affine(transform: Any, encoder: Affine) -> None:
    if not encoder.is_fitted:
        return
    faiss.copy_array_to_vector(encoder.A.ravel(), transform.A)
    if encoder.b is not None:
        faiss.copy_array_to_vector(encoder.b, transform.b)
    transform.set_is_orthonormal()
    transform.is_trained = True


def _rotation(transform: Any) -> Rotation:
    if not transform.is_trained:
        return Rotation(transform.d_in)
    A = faiss.vector_to_array(transform.A)
    return Rotation.of(A.reshape(transform.d_out, transform.d_in))


def _numbers(encoder: Encoder) -> tuple[Any, ...]:
    if _is_foreign(encoder):
        return (_foreign.fingerprint(encoder),)
    if not isinstance(encoder, Affine):
        return (type(encoder).__name__,)
    return (
        encoder.A.shape,
        encoder.A.tobytes(),
        None if encoder.b is None else encoder.b.tobytes(),
    )


def _encoder(transform: Any, network: Any = None) -> Encoder:
    """Make the encoder that does what one faiss transform does."""
    if isinstance(transform, faiss.LinearTransform):
        foreign = _foreign.read(transform, network)
        if foreign is not None:
            return foreign
    if isinstance(transform, faiss.OPQMatrix) and transform.d_in == transform.d_out:
        return _rotation(transform)
    return _plain.encoder_of(_described(transform))


def _described(transform: Any) -> Transform:
    """Copy the numbers of a faiss transform."""
    known = transform.d_in, transform.d_out, transform.is_trained
    if isinstance(transform, faiss.LinearTransform):
        A, b = faiss.vector_to_array(transform.A), faiss.vector_to_array(transform.b)
        return Transform("linear", *known, A, transform.have_bias, b)
    if isinstance(transform, faiss.RemapDimensionsTransform):
        return Transform("remapping", *known, faiss.vector_to_array(transform.map))
    if isinstance(transform, faiss.CenteringTransform):
        return Transform("centring", *known, faiss.vector_to_array(transform.mean))
    if isinstance(transform, faiss.NormalizationTransform):
        return Transform("normalizing", *known, np.array([transform.norm], np.float32))
    return Transform(type(transform).__name__, *known, np.empty(0, np.float32))
