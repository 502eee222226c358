"""Shards that are open, without Ray: their results merged are those of one index, bit for bit."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

import deepq
from deepq import SearchParameters
from deepq.distributed.manifest import Manifest, Shard
from deepq.distributed.merging import merged, merged_ranges
from deepq.distributed.restriction import as_plain
from deepq.distributed.served import ServedShard
from deepq.index import steps
from tests.distributed.builders import in_shards, rows, trained
from tests.index.reranked.builders import XB, XQ, empty
from tests.index.test_ivf import with_decoder

N = 400
SELECTORS = {
    "none": None,
    "range": faiss.IDSelectorRange(70, 260),
    "ids": np.array([3, 99, 100, 101, 399, 5000]),
    "bools": np.arange(N) % 3 == 0,
    "not": faiss.IDSelectorNot(faiss.IDSelectorRange(0, 390)),
    "nothing": np.array([N + 1]),
}


def opened(manifest: Manifest, **how):
    return [ServedShard(manifest.folder, s, manifest.fingerprint, **how) for s in manifest.shards]


def search(index, served, x, k, params=None, count=0, stored=N):
    """Do what `ShardedIndex` does, in this process."""
    n, usable, z = steps.embedded(index, x)
    restriction = as_plain(params, N - 1)
    how = {"nprobe": index.nprobe} if index.kind == "cells" else {}
    found = [each.find(z, max(k, count), how, restriction, count > 0) for each in served]
    D, I, codes = merged(found, max(k, count), index.metric_type)
    if count:
        D, I = served[-1].rank(z, I, codes, k, stored)
    out = steps.padded(index, n, k)
    out[0][usable], out[1][usable] = D, I
    return out


@pytest.fixture(scope="module", params=[("flat", 1), ("flat", 0), ("cells", 1), ("cells", 0)])
def both(request, tmp_path_factory):
    """An index, and the same vectors in shards of 100, 1, 0 and 299."""
    index, x = trained(*request.param), rows(N, 5)
    parts = np.split(x, [100, 101, 101])
    manifest = in_shards(index, tmp_path_factory.mktemp("shards"), parts)
    index.add(x)
    return index, opened(manifest), x


@pytest.mark.parametrize("k", [1, 10, 450])
@pytest.mark.parametrize("selector", sorted(SELECTORS))
def test_merged_results_are_those_of_one_index(both, k, selector):
    index, served, x = both
    params = SearchParameters(sel=SELECTORS[selector]) if selector != "none" else None
    queries = x[:40].copy()
    queries[3, 0] = np.nan
    D, I = index.search(queries, k, params=params)
    scores, ids = search(index, served, queries, k, params)
    assert np.array_equal(scores, D)
    assert np.array_equal(ids, I)
    assert len(np.unique(D[0])) < max(2, min(k, N))  # scores tie


@pytest.mark.parametrize("selector", ["none", "range", "bools"])
def test_merged_ranges_are_those_of_one_index(both, selector):
    index, served, x = both
    params = SearchParameters(sel=SELECTORS[selector]) if selector != "none" else None
    thresh = float(np.median(index.search(x[:9], 60)[0]))
    expected = index.range_search(x[:9], thresh, params=params)
    how = {"nprobe": index.nprobe} if index.kind == "cells" else {}
    _, _, z = steps.embedded(index, x[:9])
    found = merged_ranges([s.within(z, thresh, how, as_plain(params, N - 1)) for s in served])
    assert len(expected[1]) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_vectors_are_decoded_where_they_are(both):
    index, served, _ = both
    keys = np.array([399, 0, 100, 5000, 101, 0])
    out = np.zeros((len(keys), index.d), np.float32)
    times = np.zeros(len(keys), int)
    for each in served:
        here, vectors = each.decode(keys)
        out[here] = vectors
        times[here] += 1
    assert times.tolist() == [1, 1, 1, 0, 1, 1]
    there = times > 0
    assert np.allclose(out[there], index.reconstruct_batch(keys[there]), atol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "cells"])
@pytest.mark.parametrize("stored", [N, 1 << 30], ids=["decoded vectors kept", "pruned"])
def test_ranking_anew_is_that_of_one_index(kind, stored, tmp_path, monkeypatch):
    index = with_decoder(trained("cells")) if kind == "cells" else empty(rerank=60)
    if kind == "flat":
        index.product_quantizer.decoder.spare = 7
    x = XB[:N]
    manifest = in_shards(index, tmp_path, np.split(x, [150]))
    index.add(x)
    if stored > N:  # as an index of so many vectors does
        monkeypatch.setattr("deepq.quantizers.reranking._NUMBERS_KEPT", 1)
    D, I = index.search(XQ, 5)
    assert not np.array_equal(I, index.search(XQ, 5, params=SearchParameters(rerank=0))[1])
    scores, ids = search(index, opened(manifest), XQ, 5, count=60, stored=stored)
    assert np.array_equal(scores, D)
    assert np.array_equal(ids, I)


def test_files_that_are_not_what_the_manifest_says_are_refused(tmp_path):
    index = trained()
    manifest = in_shards(index, tmp_path, [rows(30)])
    shard, path = manifest.shards[0], tmp_path / "part-0.dpq"
    with pytest.raises(deepq.FormatError, match="expected 30 codes of the fingerprint 0000"):
        ServedShard(tmp_path, shard, "0000")
    fewer = Shard(shard.name, 29, 0, 28, "successive", shard.checksum)
    with pytest.raises(deepq.FormatError, match="expected 29 codes"):
        ServedShard(tmp_path, fewer, manifest.fingerprint)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(deepq.FormatError, match=f"expected the checksum {shard.checksum} of"):
        ServedShard(tmp_path, shard, manifest.fingerprint)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"part-0.dpq where every worker sees it"):
        ServedShard(Path(tmp_path), shard, manifest.fingerprint)


def test_given_ids_are_those_of_the_results(tmp_path):
    """Ids in a file beside the shard, ascending, so that equal scores stay in order of id."""
    index, x = trained(), rows(50)
    part = index.copy_empty()
    part.add(x)
    ids = np.sort(np.random.default_rng(0).choice(10_000, 50, replace=False))
    deepq.write_index(part, tmp_path / "a.dpq")
    np.save(tmp_path / "a.dpq.ids.npy", ids)
    manifest = in_shards(index, tmp_path, []).including("a.dpq")
    (served,) = opened(manifest)
    index.add(x)
    D, I = index.search(x[:9], 6)
    scores, found = search(index, [served], x[:9], 6)
    assert np.array_equal(scores, D)
    assert np.array_equal(found, ids[I])
    params = SearchParameters(sel=ids[:7])
    assert set(search(index, [served], x[:9], 6, params)[1].ravel()) <= set(ids[:7].tolist())
    assert np.allclose(served.decode(ids[[4, 2]])[1], index.reconstruct_batch([4, 2]), atol=1e-5)
