"""An index of binary codes: Hamming distances, training, copies, faiss's binary index."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import deepq
from deepq import NetworkEncoder, objectives
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq.encoders import Affine, Chain, Encoder, Identity, Rotation, Sign
from deepq.index.state import live_state, make_index
from deepq.networks import MLP, Bottleneck, Embedding
from deepq.quantizers import METRIC_INNER_PRODUCT, BinaryQuantizer, ProductQuantizer
from deepq.quantizers.binary import kind_of
from tests.quantizers.bits import D, M, bare, each_nbits, packed, signs

BITS = 8 * M
RNG = np.random.default_rng(0)
A = RNG.standard_normal((BITS, D)).astype(np.float32)
X, Q = (RNG.standard_normal((n, D)).astype(np.float32) for n in (300, 20))


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the numbers (len(a), len(b)) of rows of +-1 that differ."""
    return (a[:, None] != b[None]).sum(axis=2)


def planes(**options: Any) -> Any:
    """Make an index of the sides of random hyperplanes that vectors lie on."""
    return bare(M, encoder=Chain([Affine(A), Sign(BITS)]), **options)


def filled() -> Any:
    index = planes()
    index.add(X)
    return index


def assert_same_up_to_ties(got: Any, want: Any) -> None:
    """Hold results (D, I) against others: equal distances, and equal ids nearer than the last."""
    for d, ids, d_want, ids_want in zip(*got, *want, strict=True):
        np.testing.assert_array_equal(d, d_want)
        assert len(set(ids)) == len(ids)
        for distance in set(d) - {d[-1]}:
            assert set(ids[d == distance]) == set(ids_want[d_want == distance])


# ---- searches ------------------------------------------------------------------------------------


@given(
    st.integers(1, 8),
    st.integers(1, 12),
    st.integers(1, 200),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_distances_are_4_times_hamming(nbits, M, n, nq, with_sign, seed) -> None:
    d = M * nbits
    z, zq = signs(n, d, seed), signs(nq, d, seed + 1)
    encoder = Sign(d) if with_sign else None
    index = bare(M, nbits, encoder=encoder)
    index.add(z)
    distances = hamming(zq, z)
    for k in (1, (n + 1) // 2, n):
        scores, ids = index.search(zq, k)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_array_equal(scores / 4, np.take_along_axis(distances, order, axis=1))
        alone = index.search(zq[:1], k)
        np.testing.assert_array_equal(alone[0], scores[:1])
        np.testing.assert_array_equal(alone[1], ids[:1])
    lims, scores, ids = index.range_search(zq, 2 * d)
    near = distances < d / 2
    np.testing.assert_array_equal(np.diff(lims), near.sum(axis=1))
    np.testing.assert_array_equal(ids, np.nonzero(near)[1])
    np.testing.assert_array_equal(scores / 4, distances[near])


@each_nbits
def test_inner_products_count_bits_as_well(nbits: int) -> None:
    index = bare(5, nbits, METRIC_INNER_PRODUCT)
    z, zq = signs(100, 5 * nbits), signs(7, 5 * nbits, 1)
    index.add(z)
    scores, ids = index.search(zq, 100)
    distances = np.take_along_axis(hamming(zq, z), ids, axis=1)
    np.testing.assert_array_equal(scores, 5 * nbits - 2 * distances)


def test_without_sign_queries_stay_real() -> None:
    index = bare(M, encoder=Affine(A))
    index.add(X)
    z, zq = np.where(X @ A.T >= 0, 1, -1), Q @ A.T
    scores, ids = index.search(Q, 5)
    exact = np.square(zq[:, None] - z[None]).sum(axis=2)
    np.testing.assert_allclose(scores, np.sort(exact, axis=1)[:, :5], rtol=1e-5)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, ids, axis=1), rtol=1e-5)


