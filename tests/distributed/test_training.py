"""Codebooks and centres of rows that workers hold, as far as that goes without Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepq
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq.distributed import training
from deepq.distributed.training import BLOCK, Holder, Piece, deal, learn_centres, learn_codebooks
from deepq.encoders import Affine, Rotation
from deepq.quantizers.numbering import numbered
from deepq.quantizers.product import ProductQuantizer
from deepq.training.cells import CentreQuantizer

M, NBITS, D = 2, 4, 8


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)


def encoder() -> Affine:
    rng = np.random.default_rng(5)
    return Affine(rng.standard_normal((D, D)).astype(np.float32), np.ones(D, np.float32))


def in_files(folder: Path) -> list[Any]:
    """Two files and an array."""
    for i, n in enumerate((3 * BLOCK + 100, 700)):
        np.save(folder / f"{i}.npy", rows(n, i))
    return [folder / "0.npy", str(folder / "1.npy"), rows(900, 2).astype(np.float64)]


@pytest.fixture
def shards(tmp_path) -> list[Any]:
    return in_files(tmp_path)


def all_rows() -> np.ndarray:
    return np.concatenate([rows(3 * BLOCK + 100, 0), rows(700, 1), rows(900, 2)])


def test_it_is_the_k_means_of_a_quantizer(shards, capsys) -> None:
    start = rows(16, 9).reshape(16, M, -1).transpose(1, 0, 2)
    own = ProductQuantizer(M, NBITS)
    own.codebooks = start
    own.train(all_rows(), iterations=5)
    learned = learn_codebooks(shards, M, NBITS, start=start, iterations=5, verbose=True)
    np.testing.assert_allclose(learned.trained(), numbered(own.trained()), rtol=1e-5, atol=1e-6)
    bar = capsys.readouterr().err
    assert "codebooks" in bar
    assert "5/5" in bar
    assert "error=" in bar
    x = all_rows()[:1000]
    own = ProductQuantizer(M, 8)
    own.train(x, iterations=4, seed=7)
    learned = learn_codebooks(x, M, iterations=4, seed=7)
    np.testing.assert_allclose(learned.trained(), numbered(own.trained()), rtol=1e-5, atol=1e-6)


def test_centres_are_those_of_cells() -> None:
    x = rows(2000)
    own = CentreQuantizer(30).learn(x, seed=1)
    learned = learn_centres([x[:700], x[700:]], 30, seed=1)
    np.testing.assert_allclose(learned, own, rtol=1e-5, atol=1e-6)
    again = learn_centres(x, 30, start=own, iterations=1)
    assert again.shape == (30, D)


def test_shards_change_no_bit(shards) -> None:
    whole = learn_codebooks(all_rows(), M, NBITS, iterations=4)
    cut = learn_codebooks(shards, M, NBITS, iterations=4)
    np.testing.assert_array_equal(cut.trained(), whole.trained())


def test_residuals_behind_an_encoder_and_in_an_index(shards) -> None:
    own = encoder()
    centres = learn_centres(shards, 5, encoder=own, iterations=3)
    learned = learn_codebooks(shards, M, NBITS, encoder=own, centres=centres, iterations=3)
    z = own.encode(all_rows())
    nearest = np.square(z[:, None] - centres).sum(axis=2).argmin(axis=1)
    plain = learn_codebooks(z - centres[nearest], M, NBITS, iterations=3)
    np.testing.assert_allclose(learned.trained(), plain.trained(), rtol=1e-3, atol=1e-4)
    index = deepq.DeepQuantIndex(D, M, NBITS, encoder=own)
    index.codebooks = learned.codebooks
    index.add(rows(50))
    assert index.search(rows(3), 5)[1].min() >= 0


def test_blocks_are_dealt_out_in_order() -> None:
    counts = [3 * BLOCK + 1, 0, BLOCK]
    names = ["a", "b", "c"]
    assert deal(names, counts, 1) == [[Piece("a", 0, counts[0]), Piece("c", 0, BLOCK)]]
    assert deal(names, counts, 2) == [
        [Piece("a", 0, 2 * BLOCK)],
        [Piece("a", 2 * BLOCK, counts[0]), Piece("c", 0, BLOCK)],
    ]
    seven = deal(names, counts, 7)
    assert [len(hand) for hand in seven] == [0, 1, 1, 0, 1, 1, 1]
    x = rows(BLOCK + 5)
    first, second = deal([x], [len(x)], 2)
    np.testing.assert_array_equal(np.concatenate([first[0].source, second[0].source]), x)
    assert second[0].before == BLOCK


def test_holders_of_any_number_give_the_same(shards, monkeypatch) -> None:
    """As on Ray, but for Ray."""
    books = []
    monkeypatch.setattr(training, "_OnRay", lambda arguments, _: training._Here(arguments))
    for workers in (1, 2, 4, 9):
        options = {"encoder": encoder(), "iterations": 3, "workers": workers}
        books.append(learn_codebooks(shards, M, NBITS, **options).trained())
    for other in books[1:]:
        np.testing.assert_array_equal(other, books[0])


@pytest.mark.parametrize(
    ("error", "match", "shards", "options"),
    [
        (InputError, "a shard of rows at least, got none", [], {}),
        (KindError, "paths or arrays as shards, got set", [{1}], {}),
        (FileNotFoundError, "data that every worker sees, got on", "none.npy", {}),
        (DimensionError, "rows of 8 numbers, got shape", [rows(99), rows(99)[:, :4]], {}),
        (DimensionError, r"rows of 4 numbers, got shape \(99, 8\)", rows(99), {"encoder": 4}),
        (InputError, "at least 16 training vectors", rows(15), {}),
        (DimensionError, "a multiple of M = 2 numbers, got 7", rows(99)[:, :7], {}),
        (DimensionError, "a start for 8 numbers", rows(99), {"start": np.ones((2, 16, 3))}),
        (
            DimensionError,
            r"codebooks of shape \(2, 16, dsub\)",
            rows(99),
            {"start": np.ones((2, 3))},
        ),
        (InputError, "workers of at least 0, got -1", rows(99), {"workers": -1}),
        (InputError, "iterations", rows(99), {"iterations": 0}),
        (InputError, "a shard", np.where(np.arange(99)[:, None] == 70, np.nan, rows(99)), {}),
        (DimensionError, "centres", rows(99), {"centres": np.ones((3, 7))}),
        (StateError, "a fitted encoder", rows(99), {"encoder": Rotation(D)}),
    ],
)
def test_what_cannot_be_learned_from_is_refused(error, match, shards, options) -> None:
    if options.get("encoder") == 4:
        options = {"encoder": deepq.encoders.Identity(4)}
    with pytest.raises(error, match=match):
        learn_codebooks(shards, M, NBITS, **options)


def test_what_is_not_finite_is_named_by_file_and_row(tmp_path) -> None:
    x = rows(BLOCK + 9)
    x[BLOCK + 3, 1] = np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(InputError, match=rf"finite numbers in .*x\.npy, .* row {BLOCK + 3}$"):
        learn_codebooks([tmp_path / "x.npy"], M, NBITS)


def test_centres_refuse_what_cannot_be() -> None:
    with pytest.raises(InputError, match="nlist up to 65536"):
        learn_centres(rows(99), 70_000)
    with pytest.raises(InputError, match="training vectors"):
        learn_centres(rows(9), 10)
    with pytest.raises(DimensionError, match="got"):
        learn_centres(rows(99), 10, start=rows(11))


def test_ray_is_named_where_it_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'deepq\[ray\]'"):
        learn_codebooks(rows(99), M, NBITS, workers=2)


def test_a_holder_reads_in_blocks(tmp_path) -> None:
    x = rows(BLOCK + 50)
    np.save(tmp_path / "x.npy", x)
    holder = Holder([Piece(tmp_path / "x.npy", 20, BLOCK + 40), Piece(x, 0, 3)], D)
    assert holder.look() == max(abs(x[20 : BLOCK + 40]).max(), abs(x[:3]).max())
    found = holder.take(np.array([0, BLOCK + 20]), 2.0**-30)
    np.testing.assert_allclose(found, x[[20, 0]], atol=2.0**-30)
