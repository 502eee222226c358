"""``DeepQuantIndex``: the surface of ``faiss.IndexPQ`` over an encoder, a quantizer and codes.

The object's C++ handle is an ``IndexPreTransform(encoder, IndexPQ)`` (see `_native`), so faiss's
files, composites and C++ code work on the same codebooks and codes as the methods here. Methods
that take arrays are overridden here: they check their arguments first, scan with `_scan`, and
decode with the encoder. Whatever else IndexPQ has is delegated in `_surface`.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, ClassVar

import faiss
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from deepq import _scan
from deepq._checks import (
    DimensionError,
    InputError,
    KindError,
    StateError,
    as_codes,
    as_ids,
    as_integer,
    as_k,
    as_output,
    as_size,
    as_vectors,
    require_float32,
)
from deepq._native import Native
from deepq._surface import Surface
from deepq._tensors import accepts_tensors
from deepq._threads import SharedLock
from deepq.encoders import Encoder, Identity, Rotation
from deepq.quantizers import ProductQuantizer
from deepq.trainer import TrainConfig, fit

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Codes = NDArray[np.uint8]

FLT_MAX = float(np.finfo(np.float32).max)
_ADD_BLOCK = 1 << 16
# Look-ups below which a second thread costs more than it brings.
_LOOKUPS_PER_THREAD = 1 << 22

_DECLARED = ("this", "referenced_objects", "_native", "_encoder", "_quantizer", "_lock")

_log = logging.getLogger(__name__)


class DeepQuantIndex(Surface):
    """A drop-in for ``faiss.IndexPQ`` that learns an encoder together with its codebooks.

    Parameters
    ----------
    d : int
        Length of the vectors.
    M : int
        Number of sub-quantizers; must divide the length of the encoder's embeddings.
    nbits : int
        Bits per sub-quantizer, 1 to 16 (up to 8 are scanned by deepq's kernels). A vector takes
        ceil(M * nbits / 8) bytes.
    metric : int
        ``faiss.METRIC_L2`` (squared Euclidean distance, smaller is better) or
        ``faiss.METRIC_INNER_PRODUCT`` (larger is better).
    encoder : Encoder, optional
        Map applied to every vector before it is quantized; by default a `Rotation` that is
        learned together with the codebooks (optimized product quantization, Ge et al. 2014).
    quantizer : ProductQuantizer, optional
        Takes M and nbits; given codebooks, it needs no training where the encoder needs none.
    objective : None
        Reserved for supervised training.
    training : TrainConfig, optional
        Settings of `train`. By default the iterations and seed in ``pq.cp``, as in faiss.
    rerank : int
        Reserved for re-ranking with a decoder; 0.

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

    # Declared here because assigning to an undeclared attribute raises, as in faiss.
    training: TrainConfig | None = None
    history: ClassVar[list[dict[str, Any]]] = []
    objective: Any = None
    rerank: int = 0
    _encoder: Encoder
    _quantizer: ProductQuantizer
    _lock: SharedLock

    def __init__(
        self,
        d: int,
        M: int,
        nbits: int = 8,
        metric: int = faiss.METRIC_L2,
        *,
        encoder: Encoder | None = None,
        quantizer: ProductQuantizer | None = None,
        objective: None = None,
        training: TrainConfig | None = None,
        rerank: int = 0,
    ) -> None:
        d, M, nbits = as_size(d, "d"), as_size(M, "M"), as_size(nbits, "nbits")
        if metric not in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT):
            raise InputError(f"expected metric METRIC_L2 (1) or METRIC_INNER_PRODUCT (0), got {metric}")
        if objective is not None or rerank != 0:
            raise InputError(f"expected objective=None and rerank=0, got {objective!r} and {rerank!r}")
        if training is not None and not isinstance(training, TrainConfig):
            raise KindError(f"expected training to be a TrainConfig, got {type(training).__name__}")
        quantizer = ProductQuantizer(M, nbits) if quantizer is None else copy.copy(quantizer)
        if (quantizer.M, quantizer.nbits) != (M, nbits):
            raise InputError(
                f"expected a quantizer of M = {M} and nbits = {nbits}, "
                f"got {quantizer.M} and {quantizer.nbits}"
            )
        encoder = Rotation(d) if encoder is None else copy.deepcopy(encoder)
        if not isinstance(encoder, Encoder):
            raise KindError(f"expected an Encoder, got {type(encoder).__name__}")
        if encoder.d_in != d:
            raise InputError(f"expected an encoder of {d} inputs, got {encoder.d_in}")
        if encoder.d_out % M:
            raise InputError(f"expected M to divide the embedding's {encoder.d_out} numbers, got {M}")
        self._hold(Native.build(encoder, M, nbits, metric), encoder, quantizer)
        self.training = training
        if quantizer.codebooks is not None and encoder.is_fitted:
            self._inject(encoder, quantizer.codebooks)

    @classmethod
    def from_codebooks(
        cls, codebooks: Floats, encoder: Encoder | None = None, metric: int = faiss.METRIC_L2
    ) -> DeepQuantIndex:
        """Make a trained, empty index of given codebooks.

        Parameters
        ----------
        codebooks : (M, ksub, dsub) float32
            ksub a power of two.
        encoder : Encoder, optional
            A fitted one with d_out = M * dsub; by default none, d = M * dsub.
        metric : int
            As in the constructor.

        Raises
        ------
        DimensionError, InputError
            If the shapes do not fit or the numbers are not finite.
        """
        books = np.asarray(codebooks, dtype=np.float32)
        if books.ndim != 3 or books.shape[1] < 2 or books.shape[1] & (books.shape[1] - 1):
            raise DimensionError(f"expected codebooks (M, 2**nbits, dsub), got shape {books.shape}")
        M, ksub, dsub = books.shape
        encoder = Identity(M * dsub) if encoder is None else encoder
        index = cls(encoder.d_in, M, ksub.bit_length() - 1, metric, encoder=encoder)
        index.codebooks = books
        return index

    def _hold(self, native: Native, encoder: Encoder, quantizer: ProductQuantizer) -> None:
        """Put the parts in place; the C++ object becomes this object's handle."""
        object.__setattr__(self, "this", native.chain.this)
        self._native, self._encoder, self._quantizer = native, encoder, quantizer
        self._lock, self.history = SharedLock(), []

    def __setattr__(self, name: str, value: Any) -> None:
        if not (hasattr(type(self), name) or name in _DECLARED):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        metric = "L2" if self.metric_type == faiss.METRIC_L2 else "inner product"
        return (
            f"{type(self).__name__}(d={self.d}, M={self._quantizer.M}, nbits={self._quantizer.nbits}, "
            f"metric={metric}, encoder={type(self._encoder).__name__}, "
            f"is_trained={self.is_trained}, ntotal={self.ntotal})"
        )

    # ---- parts -------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """The encoder; read only."""
        self._follow_native()
        return self._encoder

    @property
    def quantizer(self) -> ProductQuantizer:
        """The quantizer, its codebooks a view of those in the C++ object; read only."""
        self._follow_native()
        return self._quantizer

    @property
    def codebooks(self) -> Floats | None:
        """Codewords (M, ksub, dsub) float32, None before training.

        Setting copies the numbers and completes the training: a `Rotation` not learned yet stays
        the identity. Raises StateError if there are codes, which would lose their meaning,
        DimensionError for another shape and InputError for NaN or infinity.
        """
        return self.quantizer.codebooks

    @codebooks.setter
    def codebooks(self, value: Floats) -> None:
        checked = ProductQuantizer(self._quantizer.M, self._quantizer.nbits)
        checked.codebooks = value
        if checked.codebooks is None or checked.dsub != self.pq.dsub:
            raise DimensionError(f"expected codewords of {self.pq.dsub} numbers, got {np.shape(value)}")
        with self._lock.changing():
            self._require_empty("codebooks can be set")
            encoder = self._encoder
            if not encoder.is_fitted:
                encoder = copy.deepcopy(encoder)
                encoder.settle()
            self._inject(encoder, checked.codebooks)

    def _inject(self, encoder: Encoder, codebooks: Floats) -> None:
        """Make this the trained encoder and codebooks, here and in the C++ object."""
        with self._lock.exclusive():
            self._native.write_encoder(encoder)
            self._native.codebooks[...] = codebooks
            self._native.set_trained()
            self._encoder = encoder
            self._quantizer.share(self._native.codebooks)

    def _follow_native(self) -> None:
        """Take over what C++ code has trained (a composite around this index)."""
        if self.is_trained and not (self._encoder.is_fitted and self._quantizer.is_trained):
            self._encoder = self._native.read_encoder()
            self._quantizer.share(self._native.codebooks)

    # ---- train, add, search ------------------------------------------------------------------

    @accepts_tensors
    def train(self, x: Any, y: Any = None, *, numeric_type: int = 0, xq_train: Any = None) -> None:
        """Learn the encoder and the codebooks; the index must be empty.

        Parameters
        ----------
        x : (n, d) array
            Training vectors, finite, at least ksub; other real dtypes are cast to float32.
        y : None
            Labels; there is no supervised objective yet.
        numeric_type : int
            faiss.Float32.
        xq_train : (nq, d) array, optional
            Sample of queries; checked, and ignored as by IndexPQ.

        Raises
        ------
        InputError
            If there are too few rows, NaN or infinity, labels, or another numeric type.
        StateError
            If the index holds codes.
        DimensionError, KindError
            If `x` is not an (n, d) array of real numbers. The index is unchanged by any failure.
        """
        require_float32(numeric_type)
        if y is not None:
            raise InputError("expected y=None: there is no objective that learns from labels yet")
        x = as_vectors(x, self.d, finite=True)
        if xq_train is not None:
            as_vectors(xq_train, self.d, "xq_train", finite=True)
        with self._lock.changing():
            self._require_empty("train can be called")
            encoder, quantizer = copy.deepcopy(self._encoder), copy.copy(self._quantizer)
            quantizer.num_threads = faiss.omp_get_max_threads()
            held = self._rows_for_polysemous(len(x)) if self.do_polysemous_training else 0
            history = fit(encoder, quantizer, x[: len(x) - held], self._settings(), verbose=self.verbose)
            self._inject(encoder, quantizer.codebooks)
            if held:
                self._native.optimize_polysemous(encoder.encode(x[len(x) - held :]))
            if self.search_type == self.ST_SDC:
                self._native.prepare_symmetric()
            self.history = history

    def _settings(self) -> TrainConfig:
        """Return the training settings: this index's own, or those of faiss's clustering parameters."""
        if self.training is not None:
            return self.training
        cp = self.pq.cp
        return TrainConfig(seed=cp.seed, epochs=cp.niter)

    def _rows_for_polysemous(self, n: int) -> int:
        """Rows that faiss keeps back for the reordering of codewords."""
        return int(min(self.polysemous_training.ntrain_permutation, n // 4))

    @accepts_tensors
    def add(self, x: Any, numeric_type: int = 0) -> None:
        """Encode the rows of x and append their codes; ids follow on from ntotal.

        Parameters
        ----------
        x : (n, d) array
            Finite vectors.
        numeric_type : int
            faiss.Float32.

        Raises
        ------
        StateError
            If the index is not trained.
        InputError
            If there is a NaN or an infinity. Nothing is added by a call that fails.
        DimensionError, KindError
            If `x` is not an (n, d) array of real numbers.
        """
        require_float32(numeric_type)
        x = as_vectors(x, self.d, finite=True)
        with self._lock.changing():
            codes = self._encode(x, progress=bool(self.verbose))
            with self._lock.exclusive():
                self._native.append(codes)

    def _encode(self, x: Floats, *, progress: bool = False) -> Codes:
        self._require_trained()
        encoder, quantizer = self.encoder, copy.copy(self.quantizer)
        quantizer.num_threads = faiss.omp_get_max_threads()
        codes = np.empty((len(x), quantizer.code_size), np.uint8)
        starts = range(0, len(x), _ADD_BLOCK)
        for i in tqdm(starts, desc="encode", unit="block", disable=not progress):
            codes[i : i + _ADD_BLOCK] = quantizer.encode(encoder.encode(x[i : i + _ADD_BLOCK]))
        return codes

    @accepts_tensors
    def search(
        self,
        x: Any,
        k: int,
        *,
        params: Any = None,
        D: Any = None,
        I: Any = None,
        numeric_type: int = 0,
    ) -> tuple[Floats, Ids]:
        """Find the k nearest stored vectors of every query.

        Parameters
        ----------
        x : (n, d) array
            Queries.
        k : int
            Neighbours per query.
        params : faiss.SearchParametersPQ, optional
            search_type and polysemous_ht of this call; modes other than ST_PQ are faiss's own.
        D, I : (n, k) arrays of float32 and int64, optional
            Where results go.
        numeric_type : int
            faiss.Float32.

        Returns
        -------
        D : (n, k) float32
            Scores, best first: squared L2 distances to, or inner products with, the decoded
            vectors. Where there is no k-th vector, or the query is not finite, +FLT_MAX for L2
            and -FLT_MAX for inner product.
        I : (n, k) int64
            Ids; equal scores in ascending order of id; -1 where there is none.

        Raises
        ------
        StateError
            If the index is not trained.
        DimensionError, KindError
            If `x`, `k`, `D` or `I` has the wrong shape or kind.
        InputError
            If `params` has a selector, or another numeric type is asked for.
        """
        require_float32(numeric_type)
        x = as_vectors(x, self.d)
        k = as_k(k, len(x), self.ntotal)
        D = as_output(D, (len(x), k), np.float32, "D")
        I = as_output(I, (len(x), k), np.int64, "I")
        self._require_trained()
        with self._lock.reading():
            if self._mode(params) != self.ST_PQ or self._quantizer.nbits > 8:
                self._search_native(x, k, params, D, I)
            else:
                self._scan(x, min(k, max(self.ntotal, 1)), D, I)
        return D, I

    def _mode(self, params: Any) -> int:
        """Return the search type of a call. Raises InputError where IndexPQ refuses the parameters."""
        if params is None:
            return int(self.search_type)
        if not isinstance(params, faiss.SearchParametersPQ) or params.sel is not None:
            raise InputError(
                "expected params to be faiss.SearchParametersPQ without a selector, "
                f"got {type(params).__name__}"
            )
        return int(params.search_type)

    def _scan(self, x: Floats, k: int, D: Floats, I: Ids) -> None:
        """Search by look-up tables, exactly, and pad what is beyond k or not finite."""
        z = self.encoder.encode(x)
        finite = np.isfinite(z).all(axis=1)
        whole = bool(finite.all()) and k == D.shape[1]
        queries = z if whole else z[finite]
        found = (D, I) if whole else (np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64))
        maximize = self.metric_type == faiss.METRIC_INNER_PRODUCT
        quantizer = self._quantizer
        lookups = len(queries) * self.ntotal * quantizer.M
        _scan.search(
            self._native.codes,
            quantizer.M,
            quantizer.nbits,
            *found,
            queries=queries,
            codebooks=quantizer.codebooks,
            inner_product=maximize,
            num_threads=min(faiss.omp_get_max_threads(), 1 + lookups // _LOOKUPS_PER_THREAD),
        )
        if not whole:
            D.fill(-FLT_MAX if maximize else FLT_MAX)
            I.fill(-1)
            D[finite, :k], I[finite, :k] = found

    def _search_native(self, x: Floats, k: int, params: Any, D: Floats, I: Ids) -> None:
        """Search as IndexPQ does: symmetric and polysemous modes, codes of more than 8 bits."""
        if self._mode(params) == self.ST_SDC:
            self._native.prepare_symmetric()
        self._native.chain.search(x, k, params=params, D=D, I=I)
        unusable = ~np.isfinite(x).all(axis=1)
        if unusable.any():
            D[unusable] = -FLT_MAX if self.metric_type == faiss.METRIC_INNER_PRODUCT else FLT_MAX
            I[unusable] = -1

    @accepts_tensors
    def assign(self, x: Any, k: int, labels: Any = None) -> Ids:
        """Ids (n, k) int64 of the k nearest stored vectors, as `search` finds them."""
        return self.search(x, k, I=labels)[1]

    @accepts_tensors
    def range_search(self, x: Any, thresh: float, *, params: Any = None) -> tuple[Any, Any, Any]:
        """Find all stored vectors that score better than `thresh`, by faiss's own scan.

        Parameters
        ----------
        x : (n, d) array
            Queries; one that is not finite finds nothing.
        thresh : float
            Squared L2 distance below which, or inner product above which, a vector is returned.
        params : faiss.SearchParameters, optional
            Its selector restricts the ids.

        Returns
        -------
        lims : (n + 1,) uint64; D : (lims[n],) float32; I : (lims[n],) int64
            The results of query i are D[lims[i]:lims[i + 1]], in no particular order.
        """
        x = as_vectors(x, self.d)
        self._require_trained()
        with self._lock.reading():
            lims, D, I = self._native.chain.range_search(x, thresh, params=params)
        return lims, D, I

    @accepts_tensors
    def search_and_reconstruct(
        self, x: Any, k: int, *, params: Any = None, D: Any = None, I: Any = None, R: Any = None
    ) -> tuple[Floats, Ids, Floats]:
        """`search`, and the decoded vectors (n, k, d) float32; NaN where the id is -1."""
        x = as_vectors(x, self.d)
        R = as_output(R, (len(x), as_k(k, len(x), self.ntotal), self.d), np.float32, "R")
        D, I = self.search(x, k, params=params, D=D, I=I)
        R.fill(np.nan)
        R[I >= 0] = self.reconstruct_batch(I[I >= 0])
        return D, I, R

    # ---- decoding and codes ------------------------------------------------------------------

    @accepts_tensors
    def reconstruct(self, key: int, x: Any = None) -> Floats:
        """Decode stored vector `key` into (d,) float32. Raises InputError outside 0 .. ntotal - 1."""
        out = as_output(x, (self.d,), np.float32, "x")
        self.reconstruct_batch(np.array([as_integer(key, "key")]), out[None])
        return out

    @accepts_tensors
    def reconstruct_batch(self, key: Any, x: Any = None) -> Floats:
        """Decode the stored vectors of ids `key` (n,) into (n, d) float32."""
        with self._lock.reading():
            keys = as_ids(key, self.ntotal, "key")
            out = as_output(x, (len(keys), self.d), np.float32, "x")
            return self._decode(self._native.codes[keys], out)

    @accepts_tensors
    def reconstruct_n(self, n0: int = 0, ni: int = -1, x: Any = None) -> Floats:
        """Decode the `ni` stored vectors from `n0` on (-1: all that follow) into (ni, d) float32."""
        ni = self.ntotal - n0 if ni == -1 else ni
        return self.reconstruct_batch(np.arange(n0, n0 + ni), x)

    @accepts_tensors
    def sa_encode(self, x: Any, codes: Any = None) -> Codes:
        """Codes (n, code_size) uint8 that `add` would store for finite vectors x (n, d)."""
        x = as_vectors(x, self.d, finite=True)
        out: Codes = as_output(codes, (len(x), self.code_size), np.uint8, "codes")
        with self._lock.reading():
            out[...] = self._encode(x)
        return out

    @accepts_tensors
    def sa_decode(self, codes: Any, x: Any = None) -> Floats:
        """Decoded vectors (n, d) float32 of packed codes (n, code_size) uint8."""
        codes = as_codes(codes, self.code_size)
        return self._decode(codes, as_output(x, (len(codes), self.d), np.float32, "x"))

    def _decode(self, codes: Codes, out: Floats) -> Floats:
        self._require_trained()
        for i in range(0, len(codes), _ADD_BLOCK):
            z = self.quantizer.decode(codes[i : i + _ADD_BLOCK])
            out[i : i + _ADD_BLOCK] = self.encoder.decode(z)
        return out

    @accepts_tensors
    def add_sa_codes(self, codes: Any, ids: Any = None) -> None:
        """Append packed codes (n, code_size) uint8; `ids` must be None, as for IndexPQ."""
        if ids is not None:
            raise InputError("expected ids=None: this index numbers its vectors itself")
        codes = as_codes(codes, self.code_size)
        self._require_trained()
        with self._lock.changing(), self._lock.exclusive():
            self._native.append(codes)

    def add_with_ids(self, x: Any, ids: Any, numeric_type: int = 0) -> None:
        """Not supported, as in IndexPQ: raises StateError (RuntimeError). Use faiss.IndexIDMap2."""
        raise StateError(
            f"expected add(x) on {type(self).__name__}, got ids: wrap it in faiss.IndexIDMap2 for them"
        )

    # ---- changing what is stored -------------------------------------------------------------

    def reset(self) -> None:
        """Remove all vectors; the training stays."""
        with self._lock.changing(), self._lock.exclusive():
            self._native.chain.reset()

    @accepts_tensors
    def remove_ids(self, x: Any) -> int:
        """Remove vectors by id and close the gaps: later ids move down.

        Parameters
        ----------
        x : (n,) array of integers, or faiss.IDSelector
            Ids to remove; those that are not stored are passed over.

        Returns
        -------
        int
            How many were removed.
        """
        if not isinstance(x, faiss.IDSelector):
            if not isinstance(x, np.ndarray):
                raise KindError(f"expected an id array or a faiss.IDSelector, got {type(x).__name__}")
            if x.ndim != 1:
                raise DimensionError(f"expected ids of shape (n,), got {x.shape}")
            if x.dtype.kind not in "iu":
                raise KindError(f"expected integer ids, got dtype {x.dtype}")
        with self._lock.changing(), self._lock.exclusive():
            return int(self._native.chain.remove_ids(x))

    @accepts_tensors
    def permute_entries(self, perm: Any) -> None:
        """Reorder the stored vectors: position i then holds what was at perm[i].

        Raises InputError if `perm` (ntotal,) is not a permutation of 0 .. ntotal - 1.
        """
        with self._lock.changing():
            perm = as_ids(perm, self.ntotal, "perm")
            if len(perm) != self.ntotal:
                raise DimensionError(f"expected perm of shape ({self.ntotal},), got {perm.shape}")
            if len(np.unique(perm)) != self.ntotal:
                raise InputError("expected a permutation, got an id twice")
            with self._lock.exclusive():
                self._native.pq_index.permute_entries(perm)

    def check_compatible_for_merge(self, otherIndex: Any) -> None:
        """Raise InputError unless `otherIndex` has the same training and may be merged into this."""
        if otherIndex is self:
            raise InputError("expected another index to merge, got the same one")
        if not isinstance(otherIndex, DeepQuantIndex):
            raise InputError(
                f"expected a {DeepQuantIndex.__name__} to merge (see deepq.from_faiss), "
                f"got {type(otherIndex).__name__}"
            )
        if not (self.is_trained and otherIndex.is_trained):
            raise InputError("expected two trained indexes to merge")
        mine, other = (self._native.fingerprint(), otherIndex._native.fingerprint())
        if mine != other:
            raise InputError("expected an index with the same encoder and codebooks to merge")

    def merge_from(self, otherIndex: Any, add_id: int = 0) -> None:
        """Append the codes of an index with the same encoder and codebooks, and empty that.

        Raises InputError if the two differ in anything but their codes, or `add_id` is not 0.
        """
        if add_id != 0:
            raise InputError(f"expected add_id = 0: ids are positions here, got {add_id}")
        self.check_compatible_for_merge(otherIndex)
        first, second = sorted((self._lock, otherIndex._lock), key=id)
        with first.changing(), second.changing(), first.exclusive(), second.exclusive():
            self._native.append(otherIndex._native.codes)
            otherIndex._native.chain.reset()

    # ---- copies ------------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        from deepq.state import get_state, make_index

        return make_index, (get_state(self), type(self))

    # ---- checks ------------------------------------------------------------------------------

    def _require_trained(self) -> None:
        if not self.is_trained:
            raise StateError("expected a trained index, got one before train()")

    def _require_empty(self, what: str) -> None:
        if self.ntotal:
            raise StateError(
                f"expected an empty index before {what}, got {self.ntotal} codes, which would lose "
                "their meaning: reset() it first"
            )

