from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

import deepq
from deepq.datasets import Dataset, exact, exact_neighbours, load, read_vectors

PACKAGE = Path(deepq.__file__).parent


def write_vecs(path, x, dtype):
    x = np.asarray(x, dtype=dtype)
    width = np.full((len(x), 1), x.shape[1], dtype="<i4").view(np.uint8)
    path.write_bytes(np.hstack([width, x.view(np.uint8).reshape(len(x), -1)]).tobytes())
    return path


def vectors(n, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


class TestGlosses:
    def test_shapes_and_types(self, glosses):
        assert glosses.train.shape == glosses.base.shape == (10_000, 384)
        assert glosses.query.shape == (500, 384)
        assert glosses.gt.shape == (500, 100)
        assert glosses.train.dtype == glosses.base.dtype == glosses.query.dtype == np.float32
        assert len(glosses.label_names) == 45
        assert glosses.query_labels.max() < 45
        np.testing.assert_allclose(np.linalg.norm(glosses.base, axis=1), 1, atol=0.01)

    def test_texts_belong_to_their_rows(self, glosses):
        assert len(glosses.base_texts) == 10_000
        assert len(glosses.query_texts) == 500
        assert glosses.query_texts[0].startswith("neighborly, neighbourly: ")
        nearest = glosses.base_texts[glosses.gt[0, 0]]
        assert nearest == "friendliness: a friendly disposition"

    def test_neighbours_share_classes_more_often_than_chance(self, glosses):
        same = glosses.base_labels[glosses.gt[:, 0]] == glosses.query_labels
        chance = np.square(np.bincount(glosses.base_labels) / len(glosses.base)).sum()
        assert same.mean() > 3 * chance

    def test_ground_truth_is_exact(self, glosses):
        D, I = exact_neighbours(glosses.base, glosses.query, 100)
        stored = ((glosses.base[glosses.gt[:50]] - glosses.query[:50, None]) ** 2).sum(axis=2)
        np.testing.assert_allclose(stored, D[:50], rtol=1e-5)
        assert np.mean(glosses.gt == I) > 0.99

    def test_parts_are_disjoint(self, glosses):
        def rows(x):
            return {row.tobytes() for row in x}

        query = rows(glosses.query)
        assert not query & rows(glosses.base)
        assert not query & rows(glosses.train)

    def test_licence_and_size(self):
        notice = (PACKAGE / "_data" / "WORDNET_NOTICE.txt").read_text(encoding="utf-8")
        assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in notice
        assert "all-MiniLM-L6-v2" in notice
        assert sum(p.stat().st_size for p in (PACKAGE / "_data").iterdir()) <= 8_000_000


class TestReadVectors:
    @pytest.mark.parametrize(
        ("suffix", "dtype"), [(".fvecs", np.float32), (".ivecs", np.int32), (".bvecs", np.uint8)]
    )
    def test_vecs(self, tmp_path, suffix, dtype):
        x = np.arange(21).reshape(3, 7).astype(dtype)
        found = read_vectors(write_vecs(tmp_path / f"x{suffix}", x, dtype))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, x)

    def test_npy_is_mapped(self, tmp_path):
        np.save(tmp_path / "x.npy", vectors(4))
        found = read_vectors(tmp_path / "x.npy")
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, vectors(4))

    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("x.txt", b"1 2 3", "ends in one of .npy, .fvecs, .ivecs, .bvecs"),
            ("x.fvecs", b"", "at least one vector, got 0 bytes"),
            ("x.fvecs", b"\x01\0\0\0\0\0\0", "rows of one length"),
            ("x.fvecs", b"\xff\xff\xff\xff\0\0\0\0", "first row of -1 numbers"),
            ("x.bvecs", b"\x01\0\0\0\0\x02\0\0\0\0", "expected 1 numbers in row 1, got 2"),
        ],
    )
    def test_refuses(self, tmp_path, name, content, text):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=text):
            read_vectors(tmp_path / name)

    def test_refuses_other_shapes(self, tmp_path):
        np.save(tmp_path / "x.npy", np.zeros(3))
        with pytest.raises(ValueError, match=r"shape \(n, d\), got \(3,\)"):
            read_vectors(tmp_path / "x.npy")

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_vectors(tmp_path / "x.fvecs")


