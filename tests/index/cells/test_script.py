"""A script written for faiss.IndexIVFPQ runs with that name replaced, and finds as much."""

from __future__ import annotations

import pytest

from ..contract.kinds import run_script

SCRIPT = """
import copy, pickle, sys, tempfile
import faiss, numpy as np

if sys.argv[1] == "deepq":
    import deepq
    faiss.IndexIVFPQ = deepq.DeepQuantIVFIndex

d, nlist, m, k = 16, 20, 4, 10
rng = np.random.default_rng(7)
mix = rng.standard_normal((6, d))
xt, xb, xq = ((rng.standard_normal((n, 6)) @ mix).astype("float32") for n in (3000, 2000, 50))
ids = rng.permutation(10 * len(xb))[: len(xb)]
truth = faiss.IndexFlatL2(d)
truth.add(xb)
_, near = truth.search(xq, k)

def recall(I, names=ids):
    return np.mean([len(set(I[q]) & set(names[near[q]])) / k for q in range(len(xq))])

class Mine(faiss.IndexIVFPQ):
    pass

for cls, metric in ((faiss.IndexIVFPQ, faiss.METRIC_L2), (Mine, faiss.METRIC_INNER_PRODUCT)):
    quantizer = faiss.IndexFlatL2(d)
    index = cls(quantizer, d, nlist, m, 8, metric)
    assert isinstance(index, faiss.IndexIVFPQ) and isinstance(index, faiss.IndexIVF)
    assert not index.is_trained and index.nprobe == 1
    index.cp.niter, index.pq.cp.niter, index.verbose = 8, 8, False
    index.train(xt)
    assert index.is_trained and quantizer.ntotal == nlist
    index.add_with_ids(xb[:1500], ids[:1500])
    index.add_with_ids(xb[1500:], ids[1500:])
    index.nprobe = 8
    D, I = index.search(xq, k)
    assert (D.shape, I.shape, D.dtype, I.dtype) == ((50, k), (50, k), np.float32, np.int64)
    if metric == faiss.METRIC_L2:
        assert recall(I) > 0.6, recall(I)
    deeper = index.search(xq, k, params=faiss.SearchParametersIVF(nprobe=nlist))[0]
    worse = deeper - D if metric == faiss.METRIC_L2 else D - deeper
    assert (worse <= 1e-4 * abs(D) + 1e-4).all()
    few = faiss.SearchParametersIVF(nprobe=4, max_codes=100, sel=faiss.IDSelectorBatch(ids[::2]))
    assert np.isin(index.search(xq, k, params=few)[1], np.append(ids[::2], -1)).all()
    radius = float(np.median(D[:, -1]))
    lims, RD, RI = index.range_search(xq, radius)
    assert lims[-1] == len(RD) == len(RI) > 0
    assert index.search_and_reconstruct(xq, 3)[2].shape == (50, 3, d)
    faiss.ParameterSpace().set_index_parameters(index, "nprobe=8")
    assert faiss.extract_index_ivf(index).nlist == nlist
    assert sum(index.get_list_size(i) for i in range(index.nlist)) == index.ntotal == len(xb)
    coarse_D, coarse_I = index.quantizer.search(xq, 8)
    if cls is faiss.IndexIVFPQ and sys.argv[1] == "faiss":  # ours turns vectors first
        assert (index.search_preassigned(xq, k, coarse_I, coarse_D)[1] == I).all()

    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    x = index.reconstruct(int(ids[0]))
    assert ((x - xb[0]) ** 2).sum() < (xb[0] ** 2).sum()
    assert index.remove_ids(ids[:100]) == 100 and index.ntotal == len(xb) - 100
    assert not np.isin(index.search(xq, k)[1], ids[:100]).any()
    index.add_with_ids(xb[:100], ids[:100])
    index.set_direct_map_type(faiss.DirectMap.NoMap)

    for twin in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert type(twin) is cls and (twin.search(xq, k)[1] == index.search(xq, k)[1]).all()
    with tempfile.NamedTemporaryFile() as file:
        faiss.write_index(index, file.name)
        back = faiss.read_index(file.name)
        faiss.extract_index_ivf(back).nprobe = 8
        assert (back.search(xq, k)[1] == index.search(xq, k)[1]).mean() > 0.98

    parts = [copy.deepcopy(index) for _ in range(2)]
    for part, rows in zip(parts, (slice(0, 900), slice(900, None))):
        part.reset()
        part.add_with_ids(xb[rows], ids[rows])
    parts[0].merge_from(parts[1], 0)
    assert (parts[0].ntotal, parts[1].ntotal) == (len(xb), 0)
    assert (parts[0].search(xq, k)[1] == index.search(xq, k)[1]).mean() > 0.98

    shards = faiss.IndexShards(d, True, False)
    for part, rows in zip(parts, (slice(0, 900), slice(900, None))):
        part.reset()
        part.add_with_ids(xb[rows], ids[rows])
        shards.add_shard(part)
    for part in parts:
        part.nprobe = 8
    assert (shards.search(xq, k)[1] == index.search(xq, k)[1]).mean() > 0.98

    index.reset()
    mapped = faiss.IndexIDMap2(index)
    mapped.add_with_ids(xb, ids)
    if metric == faiss.METRIC_L2:
        assert recall(mapped.search(xq, k)[1]) > 0.6
    try:
        mapped.nprobe = 3
        raise SystemExit("an IDMap has no nprobe")
    except AttributeError:
        pass
"""


@pytest.mark.parametrize("whose", ["faiss", "deepq"])
def test_the_script_runs(whose):
    run_script(SCRIPT, whose)
