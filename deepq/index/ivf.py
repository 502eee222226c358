"""``DeepQuantIVFIndex``: the surface of ``faiss.IndexIVFPQ`` over an encoder, cells and codes.

The object's C++ handle is an ``IndexPreTransform(encoder, IndexIVFPQ)``, as that of `flat`.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from deepq._common.checks import as_flag, as_size
from deepq._common.errors import DimensionError, FormatError, InputError, KindError
from deepq.encoders.base import Encoder
from deepq.encoders.fixed import Identity
from deepq.encoders.plain import as_encoder
from deepq.encoders.rotation import Rotation
from deepq.index.cell_search import CellSearch
from deepq.index.flat import cosine
from deepq.index.native.cells import IndexIVFPQ
from deepq.index.native.coarse import centres_in, make_coarse, trains_alone
from deepq.index.native.originals import downcast_index
from deepq.index.state import empty_copy, make_index, pack, reduced, unpack
from deepq.index.surface import CELLS, surface
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

if TYPE_CHECKING:
    from typing_extensions import Self

    from deepq.objectives.base import Objective


class DeepQuantIVFIndex(CellSearch, surface(IndexIVFPQ, CELLS)):  # type: ignore[misc]
    """A drop-in for ``faiss.IndexIVFPQ``: learned codes in cells, of which a search visits a few.

    ``DeepQuantIVFIndex(quantizer, d, nlist, M, nbits=8, metric=faiss.METRIC_L2)``, as in faiss, or
    without a coarse quantizer ``DeepQuantIVFIndex(d, nlist, M, nbits=8, metric=faiss.METRIC_L2)``.

    Parameters
    ----------
    quantizer : faiss.Index
        Coarse quantizer of the encoder's embeddings: any index that stores vectors, trained or not.
    d : int
        Length of the vectors.
    nlist : int
        Number of cells.
    M, nbits, metric, encoder, objective, training, rerank
        As in `DeepQuantIndex`. The default encoder is a `Rotation`, or, over a coarse quantizer
        that has its centres, none.
    coarse : "kmeans" or "imi"
        The short form's cells: those of k-means, or of the inverted multi-index (Babenko &
        Lempitsky, CVPR 2012): all pairs of 2**b cells of each half, nlist = 2**(2 b).
    by_residual : bool
        Whether codes are of vectors less the centre of their cell.

    Raises
    ------
    InputError
        (ValueError, RuntimeError) If a number is out of range or M does not divide.
    KindError
        (TypeError, AttributeError) If an argument is of the wrong kind.
    """

    def __init__(
        self,
        *args: Any,
        coarse: str = "kmeans",
        encoder: Encoder | None = None,
        by_residual: bool = True,
        objective: Objective | None = None,
        training: TrainConfig | None = None,
        rerank: int = 0,
        **named: Any,
    ) -> None:
        long = bool(args and isinstance(args[0], faiss.Index)) or "quantizer" in named
        names = (
            ("quantizer",) * long
            + ("d", "nlist", "M", "nbits", "metric")
            + ("own_invlists",) * long
        )
        given = _by_name(names, args, named)
        d, nlist, M = (as_size(given[name], name) for name in ("d", "nlist", "M"))
        nbits, metric = (
            as_size(given.get("nbits", 8), "nbits"),
            given.get("metric", faiss.METRIC_L2),
        )
        index = given.get("quantizer")
        if encoder is None:
            has_centres = index is not None and index.is_trained and index.ntotal == nlist
            encoder = Identity(d) if has_centres else Rotation(d)
        else:
            encoder = copy.deepcopy(as_encoder(encoder, d))
        if isinstance(metric, str):
            metric, encoder = cosine(metric, encoder)
        if index is None:
            index = make_coarse(coarse, encoder.d_out, nlist, metric)
        if not isinstance(index, faiss.Index):
            raise KindError(f"expected a faiss index for quantizer, got {type(index).__name__}")
        _require_width(index, encoder.d_out)
        as_flag(given.get("own_invlists", True), "own_invlists")  # lists are there in any case
        self._coarse, self._by_residual = (index, nlist), as_flag(by_residual, "by_residual")
        with self._carrying_once():
            self._assemble(metric, encoder, ProductQuantizer(M, nbits), training)
            self.rerank, self.objective = rerank, objective

    _was_owned: bool = False  # by its Python object: the coarse quantizer that the index ends

    @property
    def quantizer(self) -> Any:
        """The coarse quantizer, as in faiss; that of the codes is `product_quantizer`.

        Setting another raises InputError, or DimensionError, where it does not fit: a trained index
        needs one with a centre for each cell, and codes need the same centres.
        """
        return downcast_index(self._native.pq_index.quantizer)

    @quantizer.setter
    def quantizer(self, value: Any) -> None:
        if not isinstance(value, faiss.Index):
            raise KindError(f"expected a faiss index for coarse, got {type(value).__name__}")
        _require_width(value, self._native.pq_index.d)
        if self.is_trained and not (value.is_trained and value.ntotal == self.nlist):
            raise InputError(
                f"expected a coarse quantizer with {self.nlist} centres, got {value.ntotal}"
            )
        with self._rewriting():
            if self.ntotal and not np.array_equal(
                centres_in(value, self.nlist), self._native.centres
            ):
                raise InputError("expected the same centres for the codes there are, got others")
            inner = self._native.pq_index
            self.own_fields = False
            inner.quantizer, self._coarse = value, (value, self.nlist)
            inner.quantizer_trains_alone = int(trains_alone(value))
            self._native.changed()

    @property
    def own_fields(self) -> bool:
        """Whether the coarse quantizer ends with the index, and not with its Python object."""
        return bool(self._native.pq_index.own_fields)

    @own_fields.setter
    def own_fields(self, value: bool) -> None:
        owns, handle = as_flag(value, "own_fields"), self._coarse[0].this
        if owns:
            self._was_owned = self._was_owned or handle.own()
            handle.disown()
        elif self._was_owned:
            handle.acquire()
            self._was_owned = False
        self._native.pq_index.own_fields = owns

    @property
    def nlist(self) -> int:  # type: ignore[override]
        """Number of cells; read only."""
        return int(self._native.pq_index.nlist)

    @property
    def direct_map(self) -> Any:
        """Faiss's map from ids to places; `set_direct_map_type` chooses one."""
        return self._native.pq_index.direct_map

    @property
    def pq(self) -> Any:
        """Faiss's product quantizer, with the codebooks; codewords that are put there count.

        Setting copies another of the same sizes. Raises StateError if there are codes.
        """
        self._native.watched |= self.is_trained  # settings of a training to come cost nothing
        return self._native.pq_index.pq

    @pq.setter
    def pq(self, value: Any) -> None:
        own = self._native.pq_index.pq
        if not isinstance(value, faiss.ProductQuantizer):
            raise KindError(f"expected a faiss.ProductQuantizer, got {type(value).__name__}")
        sizes, given = [(pq.d, pq.M, pq.nbits) for pq in (own, value)]
        if given != sizes:
            raise InputError(f"expected d, M and nbits of {sizes} in pq, got {given}")
        if int(value.this) == int(own.this):
            return
        with self._rewriting():
            self._require_empty("codebooks are set")
            self._native.pq_index.pq = value
            self._native.changed()
            if self.is_trained:
                self._quantizer.share(self._native.codebooks)

    def __repr__(self) -> str:
        metric = "L2" if self.metric_type == faiss.METRIC_L2 else "inner product"
        return (
            f"{type(self).__name__}(d={self.d}, nlist={self.nlist}, M={self._quantizer.M}, "
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
        return reduced(self, DeepQuantIVFIndex, restore_cells, content)

    def __setstate__(self, state: Any) -> None:
        """Refuse: a pickle of ours is whole without, and faiss would read any bytes here."""
        raise FormatError("expected a pickle of an index, got one that changes an index")


def _require_width(coarse: Any, d: int) -> None:
    if coarse.d != d:
        raise DimensionError(f"expected a coarse quantizer of {d} numbers, got {coarse.d}")


def restore_cells(
    text: str, parts: Sequence[Any], living: Sequence[Any] = (), cls: Any = DeepQuantIVFIndex
) -> DeepQuantIVFIndex:
    """Make the index that a pickle holds, as `restore` does."""
    index: DeepQuantIVFIndex = make_index(unpack(text, parts, living), cls)
    return index


def _by_name(
    names: tuple[str, ...], args: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a constructor by name."""
    if len(args) > len(names):
        raise KindError(f"expected {', '.join(names)}, got {len(args)} arguments")
    given = dict(zip(names, args, strict=False))
    for name, value in named.items():
        if name not in names or name in given:
            raise KindError(f"expected each of {', '.join(names)} once, got {name}")
        given[name] = value
    missing = [
        name
        for name in names[: len(names) - 2]
        if name not in given and name in ("d", "nlist", "M")
    ]
    if missing:
        raise KindError(
            f"expected {', '.join(missing)} as well, got {', '.join(given) or 'nothing'}"
        )
    return given
