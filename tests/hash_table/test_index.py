from __future__ import annotations

import threading

import faiss
import numpy as np
import pytest

import deepq
from deepq import HashTableIndex
from deepq.encoders import Affine, Identity
from deepq.quantizers import ProductQuantizer

from .builders import IP, KEPT, L2, LEVELS, SCORES, WIDTH, XB, XQ, D, filled, plain_search, table

FLT_MAX = np.finfo(np.float32).max


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("sparsity", [1, 3])
@pytest.mark.parametrize("metric", [L2, IP])
@pytest.mark.parametrize("least", [0, 60, 400])
def test_it_finds_what_plain_loops_find(kept, sparsity, metric, least) -> None:
    how = {"sparsity": sparsity, "metric": metric}
    index = filled(kept, **how)
    D_, I = index.search(XQ, 7, min_candidates=least)
    counts = 0
    for q, x in enumerate(XQ):
        want, count = plain_search(x, 7, kept=kept, least=least, **how)
        counts += count
        if kept == "codes":  # whose tables add up in another order: equal codes tie there
            assert D_[q, 0] == pytest.approx(_score(index, x, want[0], metric), rel=1e-4)
        else:
            assert I[q].tolist() == want
    assert index.candidates == pytest.approx(counts / (len(XQ) * len(XB)))
    order = D_ if metric == L2 else -D_
    assert (np.diff(order, axis=1) >= 0).all()


def _score(index, x, i, metric) -> float:
    own = index.product_quantizer
    row = own.decode(own.encode(XB[i : i + 1]))[0]
    return float(np.square(row - x).sum() if metric == L2 else row @ x)


@pytest.mark.parametrize("metric", [L2, IP])
@pytest.mark.parametrize("sparsity", [1, 2])
def test_codes_of_all_rows_are_ranked_as_by_a_flat_index(metric, sparsity) -> None:
    index = filled("codes", metric=metric, sparsity=sparsity)
    flat = deepq.DeepQuantIndex(D, 4, 4, metric, encoder=Identity(D), quantizer=KEPT["codes"])
    flat.add(XB)
    want = flat.search(XQ, 9)
    got = index.search(XQ, 9, min_candidates=index.ntotal)
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


@pytest.mark.parametrize("kept", KEPT)
def test_single_queries_and_threads_find_the_same(kept) -> None:
    index = filled(kept, sparsity=2, min_candidates=50)
    index.num_threads = 1
    D_, I = index.search(XQ, 5)
    index.num_threads = 3
    np.testing.assert_array_equal(index.search(np.tile(XQ, (20, 1)), 5)[1], np.tile(I, (20, 1)))
    singles = [index.search(x[None], 5) for x in XQ]
    np.testing.assert_array_equal(np.concatenate([i for _, i in singles]), I)
    np.testing.assert_allclose(np.concatenate([d for d, _ in singles]), D_, rtol=1e-6)


@pytest.mark.parametrize("kept", KEPT)
def test_more_neighbours_than_rows_are_padded(kept) -> None:
    index = filled(kept)
    D_, I = index.search(XQ[:2], 500)
    assert sorted(I[0, :400]) == list(range(400))
    assert (I[:, 400:] == -1).all()
    assert (D_[:, 400:] == FLT_MAX).all()
    assert index.candidates == 1


@pytest.mark.parametrize("kept", KEPT)
def test_an_empty_table_finds_nothing(kept) -> None:
    index = table(kept, metric=IP)
    D_, I = index.search(XQ[:3], 2)
    assert (I == -1).all()
    assert (D_ == -FLT_MAX).all()
    assert index.candidates == 0
    assert index.search(np.empty((0, D), np.float32), 2)[1].shape == (0, 2)
    assert index.remove_ids(np.arange(3)) == 0


def test_a_query_that_is_not_finite_finds_nothing() -> None:
    x = XQ[:3].copy()
    x[1, 0] = np.nan
    _, I = filled().search(x, 4)
    assert (I[1] == -1).all()
    np.testing.assert_array_equal(I[[0, 2]], filled().search(XQ[[0, 2]], 4)[1])


@pytest.mark.parametrize("sparsity", [1, 2])
def test_rows_are_added_and_removed_by_id(sparsity) -> None:
    index = table(sparsity=sparsity)
    index.add(XB[:10])
    index.add_with_ids(XB[10:200], np.arange(1010, 1200))
    index.add(XB[200:])  # ids go on from the largest
    ids = np.concatenate([np.arange(10), np.arange(1010, 1400)])
    _, I = index.search(XB, 1, min_candidates=400)
    np.testing.assert_array_equal(I[:, 0], ids)
    assert index.remove_ids(np.array([3, 1015, 77])) == 2
    assert index.remove_ids(faiss.IDSelectorRange(1390, 1500)) == 10
    assert index.ntotal == 388
    _, I = index.search(XB, 1, min_candidates=400)
    assert 3 not in I
    assert 1395 not in I
    index.add(XB[3:4])
    assert index.search(XB[3:4], 1)[1] == 1400  # no id is given again
    index.reset()
    assert index.ntotal == 0
    index.add(XB[:2])
    assert sorted(index.search(XB[:1], 2)[1][0]) == [0, 1]