class TestLoad:
    def test_npz_with_everything(self, tmp_path):
        texts = ["eins", "zwei", "drei", "vier", "fünf"]
        lengths = [len(t.encode()) for t in texts]
        np.savez(
            tmp_path / "set.npz",
            train=np.full((3, 2), 8, np.int8),
            base=np.full((4, 2), 4, np.int8),
            query=np.full((1, 2), 2, np.int8),
            gt=np.array([[3, 1]], np.int32),
            scale=np.float32(2),
            base_label=np.array([0, 1, 0, 1], np.uint8),
            label_names=np.array(["odd", "even"]),
            text_utf8=np.frombuffer("".join(texts).encode(), np.uint8),
            text_offsets=np.cumsum([0, *lengths]),
        )
        found = load(tmp_path / "set.npz")
        assert (found.name, found.d, found.label_names) == ("set", 2, ("odd", "even"))
        assert (found.train == 4).all()
        assert (found.base == 2).all()
        assert (found.query == 1).all()
        assert found.base.dtype == np.float32
        assert found.gt.dtype == found.base_labels.dtype == np.int64
        assert found.query_texts == ("eins",)
        assert found.base_texts == ("zwei", "drei", "vier", "fünf")
        assert found.train_labels is None
        assert found.query_labels is None

    def test_npz_with_the_least(self, tmp_path):
        np.savez(tmp_path / "set.npz", base=vectors(5), query=vectors(2, seed=1))
        found = load(tmp_path / "set.npz")
        assert found.train is found.base
        assert found.gt is None
        np.testing.assert_array_equal(
            found.neighbours(3), exact_neighbours(found.base, found.query, 3)[1]
        )

    def test_npz_without_a_part(self, tmp_path):
        np.savez(tmp_path / "set.npz", base=vectors(5), codes=vectors(2))
        with pytest.raises(ValueError, match="named base and query, got base, codes"):
            load(tmp_path / "set.npz")

    def test_npz_never_unpickles(self, tmp_path):
        np.savez(tmp_path / "set.npz", base=np.array([{}]), query=vectors(2))
        with pytest.raises(ValueError, match="allow_pickle"):
            load(tmp_path / "set.npz")

    @pytest.mark.parametrize(("suffix", "dtype"), [(".fvecs", np.float32), (".bvecs", np.uint8)])
    def test_texmex_folder(self, tmp_path, suffix, dtype):
        parts = {"base": 20, "learn": 30, "query": 4}
        arrays = {part: 40 + 10 * vectors(n, seed=n) for part, n in parts.items()}
        for part, x in arrays.items():
            write_vecs(tmp_path / f"sift_{part}{suffix}", x, dtype)
        write_vecs(tmp_path / "sift_groundtruth.ivecs", [[0, 1]] * 4, np.int32)
        found = load(tmp_path)
        assert found.name == "sift"
        assert found.train.dtype == np.float32
        np.testing.assert_array_equal(found.train, arrays["learn"].astype(dtype))
        np.testing.assert_array_equal(found.base, arrays["base"].astype(dtype))
        np.testing.assert_array_equal(found.query, arrays["query"].astype(dtype))
        np.testing.assert_array_equal(found.gt, [[0, 1]] * 4)

    def test_texmex_folder_without_the_options(self, tmp_path):
        for part in ("base", "query"):
            write_vecs(tmp_path / f"a_{part}.fvecs", vectors(9), np.float32)
        found = load(tmp_path)
        assert found.train is found.base
        assert found.gt is None

    def test_texmex_folder_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"expected \*_base and \*_query"):
            load(tmp_path)
        for name in ("a_base", "b_base", "a_query"):
            write_vecs(tmp_path / f"{name}.fvecs", vectors(9), np.float32)
        with pytest.raises(ValueError, match=r"one \*_base file, got 2"):
            load(tmp_path)

    def test_single_array_gives_up_a_tenth_for_queries(self, tmp_path):
        x = vectors(40)
        np.save(tmp_path / "x.npy", x)
        a, b = load(tmp_path / "x.npy"), load(str(tmp_path / "x.npy"))
        assert a.base.shape == (36, 6)
        assert a.train is a.base
        np.testing.assert_array_equal(a.query, b.query)
        assert {r.tobytes() for r in x} == {r.tobytes() for r in np.vstack([a.base, a.query])}

    def test_single_array_too_small(self, tmp_path):
        np.save(tmp_path / "x.npy", vectors(9))
        with pytest.raises(ValueError, match="at least 10 vectors to draw queries from, got 9"):
            load(tmp_path / "x.npy")

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.npz")


