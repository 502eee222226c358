"""The whole surface: every name of faiss.IndexPQ is decided on, every signature fits."""

import inspect

import faiss
import pytest

import deepq

from . import kinds
from .kinds import DIM, L2, M, run_script

# Public names of faiss.IndexPQ that DeepQuantIndex leaves as they are, and why that is right.
INHERITED = {
    "ST_PQ": "a constant",
    "ST_HE": "a constant",
    "ST_generalized_HE": "a constant",
    "ST_SDC": "a constant",
    "ST_polysemous": "a constant",
    "ST_polysemous_generalize": "a constant",
    "d": "faiss.Index has it, and so has the chain: the width of the input",
    "thisown": "SWIG's flag of ownership, kept by the handle itself",
}


def public_names(cls):
    return [name for name in dir(cls) if not name.startswith("_")]


def own_names(cls):
    """Names that a class defines below faiss.IndexPQ."""
    mro = cls.__mro__
    return {name for base in mro[: mro.index(faiss.IndexPQ)] for name in vars(base)}


@pytest.mark.parametrize("name", public_names(faiss.IndexPQ))
def test_every_name_is_overridden_or_left_for_a_reason(name):
    assert (name in own_names(deepq.DeepQuantIndex)) != (name in INHERITED)


def test_no_decision_is_about_a_name_that_is_gone():
    assert set(INHERITED) <= set(public_names(faiss.IndexPQ))