def test_every_row_lies_in_its_buckets() -> None:
    index = filled(sparsity=2)
    buckets = index.bucket_ids(XB)
    want = np.bincount(buckets.ravel(), minlength=WIDTH**LEVELS)
    np.testing.assert_array_equal(index.bucket_sizes, want)
    assert index.buckets == WIDTH**LEVELS
    scores = (XB @ SCORES.T).reshape(-1, LEVELS, WIDTH)
    first = scores[:, 0].argmax(axis=1) * WIDTH + scores[:, 1].argmax(axis=1)
    np.testing.assert_array_equal(buckets[:, 0], first)


def test_searches_go_on_while_rows_come() -> None:
    index, failures = filled(), []

    def search() -> None:
        try:
            for _ in range(30):
                _, I = index.search(XQ, 3)
                assert (I >= 0).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(30):
        index.add(XB[i : i + 5])
        index.remove_ids(np.arange(400 + 5 * i, 402 + 5 * i))
    for thread in threads:
        thread.join()
    assert not failures
    assert index.ntotal == 400 + 30 * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 6}, "at most 5"),
        ({"levels": 3}, "3 x 5 scores, got 10"),
        ({"levels": 30}, "buckets"),
        ({"kept": "float64"}, "float16"),
        ({"kept": ProductQuantizer(3, 4)}, "8 numbers"),
        ({"kept": ProductQuantizer(4, 10)}, "8 bits"),
        ({"metric": 7}, "METRIC"),
        ({"min_candidates": -1}, "min_candidates"),
        ({"training": "fast"}, "TrainConfig"),
        ({"order": "random"}, "scores or counting"),
        ({"embedder": Identity(9)}, "8 inputs"),
        ({"hasher": "hash"}, "Encoder"),
    ],
)
def test_what_it_cannot_be_made_of(change, message) -> None:
    parts = {"embedder": Identity(D), "hasher": Affine(SCORES), "levels": LEVELS, "width": WIDTH}
    with pytest.raises((ValueError, TypeError), match=message):
        HashTableIndex(**{**parts, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: i.search(XQ[:, :3], 2), "8"),
        (lambda i: i.search(XQ, 0), "at least 1"),
        (lambda i: i.search(XQ, 2, min_candidates=-1), "min_candidates"),
        (lambda i: i.add(np.full((1, D), np.nan, np.float32)), "NaN"),
        (lambda i: i.add_with_ids(XB[:2], np.array([1])), "2 vectors, got 1"),
        (lambda i: i.add_with_ids(XB[:1], np.array([-1])), "from 0 on"),
        (lambda i: i.add_with_ids(XB[:1], np.array([0.5])), "integers"),
        (lambda i: i.remove_ids(np.array(["a"])), "integers"),
        (lambda i: i.train(XB), "labels"),
        (lambda i: i.train(XB, None), "expected labels y"),
        (lambda i: i.bucket_ids(XQ[0]), "shape"),
    ],
)
def test_what_it_refuses(call, message) -> None:
    index = filled()
    with pytest.raises((ValueError, TypeError), match=message if message != "labels" else None):
        call(index)
    assert index.ntotal == 400
    np.testing.assert_array_equal(index.search(XQ, 3)[1], filled().search(XQ, 3)[1])


def test_embeddings_beyond_float16_are_refused() -> None:
    index = table("float16")
    with pytest.raises(deepq.InputError, match="65504"):
        index.add(XB * 1e6)
    assert index.ntotal == 0


def test_before_training_it_says_so() -> None:
    index = HashTableIndex(Identity(D), Affine(SCORES), LEVELS, WIDTH, kept=ProductQuantizer(4, 4))
    for call in (lambda: index.add(XB), lambda: index.search(XQ, 1), lambda: index.bucket_ids(XQ)):
        with pytest.raises(deepq.StateError, match="trained"):
            call()
    assert index.fingerprint is None


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    index = table()
    index.add(torch.from_numpy(XB))
    _, I = index.search(torch.from_numpy(XQ), 3)
    np.testing.assert_array_equal(np.asarray(I), filled().search(XQ, 3)[1])


def test_it_says_what_it_is() -> None:
    assert repr(filled("codes", sparsity=2)) == (
        "HashTableIndex(d=8, levels=2, width=5, sparsity=2, kept=codes, metric=L2, "
        "is_trained=True, ntotal=400)"
    )
