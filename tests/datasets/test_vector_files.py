"""Files of vectors, and damaged ones."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

import deepq
from deepq.datasets import RowSource, load, read_vectors

from .builders import vectors, write_bin, write_vecs


class TestReadVectors:
    @pytest.mark.parametrize(
        ("suffix", "dtype"), [(".fvecs", np.float32), (".ivecs", np.int32), (".bvecs", np.uint8)]
    )
    def test_vecs(self, tmp_path, suffix, dtype):
        x = np.arange(21).reshape(3, 7).astype(dtype)
        found = read_vectors(write_vecs(tmp_path / f"x{suffix}", x, dtype))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, x)

    @pytest.mark.parametrize(
        ("suffix", "dtype"),
        [
            (".fbin", "<f4"),
            (".f16bin", "<f2"),
            (".u8bin", "u1"),
            (".i8bin", "i1"),
            (".ibin", "<i4"),
        ],
    )
    def test_bin(self, tmp_path, suffix, dtype):
        x = np.arange(21).reshape(3, 7).astype(dtype)
        found = read_vectors(write_bin(tmp_path / f"x{suffix}", x))
        assert isinstance(found, np.memmap)
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, x)

    def test_true_neighbours_with_distances(self, tmp_path):
        ids = np.arange(6, dtype="<i4").reshape(2, 3)
        path = write_bin(tmp_path / "x.ibin", ids)
        path.write_bytes(path.read_bytes() + vectors(2, 3).tobytes())
        np.testing.assert_array_equal(read_vectors(path), ids)

    @pytest.mark.parametrize(("suffix", "dtype"), [(".u8bin", "u1"), (".fbin", "<f4")])
    def test_truncated_bin(self, tmp_path, suffix, dtype):
        path = write_bin(tmp_path / f"x{suffix}", np.ones((4, 3), dtype))
        for content in (path.read_bytes()[:-1], path.read_bytes() + b"0", b"123", bytes(8)):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=rf"x\{suffix}: expected .* got \d+"):
                read_vectors(path)

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

    def test_refuses_what_is_no_array(self, tmp_path):
        (tmp_path / "x.npy").write_bytes(b"no array")
        with pytest.raises(deepq.FormatError, match=r"x\.npy: expected an array"):
            read_vectors(tmp_path / "x.npy")
        np.save(tmp_path / "y.npy", np.zeros((3, 2), "V2"))
        with pytest.raises(deepq.FormatError, match="bfloat16 keeps its name in"):
            read_vectors(tmp_path / "y.npy")

    def test_refuses_a_column_of_what_has_none(self, tmp_path):
        np.save(tmp_path / "x.npy", vectors(3))
        with pytest.raises(ValueError, match="expected no column"):
            read_vectors(tmp_path / "x.npy", "emb")
        with pytest.raises(ValueError, match=r"one file of the format \.npy, got 2"):
            read_vectors([tmp_path / "x.npy"] * 2)
        with pytest.raises(ValueError, match="a path at least"):
            read_vectors([])

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_vectors(tmp_path / "x.fvecs")


class TestNpz:
    def test_the_only_array_or_one_by_name(self, tmp_path):
        np.savez(tmp_path / "x.npz", emb=vectors(5), ids=np.arange(5))
        np.testing.assert_array_equal(read_vectors(tmp_path / "x.npz"), vectors(5))
        np.savez(tmp_path / "y.npz", a=vectors(5), b=vectors(4))
        np.testing.assert_array_equal(read_vectors(tmp_path / "y.npz", "b"), vectors(4))
        for column, text in ((None, "got 2: 'a', 'b'"), ("c", "'a', 'b', got 'c'")):
            with pytest.raises(ValueError, match=text):
                read_vectors(tmp_path / "y.npz", column)
        with pytest.raises(ValueError, match=r"'ids' of shape \(n, d\), got \(5,\)"):
            read_vectors(tmp_path / "x.npz", "ids")

    def test_damaged(self, tmp_path):
        np.savez(tmp_path / "x.npz", base=vectors(50), query=vectors(5))
        whole = (tmp_path / "x.npz").read_bytes()
        for content in (whole[:-30], whole.replace(vectors(50).tobytes()[:8], bytes(8))):
            (tmp_path / "x.npz").write_bytes(content)
            for reader in (load, lambda path: read_vectors(path, "base")):
                with pytest.raises(deepq.FormatError, match=r"x\.npz: expected a whole archive"):
                    reader(tmp_path / "x.npz")


class TestSafetensors:
    def write(self, path, **tensors):
        safetensors.torch.save_file(
            {n: torch.tensor(x) if isinstance(x, np.ndarray) else x for n, x in tensors.items()},
            path,
            metadata={"of": "a test"},
        )
        return path

    @pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.uint8])
    def test_each_kind(self, tmp_path, dtype):
        x = np.abs(20 * vectors(9)).astype(dtype)
        found = read_vectors(self.write(tmp_path / "x.safetensors", emb=x, bias=x[0].copy()))
        assert isinstance(found, np.memmap)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, x)

    def test_bfloat16(self, tmp_path):
        x = torch.tensor(vectors(9)).bfloat16()
        found = read_vectors(self.write(tmp_path / "x.safetensors", emb=x))
        assert isinstance(found, RowSource)
        np.testing.assert_array_equal(np.asarray(found), x.float().numpy())

    def test_by_name(self, tmp_path):
        path = self.write(tmp_path / "x.safetensors", a=vectors(3), b=vectors(4))
        assert read_vectors(path, "b").shape == (4, 6)
        with pytest.raises(ValueError, match="or the name of one, got 2"):
            read_vectors(path)

    def test_damaged(self, tmp_path):
        path = self.write(tmp_path / "x.safetensors", a=vectors(3))
        whole = path.read_bytes()
        for content in (whole[:-1], whole[:20], b"", whole.replace(b"F32", b"F99")):
            path.write_bytes(content)
            with pytest.raises(deepq.FormatError, match=r"x\.safetensors: expected"):
                read_vectors(path)
