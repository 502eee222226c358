"""Estimators for scikit-learn: codes as features, and neighbours by codes.

It needs scikit-learn, ``pip install 'deepq[sklearn]'``, and is imported by name alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    check_is_fitted,
)
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import validate_data

from deepq._common.arrays import as_whole
from deepq._common.checks import as_flag, as_size
from deepq._common.errors import InputError
from deepq._common.types import Codes, Floats, Ids
from deepq.factory import index_factory
from deepq.training.settings import TrainConfig

__all__ = ["DeepQuantNeighborsTransformer", "DeepQuantizer"]

_METRICS: dict[str, int | str] = {"l2": 1, "ip": 0, "cosine": "cosine"}


class _Quantizing(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What both estimators have: the settings of an index, and its training.

    Attributes
    ----------
    index_ : DeepQuantIndex
        Trained; it stores vectors where neighbours are looked for.
    n_features_in_ : int
    """

    def _fit_index(self, X: Any) -> Floats:
        """Train `index_` on the rows of `X` and return them, float32."""
        nbits, M = as_size(self.nbits, "nbits"), as_size(self.M, "M")
        if self.metric not in _METRICS:
            raise InputError(f"expected a metric of {', '.join(_METRICS)}, got {self.metric!r}")
        least = 1 << min(nbits, 30)
        rows: Floats = validate_data(self, X, dtype=np.float32, ensure_min_samples=least)
        d = rows.shape[1]
        width = -(-d // M) * M
        kind = f"Pad{width}," * (width > d) + f"OPQ{M}," * as_flag(self.rotation, "rotation")
        index: Any = index_factory(d, f"{kind}PQ{M}x{nbits}", _METRICS[self.metric])
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        index.training = replace(self.training or TrainConfig(), seed=seed)
        index.verbose = bool(self.verbose)
        index.train(rows)
        index.verbose = False
        self.index_ = index
        return rows

    def _rows(self, X: Any) -> Floats:
        """Rows of the length that was fitted, float32."""
        check_is_fitted(self)
        rows: Floats = validate_data(self, X, dtype=np.float32, reset=False)
        return rows

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are bytes, distances float32
        return tags


class DeepQuantizer(_Quantizing):
    """Vectors as codes: a transformer of scikit-learn over `DeepQuantIndex`.

    Parameters
    ----------
    M : int
        Number of sub-quantizers. Where it does not divide the number of features, zeros stand
        behind them.
    nbits : int
        Bits of a word; a fit takes at least 2**nbits rows.
    rotation : bool
        Whether a rotation is learned with the codebooks.
    metric : "l2", "ip" or "cosine"
        What neighbours are ranked by.
    training : TrainConfig, optional
        Settings of the training; their seed gives way to `random_state`.
    random_state : int, RandomState or None
        Seed of everything random; None takes another each time.
    verbose : bool
        Whether to show progress bars on stderr.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((500, 16))
    >>> codes = DeepQuantizer(M=4, nbits=4, random_state=0).fit_transform(X)
    >>> codes.shape, codes.dtype
    ((500, 2), dtype('uint8'))
    """

    def __init__(
        self,
        M: int = 8,
        nbits: int = 8,
        *,
        rotation: bool = True,
        metric: str = "l2",
        training: TrainConfig | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.M, self.nbits, self.rotation, self.metric = M, nbits, rotation, metric
        self.training, self.random_state, self.verbose = training, random_state, verbose

    def fit(self, X: Any, y: Any = None) -> DeepQuantizer:  # noqa: ARG002 - scikit-learn's form
        """Learn a rotation and codebooks from the rows of `X` (n, d).

        Raises InputError (ValueError) if there are fewer than 2**nbits, or one is not finite.
        """
        self._fit_index(X)
        self._n_features_out = int(self.index_.code_size)
        return self

    def transform(self, X: Any) -> Codes:
        """Codes (n, code_size) uint8 of the rows of `X` (n, d)."""
        codes: Codes = self.index_.sa_encode(self._rows(X))
        return codes

    def inverse_transform(self, X: Any) -> Floats:
        """Vectors (n, d) float32 that codes (n, code_size), whole numbers from 0 to 255, stand for.

        Raises InputError for other numbers.
        """
        check_is_fitted(self)
        codes = as_whole(check_array(X), "codes")
        if codes.size and not 0 <= codes.min() <= codes.max() <= 255:
            raise InputError(f"expected codes from 0 to 255, got {codes.min()} to {codes.max()}")
        vectors: Floats = self.index_.sa_decode(codes.astype(np.uint8))
        return vectors

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002 - scikit-learn's form
        """Share of the variance of the rows of `X` (n, d) that is in their codes: at most 1."""
        rows = self._rows(X).astype(np.float64)
        lost = np.square(rows - self.inverse_transform(self.transform(X))).sum()
        return float(1 - lost / (np.square(rows - rows.mean(axis=0)).sum() or 1.0))


class DeepQuantNeighborsTransformer(_Quantizing):
    """Neighbours by codes: in place of ``sklearn.neighbors.KNeighborsTransformer``.

    Distances are those of a row to what the codes of the others stand for, so that of a row to
    itself is not 0.

    Parameters
    ----------
    mode : "distance" or "connectivity"
        What `transform` puts into the graph; with "distance" it has one neighbour more, for rows
        that are their own.
    n_neighbors : int
        Neighbours of a row.
    M, nbits, rotation, metric, training, random_state, verbose
        As in `DeepQuantizer`. Distances are Euclidean for "l2", and 1 less the cosine for "cosine";
        inner products, "ip", make no distance, and are refused.
    """

    def __init__(
        self,
        mode: str = "distance",
        n_neighbors: int = 5,
        M: int = 8,
        nbits: int = 8,
        *,
        rotation: bool = True,
        metric: str = "l2",
        training: TrainConfig | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.mode, self.n_neighbors = mode, n_neighbors
        self.M, self.nbits, self.rotation, self.metric = M, nbits, rotation, metric
        self.training, self.random_state, self.verbose = training, random_state, verbose

    def fit(self, X: Any, y: Any = None) -> DeepQuantNeighborsTransformer:  # noqa: ARG002
        """Learn from the rows of `X` (n, d), and store them as codes.

        Raises InputError (ValueError) if there are fewer than 2**nbits, or one is not finite.
        """
        if self.mode not in ("distance", "connectivity"):
            raise InputError(f"expected mode 'distance' or 'connectivity', got {self.mode!r}")
        if self.metric == "ip":
            raise InputError("expected a metric of distances, l2 or cosine, got 'ip'")
        as_size(self.n_neighbors, "n_neighbors")
        self._fit_X = self._fit_index(X)
        self.index_.add(self._fit_X)
        self.n_samples_fit_ = len(self._fit_X)
        self._n_features_out = self.n_samples_fit_
        return self

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """Find the nearest stored rows.

        Parameters
        ----------
        X : (nq, d) array, optional
            What to look for; None for the stored rows, none of which is its own neighbour.
        n_neighbors : int, optional
            How many; `self.n_neighbors` without it.
        return_distance : bool
            Whether to return distances, too.

        Returns
        -------
        distances : (nq, n_neighbors) float32, ascending
        indices : (nq, n_neighbors) int64

        Raises
        ------
        InputError
            If there are not so many others.
        """
        check_is_fitted(self)
        k = as_size(self.n_neighbors if n_neighbors is None else n_neighbors, "n_neighbors")
        rows = self._fit_X if X is None else self._rows(X)
        most = self.n_samples_fit_ - (X is None)
        if k > most:
            raise InputError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, n_samples_fit = "
                f"{self.n_samples_fit_}"
            )
        D, I = self.index_.search(rows, k + (X is None))
        if X is None:
            D, I = _without_themselves(D, I)
        distances = np.sqrt(D) if self.metric == "l2" else 1 - D
        return (distances, I) if return_distance else I

    def kneighbors_graph(
        self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity"
    ) -> csr_matrix:
        """Make the graph (nq, stored rows) of `kneighbors`: distances, or 1 for each neighbour."""
        if mode not in ("distance", "connectivity"):
            raise InputError(f"expected mode 'distance' or 'connectivity', got {mode!r}")
        D, I = self.kneighbors(X, n_neighbors)
        data = D.ravel() if mode == "distance" else np.ones(I.size, np.float32)
        ends = np.arange(0, I.size + 1, I.shape[1])
        return csr_matrix((data, I.ravel(), ends), shape=(len(I), self.n_samples_fit_))

    def transform(self, X: Any) -> csr_matrix:
        """Make the graph (nq, stored rows) of the rows of `X` (nq, d), as `mode` says."""
        check_is_fitted(self)
        k = self.n_neighbors + (self.mode == "distance")
        return self.kneighbors_graph(X, k, self.mode)


def _without_themselves(D: Floats, I: Ids) -> tuple[Floats, Ids]:
    """Leave each row's own number out of its results, or the last where it is not there."""
    own = np.arange(len(I))[:, None] == I
    own[~own.any(axis=1), -1] = True
    shape = (len(I), I.shape[1] - 1)
    return D[~own].reshape(shape), I[~own].reshape(shape)
