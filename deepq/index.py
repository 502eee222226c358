"""``DeepQuantIndex``: the surface of ``faiss.IndexPQ`` over an encoder, a quantizer and codes.

The object's C++ handle is an ``IndexPreTransform(encoder, IndexPQ)`` (`_native`), so faiss's files,
composites and C++ code work on the same codebooks and codes as the methods here. Bottom up:
`_surface` delegates what IndexPQ has besides its array methods, `_store` decodes and edits codes,
and this module trains, adds and searches.
"""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._checks import (
    DimensionError,
    Floats,
    Ids,
    InputError,
    KindError,
    as_k,
    as_output,
    as_real,
    as_search_type,
    as_size,
    as_vectors,
    require_float32,
)
from deepq._store import Store
from deepq._tensors import accepts_tensors
from deepq.encoders import Encoder, Identity, Rotation
from deepq.quantizers import ProductQuantizer
from deepq.state import get_state, make_index
from deepq.trainer import TrainConfig, fit

FLT_MAX = float(np.finfo(np.float32).max)
# Look-ups below which a second thread costs more than it brings.
_LOOKUPS_PER_THREAD = 1 << 22
# The default of pq.cp.niter, which stands for deepq's own default.
_FAISS_ITERATIONS = 25


class DeepQuantIndex(Store):
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
    metric : int
        ``faiss.METRIC_L2`` (squared Euclidean distance, smaller is better) or
        ``faiss.METRIC_INNER_PRODUCT`` (larger is better).
    encoder : Encoder, optional
        Map applied to every vector before it is quantized; by default a `Rotation` that is
        learned together with the codebooks (optimized product quantization, Ge et al. 2014).
    quantizer : ProductQuantizer, optional
        Of M and nbits; one with codebooks makes a trained index, if the encoder is fitted.
    objective : None
        Reserved for supervised training.
    training : TrainConfig, optional
        Settings of `train`. By default the seed in ``pq.cp`` and, where it has been changed, the
        number of iterations there.
    rerank : int
        Reserved for re-ranking with a decoder; 0.

    Attributes
    ----------
    training : TrainConfig or None
        As given; may be set before `train`.
    history : list of dict
        One entry per iteration of the last training: stage, iteration, error.

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
        metric: int = faiss.METRIC_L2,
        *,
        encoder: Encoder | None = None,
        quantizer: ProductQuantizer | None = None,
        objective: None = None,
        training: TrainConfig | None = None,
        rerank: int = 0,
    ) -> None:
        d, M, nbits = as_size(d, "d"), as_size(M, "M"), as_size(nbits, "nbits")
        if objective is not None or rerank != 0:
            raise InputError(f"expected objective=None and rerank=0, got {objective!r}, {rerank!r}")
        encoder = Rotation(d) if encoder is None else copy.deepcopy(encoder)
        quantizer = ProductQuantizer(M, nbits) if quantizer is None else copy.copy(quantizer)
        if not isinstance(encoder, Encoder):
            raise KindError(f"expected an Encoder, got {type(encoder).__name__}")
        if not isinstance(quantizer, ProductQuantizer):
            raise KindError(f"expected a ProductQuantizer, got {type(quantizer).__name__}")
        if encoder.d_in != d:
            raise InputError(f"expected an encoder of {d} inputs, got {encoder.d_in}")
        if (quantizer.M, quantizer.nbits) != (M, nbits):
            got = f"M = {quantizer.M}, nbits = {quantizer.nbits}"
            raise InputError(f"expected a quantizer of M = {M}, nbits = {nbits}, got {got}")
        self._assemble(metric, encoder, quantizer, training)

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
        books = np.asarray(codebooks)
        if books.ndim != 3 or books.shape[1] < 2 or books.shape[1] & (books.shape[1] - 1):
            raise DimensionError(f"expected codebooks (M, 2**nbits, dsub), got shape {books.shape}")
        M, ksub, dsub = books.shape
        encoder = Identity(M * dsub) if encoder is None else encoder
        if not isinstance(encoder, Encoder):
            raise KindError(f"expected an Encoder, got {type(encoder).__name__}")
        index = cls(encoder.d_in, M, ksub.bit_length() - 1, metric, encoder=encoder)
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

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return make_index, (get_state(self), type(self))

    # ---- train and add -----------------------------------------------------------------------

    @accepts_tensors
    def train(self, x: Any, y: Any = None, *, numeric_type: int = 0, xq_train: Any = None) -> None:
        """Learn the encoder and the codebooks; the index must be empty.

        Parameters
        ----------
        x : (n, d) array
            Finite training vectors, at least ksub; other real dtypes are cast to float32.
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
            raise InputError("expected y=None: there is no supervised objective yet, got labels")
        x = as_vectors(x, self.d, finite=True)
        if xq_train is not None:
            as_vectors(xq_train, self.d, "xq_train", finite=True)
        with self._lock.changing():
            self._require_empty("it is trained")
            encoder, quantizer = copy.deepcopy(self._encoder), copy.copy(self._quantizer)
            quantizer.num_threads = faiss.omp_get_max_threads()
            held = self._rows_for_polysemous(len(x))
            history = fit(
                encoder, quantizer, x[: len(x) - held], self._settings(), verbose=bool(self.verbose)
            )
            if quantizer.codebooks is not None:
                self._inject(encoder, quantizer.codebooks)
            if held:
                self._native.optimize_polysemous(encoder.encode(x[len(x) - held :]))
            self.history = history

    def _settings(self) -> TrainConfig:
        """Return this index's own settings, or those of faiss's clustering parameters."""
        if self.training is not None:
            return self.training
        cp = self.pq.cp
        epochs = None if cp.niter == _FAISS_ITERATIONS else as_size(cp.niter, "pq.cp.niter")
        return TrainConfig(seed=cp.seed, epochs=epochs)

    def _rows_for_polysemous(self, n: int) -> int:
        """How many training rows are kept back to reorder codewords, by faiss's rule."""
        if not self.do_polysemous_training:
            return 0
        return int(min(self.polysemous_training.ntrain_permutation, n // 4))

    @accepts_tensors
    def add(self, x: Any, numeric_type: int = 0) -> None:
        """Encode the rows of `x` and append their codes; ids follow on from ntotal.

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

    # ---- search ------------------------------------------------------------------------------

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
        D, I = self._outputs(x, k, D, I)
        mode = self._mode(params)
        with self._lock.reading():
            self._search(x, params, mode, D, I)
        return D, I

    def _outputs(self, x: Floats, k: Any, D: Any, I: Any) -> tuple[Floats, Ids]:
        """Return the arrays that the k results of every query go to."""
        k = as_k(k, len(x), self.ntotal)
        D = as_output(D, (len(x), k), np.float32, "D")
        return D, as_output(I, (len(x), k), np.int64, "I")

    def _search(self, x: Floats, params: Any, mode: int, D: Floats, I: Ids) -> None:
        """Fill D and I; the caller holds the lock."""
        usable, z = self._encode_queries(x)
        if mode == self.ST_PQ and self._quantizer.nbits <= 8:
            self._search_tables(usable, z, D, I)
        else:
            self._search_native(x, params, D, I)
            D[~usable], I[~usable] = self._worst, -1

    def _mode(self, params: Any) -> int:
        """Return the search type of a call, refusing parameters as IndexPQ does, and prepare it."""
        mode = self.search_type if params is None else _search_type(params)
        self._require_trained()
        if mode == self.ST_SDC:
            with self._lock.changing():
                self._native.prepare_symmetric()
        return mode

    @property
    def _worst(self) -> float:
        """The score beside id -1."""
        return -FLT_MAX if self.metric_type == faiss.METRIC_INNER_PRODUCT else FLT_MAX

    def _encode_queries(self, x: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """Which queries are finite, before and after encoding, and their embeddings."""
        usable = np.asarray(np.isfinite(x).all(axis=1))
        with np.errstate(over="ignore", invalid="ignore"):
            z = self.encoder.encode(x if usable.all() else x[usable])
        finite = np.isfinite(z).all(axis=1)
        if not finite.all():
            usable[usable] = finite
            z = z[finite]
        return usable, z

    def _search_tables(self, usable: NDArray[np.bool_], z: Floats, D: Floats, I: Ids) -> None:
        """Scan for the usable queries; pad the other rows, and columns beyond ntotal."""
        k = min(D.shape[1], self.ntotal)
        if len(z) == len(D) and k == D.shape[1]:
            self._scan(z, D, I)
            return
        scores, ids = np.empty((len(z), k), np.float32), np.empty((len(z), k), np.int64)
        self._scan(z, scores, ids)
        D.fill(self._worst)
        I.fill(-1)
        D[usable, :k], I[usable, :k] = scores, ids

    def _scan(self, z: Floats, D: Floats, I: Ids) -> None:
        """Fill D and I, of at most ntotal columns, by deepq's kernels."""
        quantizer = self._quantizer
        lookups = len(z) * self.ntotal * quantizer.M
        _scan.search(
            self._native.codes,
            quantizer.M,
            quantizer.nbits,
            D,
            I,
            queries=z,
            codebooks=quantizer.codebooks,
            inner_product=self.metric_type == faiss.METRIC_INNER_PRODUCT,
            num_threads=min(faiss.omp_get_max_threads(), 1 + lookups // _LOOKUPS_PER_THREAD),
        )

    def _search_native(self, x: Floats, params: Any, D: Floats, I: Ids) -> None:
        """Search as IndexPQ does: symmetric and polysemous modes, codes of more than 8 bits."""
        try:
            self._native.search(x, D.shape[1], params, D, I)
        except RuntimeError as error:
            raise InputError(f"expected a mode that suits this index, got {error}") from error

    @accepts_tensors
    def assign(self, x: Any, k: int, labels: Any = None) -> Ids:
        """Ids (n, k) int64 of the k nearest stored vectors, as `search` finds them."""
        return self.search(x, k, I=labels)[1]

    @accepts_tensors
    def range_search(
        self, x: Any, thresh: float, *, params: Any = None
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
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

        Raises
        ------
        StateError, DimensionError, KindError
            As `search`.
        InputError
            If `thresh` is NaN.
        """
        x = as_vectors(x, self.d)
        thresh = as_real(thresh, "thresh")
        if params is not None and not isinstance(params, faiss.SearchParameters):
            raise KindError(f"expected faiss.SearchParameters, got {type(params).__name__}")
        self._require_trained()
        usable = np.isfinite(x).all(axis=1)
        with self._lock.reading():
            lims, D, I = self._native.range_search(x[usable], thresh, params)
        counts = np.zeros(len(x), np.uint64)
        counts[usable] = np.diff(lims)
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)]), D, I

    @accepts_tensors
    def search_and_reconstruct(
        self, x: Any, k: int, *, params: Any = None, D: Any = None, I: Any = None, R: Any = None
    ) -> tuple[Floats, Ids, Floats]:
        """`search`, and the decoded vectors (n, k, d) float32; NaN where the id is -1."""
        x = as_vectors(x, self.d)
        D, I = self._outputs(x, k, D, I)
        R = as_output(R, (*I.shape, self.d), np.float32, "R")
        mode = self._mode(params)
        with self._lock.reading():
            self._search(x, params, mode, D, I)
            found = self._native.codes[I[I >= 0]]
        R.fill(np.nan)
        R[I >= 0] = self._decode(found, np.empty((len(found), self.d), np.float32))
        return D, I, R


def _search_type(params: Any) -> int:
    """Return the search type in parameters of a call, if they are those that IndexPQ takes."""
    if not isinstance(params, faiss.SearchParameters):
        raise KindError(f"expected faiss.SearchParametersPQ, got {type(params).__name__}")
    if not isinstance(params, faiss.SearchParametersPQ) or params.sel is not None:
        got = type(params).__name__ + (" with a selector" if params.sel is not None else "")
        raise InputError(f"expected faiss.SearchParametersPQ without a selector, got {got}")
    return as_search_type(params.search_type)