class TestDataset:
    def test_repr_is_short(self, glosses):
        parts = "train (10000, 384), base (10000, 384), query (500, 384)"
        assert repr(glosses) == f"<Dataset wordnet_glosses: {parts}>"

    def test_is_frozen(self, glosses):
        with pytest.raises(AttributeError):
            glosses.base = glosses.train

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"query": vectors(2, 5)}, r"query of shape \(n, 6\) like base, got \(2, 5\)"),
            ({"base": vectors(4)[0]}, "expected train of shape|expected base of shape"),
            ({"base_labels": np.arange(3)}, r"4 labels for base, got shape \(3,\)"),
            ({"base_texts": ("a",)}, "4 texts for base, got 1"),
            ({"gt": np.zeros((3, 1), int)}, r"gt of shape \(2, depth\), got \(3, 1\)"),
            ({"gt": np.full((2, 1), 4)}, "ids from 0 to 3 in gt, got 4 to 4"),
        ],
    )
    def test_refuses_parts_that_do_not_fit(self, change, text):
        parts = {"train": vectors(3), "base": vectors(4), "query": vectors(2)}
        with pytest.raises(ValueError, match=text):
            Dataset("x", **(parts | change))


class TestExactNeighbours:
    @pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
    @pytest.mark.parametrize("k", [1, 7, 50])
    def test_equals_the_definition(self, monkeypatch, metric, k):
        monkeypatch.setattr(exact, "_BASE_BLOCK", 13)
        monkeypatch.setattr(exact, "_QUERY_BLOCK", 4)
        base, query = vectors(50), vectors(30, seed=1)
        D, I = exact_neighbours(base, query, k, metric)
        if metric == faiss.METRIC_L2:
            scores = ((base[None].astype(float) - query[:, None]) ** 2).sum(axis=2)
            order = np.argsort(scores, axis=1, kind="stable")[:, :k]
        else:
            scores = query.astype(float) @ base.T.astype(float)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(I, order)
        np.testing.assert_allclose(D, np.take_along_axis(scores, order, axis=1), rtol=1e-6)
        assert (D.dtype, I.dtype) == (np.float32, np.int64)

    def test_survives_a_large_offset(self):
        """Single precision alone ranks these wrongly: |x|^2 - 2xy + |y|^2 cancels."""
        base, query = vectors(3000, 64) + 1000, vectors(2000, 64, seed=1) + 1000
        _, I = exact_neighbours(base, query, 1)
        scores = ((base[None].astype(float) - query[:20, None]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(I[:20, 0], scores.argmin(axis=1))
        assert (faiss.knn(query, base, 1)[1][:20] != I[:20]).any()

    @pytest.mark.parametrize(
        ("k", "metric", "query", "text"),
        [
            (0, faiss.METRIC_L2, vectors(2), "k from 1 to 5, the size of the base, got 0"),
            (6, faiss.METRIC_L2, vectors(2), "k from 1 to 5, the size of the base, got 6"),
            (1, faiss.METRIC_L1, vectors(2), "METRIC_L2 or METRIC_INNER_PRODUCT, got 2"),
            (1, faiss.METRIC_L2, vectors(2, 5), r"got \(5, 6\) and \(2, 5\)"),
        ],
    )
    def test_refuses(self, k, metric, query, text):
        with pytest.raises(ValueError, match=text):
            exact_neighbours(vectors(5), query, k, metric)


@pytest.mark.data
@pytest.mark.parametrize("name", ["sift_bsds", "text_wordnet"])
def test_stored_ground_truth_of_the_big_sets(big_data, name):
    data = load(big_data / f"{name}.npz")
    D, _ = exact_neighbours(data.base, data.query[:20], 100)
    stored = ((data.base[data.gt[:20]] - data.query[:20, None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(stored, D, rtol=1e-5)