def test_hyperplanes_need_no_training_and_take_it() -> None:
    """Locality-sensitive hashing: angles show in Hamming distances."""
    index = planes()
    assert index.is_trained
    index.train(X[:1])
    assert type(index.quantizer) is BinaryQuantizer
    index.train(lambda: iter([X[:100], X[100:]]))
    assert index.history == []
    index.add(X)
    np.testing.assert_array_equal(faiss.vector_to_array(index.codes), packed(X @ A.T).ravel())
    scores, ids = index.search(Q, 300)
    cosines = np.einsum("qd,qkd->qk", Q, X[ids])
    cosines /= np.linalg.norm(Q, axis=1)[:, None] * np.linalg.norm(X[ids], axis=2)
    assert np.corrcoef(scores.ravel(), np.arccos(cosines).ravel())[0, 1] > 0.6
    with pytest.raises(InputError, match=r"at least 1 training vectors.*, got"):
        planes().train(X[:0])
    with pytest.raises(InputError, match="NaN"):
        planes().train(np.full((3, D), np.nan, np.float32))


def test_queries_that_are_not_finite_find_nothing() -> None:
    index = filled()
    queries = Q.copy()
    queries[3, 5] = np.nan
    for each in (index, faiss.IndexPreTransform(index)):
        _, ids = each.search(queries, 4)
        assert (ids[3] == -1).all()
        assert (np.delete(ids, 3, axis=0) >= 0).all()


# ---- training ------------------------------------------------------------------------------------


class Centred(Encoder):
    """Signs of what differs from the mean of the training vectors."""

    def __init__(self, d: int, mean: Any = None) -> None:
        super().__init__(d, d)
        self.mean = mean

    @property
    def is_fitted(self) -> bool:
        return self.mean is not None

    def fit(self, x, quantizer, **_) -> None:
        assert isinstance(quantizer, BinaryQuantizer)
        self.mean = x.mean(axis=0)

    def encode(self, x) -> np.ndarray:
        return np.where(x >= self.mean, 1, -1).astype(np.float32)

    def state(self) -> dict[str, Any]:
        return {"d": self.d_in, "mean": self.mean}


@pytest.fixture
def _centred_in_files(monkeypatch) -> None:
    monkeypatch.setitem(deepq.encoders.TYPES, "Centred", f"{__name__}:Centred")


def through_file(index: Any) -> Any:
    """Write and read it again."""
    file = io.BytesIO()
    deepq.write_index(index, file)
    file.seek(0)
    return deepq.read_index(file)


