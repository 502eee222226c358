"""Files of vectors, and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.datasets import read_vectors

from .builders import vectors, write_vecs


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
