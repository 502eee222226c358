"""``DeepQuantIndex``: the surface of ``faiss.IndexPQ`` over an encoder, a quantizer and codes.

The object's C++ handle is an ``IndexPreTransform(encoder, IndexPQ)`` (`native`), so faiss's files,
composites and C++ code work on the same codebooks and codes as the methods here. Two strands are
joined: what is ours (`learned`, `flat_codes`, `flat_search`), and what IndexPQ has besides
(`surface`).
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faiss

from deepq._common.arrays import as_array
from deepq._common.checks import as_size
from deepq._common.errors import DimensionError, FormatError, InputError, KindError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.encoders.chain import for_cosine
from deepq.encoders.fixed import Identity
from deepq.encoders.plain import as_encoder
from deepq.encoders.rotation import Rotation
from deepq.index.flat_search import FlatSearch
from deepq.index.native.fast_scan import explain_conversion
from deepq.index.native.flat import IndexPQ
from deepq.index.state import empty_copy, make_index, pack, reduced, unpack
from deepq.index.surface import FLAT, surface
from deepq.quantizers.binary import kind_of
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from typing_extensions import Self

    from deepq.objectives.base import Objective


class DeepQuantIndex(FlatSearch, surface(IndexPQ, FLAT)):  # type: ignore[misc]
    """A drop-in for ``faiss.IndexPQ`` that learns an encoder together with its codebooks.

    Parameters
    ----------
    d : int
        Length of the vectors.
    M : int
        Number of sub-quantizers; must divide the length of the encoder's embeddings.
    nbits : int
        Bits per sub-quantizer, 1 to 16; above 8, faiss itself searches. A vector takes
        ceil(M * nbits / 8) bytes.
    metric : int or "cosine"
        ``faiss.METRIC_L2`` (squared Euclidean distance, smaller is better) or
        ``faiss.METRIC_INNER_PRODUCT`` (larger is better). "cosine" is the inner product of vectors
        that the encoder scales to unit length first; of a network's embeddings, if it is one.
    encoder : Encoder or torch.nn.Module, optional
        Map applied to every vector before it is quantized; by default a `Rotation` that is
        learned together with the codebooks (optimized product quantization, Ge et al. 2014), or
        with a `BinaryQuantizer` none, ``Identity(d)``. A module is a trained network of rows
        (n, d): `NetworkEncoder` says more about networks, and takes images. Where the encoder takes
        images, all methods take them as (n, C, H, W) arrays, or in the layout it declares, as well
        as flattened.
    quantizer : ProductQuantizer, optional
        Quantizer of M and nbits; one with codebooks makes a trained index, if the encoder is
        fitted. Training replaces them, but not those of a `BinaryQuantizer`, which makes an index
        of binary codes.
    objective : deepq.objectives.Objective, optional
        What the network in the encoder minimises when it is trained with labels; by default
        ``PairwiseCosine()``. See `recipes`.
    training : TrainConfig, optional
        Settings of `train`. By default the seed in ``pq.cp`` and, where it has been changed, the
        number of iterations there.
    rerank : int
        How many of the best vectors of a scan are ranked anew, by distances to what a neural
        decoder makes of their codes; 0 for none. Above 0 training takes longer, with torch, and so
        does adding; a vector takes as many bytes as without. See `deepq.decoders`.

    Attributes
    ----------
    training : TrainConfig or None
        As given; may be set before `train`.
    history : list of dict
        Entries of the last training: see `deepq.training.trainer.Outcome`.

    Raises
    ------
    InputError
        (ValueError, RuntimeError) If a number is out of range or M does not divide.
    KindError
        (TypeError, AttributeError) If an argument is of the wrong kind.

    Examples
    --------
    >>> import numpy as np, deepq
    >>> x = np.random.default_rng(0).standard_normal((1000, 16)).astype("float32")
    >>> index = deepq.DeepQuantIndex(16, 4, 4)
    >>> index.train(x)
    >>> index.add(x)
    >>> D, I = index.search(x[:5], 3)
    >>> D.shape, I.dtype
    ((5, 3), dtype('int64'))
    """

    def __init__(
        self,
        d: int,
        M: int,
        nbits: int = 8,
        metric: int | str = faiss.METRIC_L2,
        *,
        encoder: Encoder | None = None,
        quantizer: ProductQuantizer | None = None,
        objective: Objective | None = None,
        training: TrainConfig | None = None,
        rerank: int = 0,
    ) -> None:
        d, M, nbits = as_size(d, "d"), as_size(M, "M"), as_size(nbits, "nbits")
        quantizer = ProductQuantizer(M, nbits) if quantizer is None else quantizer
        if not isinstance(quantizer, ProductQuantizer):
            raise KindError(f"expected a ProductQuantizer, got {type(quantizer).__name__}")
        quantizer = copy.copy(quantizer)
        if (quantizer.M, quantizer.nbits) != (M, nbits):
            got = f"M = {quantizer.M}, nbits = {quantizer.nbits}"
            raise InputError(f"expected a quantizer of M = {M}, nbits = {nbits}, got {got}")
        if encoder is None:
            encoder = Identity(d) if quantizer.is_frozen else Rotation(d)
        else:
            encoder = copy.deepcopy(as_encoder(encoder, d))
        if isinstance(metric, str):
            metric, encoder = cosine(metric, encoder)
        with self._carrying_once():
            self._assemble(metric, encoder, quantizer, training)
            self.rerank, self.objective = rerank, objective

    @classmethod
    def from_codebooks(
        cls, codebooks: Floats, encoder: Encoder | None = None, metric: int = faiss.METRIC_L2
    ) -> DeepQuantIndex:
        """Make a trained, empty index of given codebooks.

        Parameters
        ----------
        codebooks : (M, ksub, dsub) float32
            ksub a power of two. Those of a `BinaryQuantizer` make an index with one.
        encoder : Encoder, optional
            A fitted one with d_out = M * dsub; by default none, d = M * dsub.
        metric : int
            As in the constructor.

        Raises
        ------
        DimensionError, InputError
            If the shapes do not fit or the numbers are not finite.
        """
        books = as_array(codebooks, "codebooks")
        if books.ndim != 3 or books.shape[1] < 2 or books.shape[1] & (books.shape[1] - 1):
            raise DimensionError(f"expected codebooks (M, 2**nbits, dsub), got shape {books.shape}")
        M, ksub, dsub = books.shape
        encoder = Identity(M * dsub) if encoder is None else encoder
        if not isinstance(encoder, Encoder):
            raise KindError(f"expected an Encoder, got {type(encoder).__name__}")
        nbits = ksub.bit_length() - 1
        quantizer = kind_of(books)(M, nbits)
        index = cls(encoder.d_in, M, nbits, metric, encoder=encoder, quantizer=quantizer)
        index.codebooks = books
        return index

    def __repr__(self) -> str:
        metric = "L2" if self.metric_type == faiss.METRIC_L2 else "inner product"
        return (
            f"{type(self).__name__}(d={self.d}, M={self._quantizer.M}, "
            f"nbits={self._quantizer.nbits}, metric={metric}, "
            f"encoder={type(self._encoder).__name__}, is_trained={self.is_trained}, "
            f"ntotal={self.ntotal})"
        )

    def copy_empty(self) -> Self:
        """Copy without vectors: the same training, `fingerprint` and settings.

        What is trained once can so be filled in several places, and merged: see `merge_from`.
        """
        return empty_copy(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        content = pack(self, operator.index(protocol))
        return reduced(self, DeepQuantIndex, restore, content)

    def __setstate__(self, state: Any) -> None:
        """Refuse: a pickle of ours is whole without, and faiss would read any bytes here."""
        raise FormatError("expected a pickle of an index, got one that changes an index")


explain_conversion(DeepQuantIndex)


def restore(
    text: str, parts: Sequence[Any], living: Sequence[Any] = (), cls: Any = DeepQuantIndex
) -> DeepQuantIndex:
    """Make the index that a pickle holds: the only function that one of ours calls."""
    index: DeepQuantIndex = make_index(unpack(text, parts, living), cls)
    return index


def cosine(name: str, encoder: Encoder) -> tuple[int, Encoder]:
    """Return the metric and encoder that give the cosine of vectors."""
    if name != "cosine":
        raise InputError(f'expected a metric of faiss, or "cosine", got {name!r}')
    return faiss.METRIC_INNER_PRODUCT, for_cosine(encoder)
