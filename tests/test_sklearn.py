"""scikit-learn's own checks, and what its users do with the estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import deepq
from deepq.sklearn import DeepQuantizer, DeepQuantNeighborsTransformer

QUICK = deepq.TrainConfig(epochs=2, ranking=False)
ESTIMATORS = [
    DeepQuantizer(M=2, nbits=2, training=QUICK, random_state=0),
    DeepQuantNeighborsTransformer(n_neighbors=2, M=2, nbits=2, training=QUICK, random_state=0),
]


@parametrize_with_checks(ESTIMATORS)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def blobs(n=900, classes=3, d=12):
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    return (6 * rng.standard_normal((classes, d))[y] + rng.standard_normal((n, d))), y


X, Y = blobs()


class TestDeepQuantizer:
    def test_there_and_back(self):
        codec = DeepQuantizer(M=4, nbits=4, random_state=3).fit(X)
        codes = codec.transform(X)
        assert (codes.shape, codes.dtype) == ((900, 2), np.uint8)
        back = codec.inverse_transform(codes)
        lost = np.square(X - back).sum() / np.square(X - X.mean(axis=0)).sum()
        np.testing.assert_allclose(codec.score(X), 1 - lost, rtol=1e-5)
        assert codec.score(X) > 0.9
        np.testing.assert_array_equal(codec.inverse_transform(codes.astype(float)), back)
        assert list(codec.get_feature_names_out()) == ["deepquantizer0", "deepquantizer1"]
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(codec)).transform(X), codes)

    def test_it_is_the_index(self):
        codec = DeepQuantizer(M=4, nbits=4, training=QUICK, random_state=3).fit(X)
        again = clone(codec).fit(X)
        np.testing.assert_array_equal(again.index_.codebooks, codec.index_.codebooks)
        assert isinstance(codec.index_, deepq.DeepQuantIndex)

    def test_features_that_are_no_multiple(self):
        codec = DeepQuantizer(M=5, nbits=4, training=QUICK).fit(X)
        assert codec.inverse_transform(codec.transform(X)).shape == X.shape

    def test_a_pipeline_and_a_search_of_settings(self):
        made = make_pipeline(StandardScaler(), DeepQuantizer(nbits=4, training=QUICK))
        found = GridSearchCV(made, {"deepquantizer__M": [1, 6]}, cv=2).fit(X)
        assert found.best_params_ == {"deepquantizer__M": 6}
        assert found.transform(X).shape == (900, 3)

    @pytest.mark.parametrize("codes", [[[300, 1]], [[-1, 1]], [[0.5, 1]]])
    def test_other_codes(self, codes):
        codec = DeepQuantizer(M=4, nbits=4, training=QUICK).fit(X)
        with pytest.raises(ValueError, match="expected"):
            codec.inverse_transform(codes)

    @pytest.mark.parametrize(
        "settings", [{"M": 0}, {"nbits": 0}, {"metric": "l1"}, {"rotation": 3}, {"nbits": 12}]
    )
    def test_other_settings(self, settings):
        with pytest.raises((ValueError, TypeError), match=r"expected|minimum of 4096"):
            DeepQuantizer(**settings).fit(X)


@pytest.fixture(scope="module")
def found():
    return DeepQuantNeighborsTransformer(n_neighbors=5, M=6, nbits=8, random_state=0).fit(X)


class TestNeighbours:
    def test_shapes_and_order(self, found):
        D, I = found.kneighbors(X[:9])
        assert (D.shape, I.shape) == ((9, 5), (9, 5))
        assert (np.diff(D, axis=1) >= 0).all()
        np.testing.assert_array_equal(found.kneighbors(X[:9], return_distance=False), I)
        assert (Y[I] == Y[:9, None]).all()
        decoded = found.index_.reconstruct_batch(I.ravel()).reshape(9, 5, 12)
        right = np.linalg.norm(decoded - X[:9, None], axis=2)
        np.testing.assert_allclose(D, right, rtol=1e-3)

    def test_no_row_is_its_own_neighbour(self, found):
        I = found.kneighbors(return_distance=False)
        assert I.shape == (900, 5)
        assert not (np.arange(900)[:, None] == I).any()

    @pytest.mark.parametrize("mode", ["distance", "connectivity"])
    def test_graphs_have_the_form_of_scikit_learns(self, mode):
        ours = DeepQuantNeighborsTransformer(mode, 4, M=6, nbits=4, training=QUICK)
        its = KNeighborsTransformer(mode=mode, n_neighbors=4)
        a, b = ours.fit_transform(X), its.fit_transform(X)
        assert (a.shape, a.nnz, a.format) == (b.shape, b.nnz, b.format)
        np.testing.assert_array_equal(a.indptr, b.indptr)
        assert list(ours.get_feature_names_out())[-1] == "deepquantneighborstransformer899"

    def test_what_takes_such_graphs(self):
        ours = DeepQuantNeighborsTransformer(n_neighbors=20, M=6, nbits=8, random_state=0)
        classes = make_pipeline(ours, KNeighborsClassifier(metric="precomputed")).fit(X, Y)
        assert classes.score(X, Y) == 1
        clusters = make_pipeline(ours, DBSCAN(eps=6, metric="precomputed")).fit_predict(X)
        for number in range(3):
            assert np.mean(clusters[number == Y] == np.median(clusters[number == Y])) > 0.9

    def test_cosines(self):
        ours = DeepQuantNeighborsTransformer(M=6, nbits=4, metric="cosine", training=QUICK).fit(X)
        D, _ = ours.kneighbors(X[:5])
        assert (np.diff(D, axis=1) >= 0).all()
        assert (D > -0.2).all()

    @pytest.mark.parametrize("settings", [{"mode": "x"}, {"metric": "ip"}, {"n_neighbors": 0}])
    def test_other_settings(self, settings):
        with pytest.raises(ValueError, match="expected"):
            DeepQuantNeighborsTransformer(**settings).fit(X)

    def test_more_neighbours_than_rows(self, found):
        with pytest.raises(ValueError, match="n_neighbors <= n_samples_fit"):
            found.kneighbors(X[:2], 901)
        with pytest.raises(ValueError, match="mode 'distance' or 'connectivity'"):
            found.kneighbors_graph(X[:2], mode="x")
