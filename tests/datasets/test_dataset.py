"""Data sets: the glosses that ship with the package, files, and parts that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deepq
from deepq.datasets import Dataset, exact_neighbours, load

from .builders import vectors, write_vecs

PACKAGE = Path(deepq.__file__).parent


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
