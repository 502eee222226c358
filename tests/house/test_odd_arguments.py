"""Every public function with every kind of odd value in every place.

Each call works, or raises a typed error that says what was expected and what came; and an index
whose method raises is, to the last byte, what it was.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import logging
import pickle
import re

import faiss
import numpy as np
import pytest
import torch

import deepq
from deepq import encoders, metrics, objectives, quantizers, recipes

D, M, NBITS, N = 8, 4, 4, 40
X = np.random.default_rng(0).standard_normal((300, D)).astype(np.float32)
Q, CODES, CLASSES = X[:5], np.zeros((5, 2), np.uint8), np.arange(300) % 3
BOOKS = np.zeros((M, 1 << NBITS, D // M), np.float32)


def filled():
    index = deepq.DeepQuantIndex(D, M, NBITS, training=deepq.TrainConfig(epochs=1, ranking=False))
    index.train(X)
    index.add(X[:N])
    return index


FILLED = pickle.dumps(filled(), 5)


def everything(index):
    threads = index.num_threads
    return pickle.dumps(index, 5), faiss.serialize_index(index).tobytes(), threads


def of_dtype(dtype):
    return np.zeros((5, D), dtype)


def without_writing(x):
    x = x.copy()
    x.flags.writeable = False
    return x


NUMBERS = {
    **{str(n): n for n in (0, -1, 1, 3, 2**31, 2**63, 2**64, -(2**63), 10**30)},
    **{str(n): n for n in (True, 3.0, 0.5, float("nan"), float("inf"), 1e300, 1j)},
    "np.int64": np.int64(3),
    "np.uint64": np.uint64(2**64 - 1),
    "np.float32": np.float32(2),
    "np.bool": np.bool_(True),
}
OBJECTS = {
    "None": None,
    "a word": "3",
    "an empty word": "",
    "bytes": b"123",
    "a list": [1, 2],
    "lists of two lengths": [[1, 2], [3]],
    "an empty list": [],
    "a dict": {"a": 1},
    "a tuple": (1, 2),
    "a set": {1},
    "a range": range(3),
    "an object": object(),
    "a class": int,
    "Ellipsis": ...,
    "a text file": io.StringIO("abc"),
    "a binary file": io.BytesIO(b"abc"),
    "a selector": faiss.IDSelectorRange(1, 3),
    "a selector from far to near": faiss.IDSelectorRange(10**15, -5),
    "a selector of selectors": faiss.IDSelectorNot(faiss.IDSelectorRange(1, 3)),
    "parameters": deepq.SearchParameters(),
    "parameters of faiss": faiss.SearchParametersPQ(),
    "parameters of another index": faiss.SearchParametersIVF(),
    "an untrained index": deepq.DeepQuantIndex(D, M, NBITS),
    "a flat index": faiss.IndexFlatL2(D),
    "an IndexPQ": faiss.IndexPQ(D, M, NBITS),
    "an encoder": encoders.Identity(D),
    "a narrow encoder": encoders.Identity(3),
    "a rotation": encoders.Rotation(D),
    "a quantizer": quantizers.ProductQuantizer(M, NBITS),
    "a binary quantizer": quantizers.BinaryQuantizer(M, NBITS),
    "settings": deepq.TrainConfig(),
    "a narrow network": torch.nn.Linear(3, 4),
    "a network": torch.nn.Linear(D, D),
    "a loss": torch.nn.MSELoss(),
    "an objective": objectives.PairwiseCosine(),
    "a data set": deepq.datasets.Dataset("x", X, X[:9], X[:4]),
}
# What is called for training rows, and what looks like it.
CALLABLES = {
    "a source": lambda: (X[i : i + 100] for i in range(0, 300, 100)),
    "a source of lists": lambda: [X[:150].tolist(), X[150:].tolist()],
    "a source of tensors": lambda: [torch.tensor(X, requires_grad=True)],
    "a source of nothing": lambda: (),
    "a source of numbers": lambda: range(3),
    "a source of words": lambda: ["abc", "def"],
    "a source of sets": lambda: [{1, 2}, {3}],
    "a source of dicts": lambda: [{"x": X}],
    "a source of pairs": lambda: [[X[:9], CLASSES[:9]]],
    "a source of 0-d arrays": lambda: [np.array(3)],
    "a source of masked arrays": lambda: [np.ma.masked_array(X)],
    "a source of sparse tensors": lambda: [torch.tensor(X).to_sparse()],
    "a function that returns a number": lambda: 3,
    "a function that returns an array": lambda: X,
    "a function that returns a network": lambda: torch.nn.Linear(D, D),
    "a function of an argument": lambda x: x,
    "a function of C": np.zeros,
    "a part of a function": functools.partial(np.zeros, 3),
    "a method": X.sum,
    "a class of encoders": encoders.Identity,
    "a class of networks": torch.nn.Linear,
    "a class of objectives": objectives.PairwiseCosine,
    "a class of arrays": np.ndarray,
    "a class of lists": list,
}
ARRAYS = {
    "good": Q.copy(),
    "many": X,
    **{
        name: of_dtype(name)
        for name in ("f2", "f8", ">f4", "i8", "u1", "?", "O", "c8", "U1", "M8[s]", "f4,f4", "V4")
    },
    "0-d": np.array(3),
    "1-d": X[0],
    "3-d": X[None],
    "no rows": X[:0],
    "one row": X[:1],
    "no columns": Q[:, :0],
    "too narrow": Q[:, :3],
    "Fortran": np.asfortranarray(Q),
    "every other column": np.repeat(Q, 2, axis=1)[:, ::2],
    "backwards": Q[::-1],
    "one row repeated": np.broadcast_to(X[0], (5, D)),
    "read-only": without_writing(Q),
    "masked": np.ma.masked_array(Q),
    "NaN": np.full((5, D), np.nan),
    "infinity": np.full((5, D), np.inf),
    "-0": np.full((5, D), -0.0),
    "denormal": np.full((5, D), 1e-42),
    "1e30": np.full((5, D), 1e30),
    "1e300": np.full((5, D), 1e300),
    "constant": np.ones((300, D)),
    "two rows": np.repeat(X[:2], 150, axis=0),
    "one NaN": np.where(np.arange(300)[:, None] == 7, np.nan, X),
    "ids": np.arange(5),
    "all ids": np.arange(N)[::-1],
    "small ids": np.array([3, 1], np.int32),
    "negative ids": np.array([-1, -5]),
    "an id twice": np.array([1, 1, 2]),
    "huge ids": np.array([2**63 - 1, -(2**63)]),
    "huger ids": np.array([2**64 - 1], np.uint64),
    "ids as bools": np.arange(N) < 5,
    "ids as floats": np.array([1.0]),
    "no ids": np.empty(0, np.int64),
    "objects": np.array([1, None], object),
    "codes": CODES,
    "no codes": CODES[:0],
    "signed codes": CODES.astype(np.int8),
    "codebooks": BOOKS,
    "too few codewords": BOOKS[:, :3],
    "classes": CLASSES,
    "too few classes": CLASSES[:9],
    "one class": np.zeros(300, int),
    "negative classes": -CLASSES,
    "huge classes": CLASSES * 2**61,
    "words": CLASSES.astype(str),
    "tags": np.eye(3, dtype=bool)[CLASSES],
    "no tags": np.zeros((300, 3), bool),
    "tags of no class": np.zeros((300, 0), bool),
    "room for D": np.empty((5, 3), np.float32),
    "room for I": np.empty((5, 3), np.int64),
    "a tensor": torch.tensor(Q),
    "a tensor with gradients": torch.tensor(Q, requires_grad=True),
    "a tensor of bfloat16": torch.tensor(Q).bfloat16(),
    "a sparse tensor": torch.tensor(Q).to_sparse(),
    "a tensor without numbers": torch.empty(5, D, device="meta"),
    "a tensor of integers": torch.arange(3),
    "a tensor of one": torch.tensor(3),
}
# What calls change, and is made anew.
FRESH = {
    "an index": lambda: pickle.loads(FILLED),
    "a generator": lambda: (x for x in [X]),
    "a source of the same blocks": lambda: functools.partial(next, itertools.repeat(iter([X, X]))),
}
VALUES = {**NUMBERS, **OBJECTS, **CALLABLES, **ARRAYS}

# Functions of an index and of the odd value.
METHODS = {
    "train": lambda i, v: i.train(v),
    "add": lambda i, v: i.add(v),
    "add(numeric_type)": lambda i, v: i.add(Q, v),
    "search(x)": lambda i, v: i.search(v, 3),
    "search(k)": lambda i, v: i.search(Q, v),
    "search(params)": lambda i, v: i.search(Q, 3, params=v),
    "search(D)": lambda i, v: i.search(Q, 3, D=v),
    "search(I)": lambda i, v: i.search(Q, 3, I=v),
    "range_search(x)": lambda i, v: i.range_search(v, 1.0),
    "range_search(thresh)": lambda i, v: i.range_search(Q, v),
    "range_search(params)": lambda i, v: i.range_search(Q, 1.0, params=v),
    "assign(x)": lambda i, v: i.assign(v, 3),
    "assign(k)": lambda i, v: i.assign(Q, v),
    "assign(labels)": lambda i, v: i.assign(Q, 3, v),
    "search_and_reconstruct(x)": lambda i, v: i.search_and_reconstruct(v, 3),
    "search_and_reconstruct(k)": lambda i, v: i.search_and_reconstruct(Q, v),
    "search_and_reconstruct(R)": lambda i, v: i.search_and_reconstruct(Q, 3, R=v),
    "reconstruct(key)": lambda i, v: i.reconstruct(v),
    "reconstruct(x)": lambda i, v: i.reconstruct(1, v),
    "reconstruct_n(n0)": lambda i, v: i.reconstruct_n(v, 2),
    "reconstruct_n(ni)": lambda i, v: i.reconstruct_n(0, v),
    "reconstruct_n(x)": lambda i, v: i.reconstruct_n(0, 5, v),
    "reconstruct_batch": lambda i, v: i.reconstruct_batch(v),
    "remove_ids": lambda i, v: i.remove_ids(v),
    "merge_from": lambda i, v: i.merge_from(v),
    "merge_from(add_id)": lambda i, v: i.merge_from(pickle.loads(FILLED), v),
    "sa_encode": lambda i, v: i.sa_encode(v),
    "sa_encode(codes)": lambda i, v: i.sa_encode(Q, v),
    "sa_decode": lambda i, v: i.sa_decode(v),
    "sa_decode(x)": lambda i, v: i.sa_decode(CODES, v),
    "add_sa_codes": lambda i, v: i.add_sa_codes(v),
    "add_sa_codes(ids)": lambda i, v: i.add_sa_codes(CODES, v),
    "add_with_ids": lambda i, v: i.add_with_ids(Q, v),
    "permute_entries": lambda i, v: i.permute_entries(v),
    **{
        name: lambda i, v, name=name: setattr(i, name, v)
        for name in (
            *("codebooks", "rerank", "training", "objective", "num_threads"),
            *("search_type", "metric_type"),
        )
    },
    "SearchParameters(rerank)": lambda i, v: i.search(Q, 3, params=parameters(rerank=v)),
    "SearchParameters(sel)": lambda i, v: i.search(Q, 3, params=parameters(sel=v)),
    "SearchParameters(num_threads)": lambda i, v: i.search(Q, 3, params=parameters(num_threads=v)),
    "evaluate(queries)": lambda i, v: deepq.evaluate(i, v),
    "evaluate(ground_truth)": lambda i, v: deepq.evaluate(i, Q, v),
    "evaluate(measures)": lambda i, v: deepq.evaluate(i, Q, Q.astype(int), v),
    "evaluate(labels)": lambda i, v: deepq.evaluate(i, Q, labels=v),
    "diagnose(x)": lambda i, v: deepq.diagnose(i, v),
    "diagnose(like)": lambda i, v: deepq.diagnose(i, Q, like=v),
    "diagnose(warn_above)": lambda i, v: deepq.diagnose(i, Q, warn_above=v),
    "write_index": lambda i, v: isinstance(v, str) or deepq.write_index(i, v),
    "train after reset": lambda i, v: emptied(i).train(v),
    "train(y)": lambda i, v: emptied(i).train(X, v),
    "train(numeric_type)": lambda i, v: emptied(i).train(X, numeric_type=v),
    "train(xq_train)": lambda i, v: emptied(i).train(X, xq_train=v),
    "codebooks after reset": lambda i, v: setattr(emptied(i), "codebooks", v),
}

parameters = deepq.SearchParameters
build = deepq.DeepQuantIndex
ranking = np.zeros((5, 1), int), np.zeros(5, int), np.zeros(9, int)
FUNCTIONS = {
    "d": lambda v: build(v, M, NBITS),
    "M": lambda v: build(D, v, NBITS),
    "nbits": lambda v: build(D, M, v),
    "metric": lambda v: build(D, M, NBITS, v),
    **{
        name: lambda v, name=name: build(D, M, NBITS, **{name: v})
        for name in ("encoder", "quantizer", "objective", "training", "rerank")
    },
    "from_codebooks": build.from_codebooks,
    "from_codebooks(encoder)": lambda v: build.from_codebooks(BOOKS, v),
    "read_index": deepq.read_index,
    "read_index(verify)": lambda v: deepq.read_index("nothing", verify=v),
    "load_pickle": deepq.load_pickle,
    "write_index(index)": lambda v: deepq.write_index(v, io.BytesIO()),
    "from_faiss": deepq.from_faiss,
    "to_faiss": deepq.to_faiss,
    "diagnose": deepq.diagnose,
    "evaluate": lambda v: deepq.evaluate(v, Q),
    "ProductQuantizer(M)": lambda v: quantizers.ProductQuantizer(v, NBITS),
    "ProductQuantizer(nbits)": lambda v: quantizers.ProductQuantizer(M, v),
    "Affine(A)": encoders.Affine,
    "Affine(b)": lambda v: encoders.Affine(np.eye(D), v),
    "Rotation": encoders.Rotation,
    "Rotation.of": encoders.Rotation.of,
    "Normalize": encoders.Normalize,
    "Identity": encoders.Identity,
    "Chain": encoders.Chain,
    "encode": encoders.Identity(D).encode,
    "plain_results(I)": lambda v: metrics.plain_results(Q, v),
    "plain_results(D)": lambda v: metrics.plain_results(v, Q.astype(int)),
    "recall(I)": lambda v: metrics.recall(v, Q.astype(int)),
    "recall(gt)": lambda v: metrics.recall(Q.astype(int), v),
    "recall(k)": lambda v: metrics.recall(Q.astype(int), Q.astype(int), k=v),
    "recall(r)": lambda v: metrics.recall(Q.astype(int), Q.astype(int), r=v),
    "mean_average_precision(I)": lambda v: metrics.mean_average_precision(v, *ranking[1:]),
    "mean_average_precision(y)": lambda v: metrics.mean_average_precision(
        ranking[0], v, ranking[2]
    ),
    "mean_average_precision(top)": lambda v: metrics.mean_average_precision(*ranking, top=v),
    "mean_average_precision(D)": lambda v: metrics.mean_average_precision(*ranking, D=v),
    "precision_at": lambda v: metrics.precision_at(*ranking, v),
    "precision_recall_curve": lambda v: metrics.precision_recall_curve(*ranking, levels=v),
    "Pairs": lambda v: deepq.Pairs(v, v),
    "Positives(queries)": lambda v: deepq.Positives(v, np.arange(5)),
    "Positives(rows)": lambda v: deepq.Positives(Q, v),
    "dqn(bits)": lambda v: recipes.dqn(D, v),
    "dqn(nbits)": lambda v: recipes.dqn(D, 16, nbits=v),
    "dqn(backbone)": lambda v: recipes.dqn(D, 16, backbone=v),
    "dqn(width)": lambda v: recipes.dqn(D, 16, width=v),
    "class_codes(classes)": lambda v: recipes.class_codes(D, 16, v),
    "ksh(anchors)": lambda v: recipes.ksh(D, 16, anchors=v),
    "cnnh(bits)": lambda v: recipes.cnnh(D, v),
    "dnnh(margin)": lambda v: recipes.dnnh(D, 16, margin=v),
    "dnnh(divided)": lambda v: recipes.dnnh(D, 16, divided=v),
    **{
        f"TrainConfig({field.name})": lambda v, name=field.name: deepq.TrainConfig(**{name: v})
        for field in dataclasses.fields(deepq.TrainConfig)
        if field.name != "checkpoint"
    },
}


def made(name):
    """Return the odd value of a name."""
    if name in FRESH:
        return FRESH[name]()
    value = VALUES[name]
    if isinstance(value, io.IOBase):
        value.seek(0)
    return value


def emptied(index):
    index.reset()
    return index


def refused(value, function, *given):
    """Call with an odd value; return whether that was refused, in the right way."""
    try:
        function(*given, made(value))
    except (OSError, MemoryError):  # a word is taken for a path; for large sizes there is no room
        return True
    except (ValueError, TypeError, RuntimeError) as error:
        refusal = repr(error)
    except Exception as error:
        raise AssertionError(f"{value}: {error!r}") from error
    else:
        return False
    assert re.search("expected.*got", refusal, re.DOTALL), f"{value}: {refusal}"
    return True


@pytest.fixture(autouse=True)
def _quietly(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_works_or_changes_nothing(name):
    for value in (*VALUES, *FRESH):
        index = pickle.loads(FILLED)
        if name in ("codebooks after reset", "train after reset") or name.startswith("train("):
            index.reset()
        before = everything(index)
        if refused(value, METHODS[name], index):
            assert everything(index) == before, value
        index.search_type = index.ST_PQ
        assert index.search(Q, 2)[1].shape == (5, 2), value


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_works_or_says_what_it_expected(name):
    for value in (*VALUES, *FRESH):
        refused(value, FUNCTIONS[name])