METHODS = [name for name in public_names(faiss.IndexPQ) if callable(getattr(faiss.IndexPQ, name))]


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_faiss_is_there_under_its_name(name):
    theirs = inspect.signature(getattr(faiss.IndexPQ, name)).parameters
    ours = inspect.signature(getattr(deepq.DeepQuantIndex, name)).parameters
    for parameter in theirs.values():
        same = ours[parameter.name]
        assert (same.kind, same.default) == (parameter.kind, parameter.default)
    positional = [p.name for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(ours)[: len(positional)] == positional
    for parameter in ours.values():
        assert parameter.name in theirs or parameter.default is not parameter.empty


def test_the_constructor_takes_options_by_keyword_only():
    parameters = inspect.signature(deepq.DeepQuantIndex).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["d", "M", "nbits", "metric"]
    options = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    nothing = dict.fromkeys(["encoder", "quantizer", "objective", "training"])
    assert options == {**nothing, "rerank": 0}


def test_it_is_a_subclass():
    assert issubclass(deepq.DeepQuantIndex, faiss.IndexPQ)


@kinds.ours_flat_only
def test_every_property_can_be_read(index):
    for name in public_names(faiss.IndexPQ):
        if name not in METHODS:
            assert getattr(index, name) is not None


@kinds.ours_flat_only
def test_every_method_has_a_docstring(kind):
    cls = type(kind.build(DIM, M, 4, L2))
    assert not [name for name in METHODS if not inspect.getdoc(getattr(cls, name))]


WRITTEN_FOR_INDEX_PQ = """
import copy, pickle, sys, tempfile
import faiss, numpy as np
if sys.argv[1] == "replaced":
    import deepq
    faiss.IndexPQ = deepq.DeepQuantIndex

rng = np.random.default_rng(0)
xt, xb, xq = (rng.standard_normal((n, 16)).astype("float32") for n in (2000, 500, 10))

class Mine(faiss.IndexPQ):
    pass

for cls in (faiss.IndexPQ, Mine):
    for metric in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT):
        index = cls(16, 4, 8, metric)
        assert isinstance(index, faiss.IndexPQ) and not index.is_trained
        index.verbose = False
        index.pq.cp.niter = 5
        index.train(xt)
        index.add(xb)
        D, I = index.search(xq, 10)
        assert I.shape == (10, 10) and D.dtype == np.float32 and index.ntotal == 500
        for twin in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
            assert type(twin) is cls and (twin.search(xq, 10)[1] == I).all()
        with tempfile.NamedTemporaryFile() as file:
            faiss.write_index(index, file.name)
            assert (faiss.read_index(file.name).search(xq, 10)[1] == I).mean() > 0.99
        centroids = faiss.vector_to_array(index.pq.centroids)
        assert centroids.size == 4 * 256 * 4
        assert faiss.vector_to_array(index.codes).size == 500 * index.code_size
        assert index.remove_ids(np.arange(100)) == 100 and index.ntotal == 400
        index.reset()
        mapped = faiss.IndexIDMap2(index)
        mapped.add_with_ids(xb, np.arange(500) + 10)
        assert (mapped.search(xq, 10)[1] == I + 10).mean() > 0.99
        assert np.isfinite(mapped.reconstruct(12)).all()
index = faiss.index_factory(16, "PQ4np")
index.train(xt)
assert index.reconstruct_n().shape == (0, 16)
"""


@pytest.mark.parametrize("how", ["as it is", "replaced"])
def test_a_script_written_for_index_pq_runs(how):
    run_script(WRITTEN_FOR_INDEX_PQ, how)


TENSORS = """
import sys
import faiss, numpy as np, torch
order = sys.argv[1:]
if "replaced" in order:
    import deepq
    faiss.IndexPQ = deepq.DeepQuantIndex
for module in order:
    if module == "deepq":
        import deepq
        deepq.DeepQuantIndex
    elif module == "torch_utils":
        import faiss.contrib.torch_utils
classes = [faiss.IndexPQ] + ([deepq.DeepQuantIndex] if "deepq" in order else [])
torch.manual_seed(0)
xt, xb, xq = torch.randn(1000, 16), torch.randn(300, 16), torch.randn(7, 16)

def same(tensors, arrays):
    for t, a in zip(tensors, arrays, strict=True):
        assert isinstance(t, torch.Tensor), type(t)
        assert isinstance(a, np.ndarray), type(a)
        np.testing.assert_allclose(t.numpy(), a.astype(t.numpy().dtype), rtol=1e-5, atol=1e-5)

for cls in classes:
    index, twin = cls(16, 4, 4), cls(16, 4, 4)
    index.train(xt)
    twin.train(xt.numpy())
    index.add(xb)
    twin.add(xb.numpy())
    assert index.ntotal == twin.ntotal == 300
    q = xq.numpy()
    same(index.search(xq, 5), twin.search(q, 5))
    same(index.range_search(xq, 12.0), twin.range_search(q, 12.0))
    same(index.search_and_reconstruct(xq, 3), twin.search_and_reconstruct(q, 3))
    same([index.assign(xq, 3)], [twin.assign(q, 3)])
    same([index.sa_encode(xq)], [twin.sa_encode(q)])
    same([index.sa_decode(index.sa_encode(xq))], [twin.sa_decode(twin.sa_encode(q))])
    many, one = np.empty((300, 16), "f4"), np.empty(16, "f4")
    same([index.reconstruct_n()], [twin.reconstruct_n(0, 300, many)])
    same([index.reconstruct(3)], [twin.reconstruct(3, one)])
    D, I = torch.empty(7, 5), torch.empty(7, 5, dtype=torch.int64)
    got = index.search(xq, 5, D=D, I=I)
    assert got[0] is D and got[1] is I
    same((D, I), twin.search(q, 5))
    index.search(xq.clone().requires_grad_(False), 5)
    assert index.remove_ids(np.arange(10)) == 10
    try:
        index.search(xq[:, :8].contiguous(), 5)
    except AssertionError:
        pass
    else:
        raise SystemExit("a tensor of the wrong width was taken")
"""

ORDERS = [
    ["torch_utils"],
    ["deepq", "torch_utils"],
    ["torch_utils", "deepq"],
    ["replaced", "torch_utils"],
]


@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_tensors_go_in_and_tensors_come_out(order):
    pytest.importorskip("torch")
    run_script(TENSORS, *order)