WAYS = {
    "copy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "deepq's file": through_file,
    "faiss's bytes": lambda index: deepq.from_faiss(deepq.to_faiss(index)),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
@pytest.mark.usefixtures("_centred_in_files")
def test_an_encoder_that_learns_keeps_the_kind(way) -> None:
    x = X[:, :8] + 5
    index = bare(1, encoder=Centred(8))
    assert not index.is_trained
    with pytest.raises(StateError):
        index.add(x)
    index = way(index)
    assert (index.is_trained, type(index.quantizer)) == (False, BinaryQuantizer)
    index.train(x)
    index = way(index)
    index.add(x)
    np.testing.assert_array_equal(index.reconstruct_n(), np.where(x >= x.mean(axis=0), 1, -1))
    index.reset()
    index.train(x[:5])
    assert type(index.quantizer) is BinaryQuantizer


@pytest.mark.usefixtures("_centred_in_files")
def test_a_composite_does_not_train_the_codebooks() -> None:
    index = bare(1, encoder=Centred(8))
    faiss.IndexIDMap2(index).train(X[:, :8])
    assert index.is_trained
    assert kind_of(index.codebooks) is type(index.quantizer) is BinaryQuantizer
    index.add(X[:, :8])
    assert index.search(X[:5, :8], 1)[1].min() >= 0
    turned = bare(1, encoder=Rotation(8))
    with pytest.raises(RuntimeError, match="learns no codebooks for a BinaryQuantizer"):
        faiss.IndexIDMap2(turned).train(X[:, :8])
    assert not turned.is_trained


def network() -> NetworkEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NetworkEncoder(Embedding(MLP((D,), (16,)), Bottleneck(16, BITS)), D)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_network_is_trained_with_labels(weight: float, tmp_path) -> None:
    centres = 2 * np.random.default_rng(1).standard_normal((4, D)).astype(np.float32)
    y = np.arange(300) % 4
    x = X + centres[y]
    settings = deepq.TrainConfig(epochs=4, batch_size=50, checkpoint=tmp_path / "c")
    objective = objectives.PairwiseCosine(weight, warm_up=0.5)
    options: Any = {"objective": objective, "training": settings}
    index, again = (bare(M, encoder=Chain([network(), Sign(BITS)]), **options) for _ in range(2))
    index.train(x, y)
    assert {entry["stage"] for entry in index.history} == {"network"}
    assert type(index.quantizer) is BinaryQuantizer
    index.add(x)
    _, ids = index.search(x, 20)
    assert (y[ids] == y[:, None]).mean() > 0.8
    again.train(x, y)  # from the checkpoint
    np.testing.assert_array_equal(again.sa_encode(x), index.sa_encode(x))


def test_a_checkpoint_of_another_quantizer_is_refused(tmp_path) -> None:
    options: Any = {
        "encoder": Identity(8),
        "training": deepq.TrainConfig(checkpoint=tmp_path / "c"),
    }
    deepq.DeepQuantIndex(8, 2, 4, **options).train(X[:, :8])
    with pytest.raises(InputError, match="another quantizer"):
        bare(2, 4, **options).train(X[:, :8])
    (tmp_path / "c").unlink()
    for _ in range(2):
        bare(2, 4, **options).train(X[:, :8])


# ---- refusals ------------------------------------------------------------------------------------


def test_reranking_is_refused() -> None:
    with pytest.raises(InputError, match="expected rerank = 0 with a BinaryQuantizer, got 100"):
        planes(rerank=100)
    index = filled()
    with pytest.raises(InputError, match="rerank = 0"):
        index.rerank = 5
    index.rerank = 0
    assert index.rerank == 0
    D, _ = index.search(Q, 5, params=deepq.SearchParameters(rerank=50))
    np.testing.assert_array_equal(D, index.search(Q, 5)[0])


def test_polysemous_training_is_refused() -> None:
    index = planes()
    index.do_polysemous_training = True
    with pytest.raises(InputError, match="no do_polysemous_training with a BinaryQuantizer"):
        index.train(X)
    index.add(X)  # what was there is as it was


def test_other_codebooks_of_an_index_are_refused() -> None:
    index = planes()
    index.codebooks = BinaryQuantizer(M).codebooks
    for other in (-index.codebooks, index.codebooks * 2):
        with pytest.raises(InputError, match="always has, got others"):
            index.codebooks = other
    for other in (None, index.codebooks[:1]):
        with pytest.raises(DimensionError):
            index.codebooks = other
    assert type(index.quantizer) is BinaryQuantizer
    index.add(X)
    np.testing.assert_array_equal(index.sa_encode(X), filled().sa_encode(X))


def test_an_encoder_that_learns_codebooks_is_refused_before_anything_is_learned() -> None:
    for encoder in (Rotation(BITS), Rotation.of(np.eye(BITS)), Chain([Rotation(BITS), Sign(BITS)])):
        index = bare(M, encoder=encoder)
        with pytest.raises(InputError, match="learns no codebooks for a BinaryQuantizer, got"):
            index.train(signs(300, BITS))
        assert index.is_trained == encoder.is_fitted


def test_another_width_is_refused() -> None:
    with pytest.raises(InputError, match="embeddings of 16 numbers, got 2 x 4"):
        deepq.DeepQuantIndex(16, 2, 4, quantizer=BinaryQuantizer(2, 4))
    with pytest.raises(InputError, match="embeddings of 8 numbers, got 2 x 8"):
        bare(2, encoder=Chain([Affine(np.ones((8, 16))), Centred(8)]))


# ---- copies, composites, edits -------------------------------------------------------------------


def test_a_quantizer_of_another_class_has_no_state() -> None:
    class Mine(ProductQuantizer):
        pass

    index = deepq.DeepQuantIndex(D, 3, 2, quantizer=Mine(3, 2))
    index.train(X)
    assert type(index.quantizer) is Mine
    with pytest.raises(KindError, match=r"deepq\.quantizers\.TYPES, got Mine"):
        pickle.dumps(index)


def test_a_file_of_an_unknown_quantizer_is_refused() -> None:
    state = live_state(filled())
    assert state["quantizer"] == "BinaryQuantizer"
    for change in ({"quantizer": "Other"}, {"rerank": 3}, {"codebooks": -state["codebooks"]}):
        with pytest.raises(deepq.FormatError, match=r"Other|rerank|codewords"):
            make_index({**state, **change}, deepq.DeepQuantIndex)
    del state["quantizer"]  # as in files from before there was a choice
    assert type(make_index(state, deepq.DeepQuantIndex).quantizer) is ProductQuantizer


@each_way
def test_copies_are_the_same_index(way) -> None:
    index = filled()
    twin = way(index)
    assert type(twin.quantizer) is BinaryQuantizer
    assert type(twin.encoder.members[1]) is Sign
    for got, want in zip(twin.search(Q, 50), index.search(Q, 50), strict=True):
        np.testing.assert_array_equal(got, want)
    zeros = np.zeros((1, D), np.float32)
    np.testing.assert_array_equal(twin.sa_encode(zeros), np.full((1, M), 255))
    with pytest.raises(InputError, match="rerank"):
        twin.rerank = 1
    twin.reset()
    twin.train(X)
    assert type(twin.quantizer) is BinaryQuantizer


@pytest.mark.parametrize("encoder", [None, Affine(A), Chain([Affine(A), Sign(BITS)])])
def test_files_of_faiss_restore_it(encoder, tmp_path) -> None:
    index = bare(M, encoder=encoder)
    x = X if encoder else signs(300, BITS)
    index.add(x)
    faiss.write_index(index, str(tmp_path / "i"))
    plain, back = faiss.read_index(str(tmp_path / "i")), deepq.read_index(tmp_path / "i")
    assert type(back.quantizer) is BinaryQuantizer
    np.testing.assert_array_equal(back.search(x[:9], 50), index.search(x[:9], 50))
    if isinstance(encoder, Chain):
        with pytest.raises(RuntimeError):
            plain.search(x[:9], 5)
    else:
        np.testing.assert_allclose(plain.search(x[:9], 5)[0], index.search(x[:9], 5)[0], rtol=1e-4)
        np.testing.assert_array_equal(plain.sa_encode(x), index.sa_encode(x))


def test_codebooks_alone_restore_it() -> None:
    index = filled()
    twin = deepq.DeepQuantIndex.from_codebooks(index.codebooks, index.encoder)
    assert type(twin.quantizer) is BinaryQuantizer
    twin.merge_from(index)
    assert (twin.ntotal, index.ntotal) == (300, 0)
    half = deepq.DeepQuantIndex.from_codebooks(index.codebooks / 2)
    assert type(half.quantizer) is ProductQuantizer


def test_composites_count_the_same_bits() -> None:
    index = filled()
    want = index.search(Q, 300)
    mapped = faiss.IndexIDMap2(planes())
    mapped.add_with_ids(X, np.arange(300) + 1000)
    distances, ids = mapped.search(Q, 300)
    assert_same_up_to_ties((distances, ids - 1000), want)
    assert mapped.remove_ids(np.array([1000, 1299])) == 2
    shards = faiss.IndexShards(D, True, True)
    for rows in (X[:130], X[130:]):
        shard = planes()
        shard.add(rows)
        shards.add_shard(shard)
    assert_same_up_to_ties(shards.search(Q, 300), want)
    shared = faiss.IndexShards(D, False, True)
    for _ in range(3):
        shared.add_shard(planes())
    shared.train(X)
    shared.add(X)
    assert_same_up_to_ties(shared.search(Q, 300), want)


def test_codes_are_edited_as_any_others() -> None:
    index = bare(M)
    z = signs(50, BITS)
    index.add(z * 7)
    np.testing.assert_array_equal(index.reconstruct_n(), z)
    np.testing.assert_array_equal(index.reconstruct(9), z[9])
    np.testing.assert_array_equal(index.sa_decode(index.sa_encode(z)), z)
    assert index.remove_ids(np.array([0, 3, 77])) == 2
    z = np.delete(z, [0, 3], axis=0)
    np.testing.assert_array_equal(index.reconstruct_n(), z)
    _, _, found = index.search_and_reconstruct(z[:4], 1)
    np.testing.assert_array_equal(found[:, 0], z[:4])
    index.add_sa_codes(packed(z[:2]))
    np.testing.assert_array_equal(index.reconstruct_n(48, 2), z[:2])
    seen = deepq.diagnose(index)
    assert seen.n == 50
    assert seen.ksub == 256


def test_decoding_goes_back_through_the_planes() -> None:
    rows = np.linalg.qr(A)[0].astype(np.float32)
    index = bare(M, encoder=Chain([Affine(rows), Sign(BITS)]))
    index.add(X)
    want = np.where(X @ rows.T >= 0, 1, -1).astype(np.float32) @ np.linalg.pinv(rows).T
    np.testing.assert_allclose(index.reconstruct_n(), want, atol=1e-5)


# ---- faiss's binary index ------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_a_binary_index_of_faiss_agrees(nbits: int, M: int, n: int, seed: int) -> None:
    index = bare(M, nbits)
    z, zq = signs(n, M * nbits, seed), signs(5, M * nbits, seed + 1)
    index.add(z)
    if M * nbits % 8:
        with pytest.raises(InputError, match=f"a multiple of 8 bits, got {M * nbits}"):
            deepq.to_faiss(index, binary=True)
        return
    native = deepq.to_faiss(index, binary=True)
    assert type(native) is faiss.IndexBinaryFlat
    assert (native.d, native.ntotal) == (M * nbits, n)
    np.testing.assert_array_equal(
        faiss.vector_to_array(native.xb).reshape(n, native.code_size), packed(z)
    )
    back = deepq.from_faiss(native)
    assert (type(back.encoder), type(back.quantizer)) == (Identity, BinaryQuantizer)
    assert (back.pq.M, back.pq.nbits, back.d) == (M * nbits // 8, 8, M * nbits)
    np.testing.assert_array_equal(back.reconstruct_n(), z)
    for k in {1, (n + 1) // 2, n} if n else ():
        want = native.search(index.sa_encode(zq), k)
        for each in (index, back):
            distances, ids = each.search(zq, k)
            assert_same_up_to_ties((distances / 4, ids), want)


def test_an_encoder_stays_behind(tmp_path) -> None:
    index = filled()
    native = deepq.to_faiss(index, binary=True)
    distances, ids = index.search(Q, 40)
    assert_same_up_to_ties(native.search(index.sa_encode(Q), 40), (distances / 4, ids))
    faiss.write_index_binary(native, str(tmp_path / "b"))
    back = deepq.from_faiss(faiss.read_index_binary(str(tmp_path / "b")))
    rows = index.quantizer.decode(index.sa_encode(Q))
    np.testing.assert_array_equal(back.search(rows, 40), index.search(Q, 40))
    native.add(index.sa_encode(Q))
    assert (index.ntotal, back.ntotal, native.ntotal) == (300, 300, 320)


def test_what_is_not_binary_is_refused() -> None:
    index = deepq.DeepQuantIndex(16, 4, 4, encoder=Identity(16))
    with pytest.raises(InputError, match="expected a BinaryQuantizer, got ProductQuantizer"):
        deepq.to_faiss(index, binary=True)
    with pytest.raises(KindError, match="expected a DeepQuantIndex"):
        deepq.to_faiss(faiss.IndexBinaryFlat(8), binary=True)
    with pytest.raises(KindError, match="expected an IndexBinaryFlat, got IndexBinaryIVF"):
        deepq.from_faiss(faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(16), 16, 2))
