"""What an encoder raises inside faiss's C++ comes out with its text."""

from __future__ import annotations

import threading

import faiss
import numpy as np
import pytest

import deepq
from deepq.encoders import Encoder

from .builders import D_IN, D_OUT, XB, XQ, Failing, assert_same, copy_of, filled, native


@pytest.mark.parametrize(
    "use",
    [
        lambda i, x: i.search(x, 3),
        lambda i, x: i.add(x),
        lambda i, x: i.sa_encode(x),
        lambda i, _: i.reconstruct(0),
        lambda i, x: i.get_distance_computer().set_query(faiss.swig_ptr(x)),
    ],
)
@pytest.mark.parametrize("fault", [ValueError("no luck"), KeyboardInterrupt("no luck")], ids=repr)
def test_an_error_of_the_encoder_comes_out_with_its_text(failing, use, fault):
    Failing.fault = fault
    with pytest.raises(RuntimeError, match=f"{type(fault).__name__}: no luck"):
        use(native(failing), XQ[:, :D_OUT].copy())
    Failing.fault = None
    use(native(failing), XQ[:, :D_OUT].copy())
    assert failing.ntotal in (300, 309)


@pytest.mark.parametrize("threaded", [False, True])
def test_errors_come_out_of_other_threads(failing, threaded):
    shards = faiss.IndexShards(D_OUT, threaded)
    shards.add_shard(failing)
    shards.add_shard(copy_of(failing))
    Failing.fault = ValueError("no luck")
    with pytest.raises(RuntimeError, match="no luck"):
        shards.search(XQ[:, :D_OUT].copy(), 3)
    found: list[str] = []

    def search() -> None:
        try:
            native(failing).search(XQ[:, :D_OUT].copy(), 3)
        except RuntimeError as error:
            found.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert "no luck" in found[0]


def test_an_error_that_cannot_be_told_is_an_error_still(failing):
    class MuteError(Exception):
        def __str__(self):
            raise ValueError("nested")

    for fault in (MuteError(), UnicodeError("\udcff"), type("Ü", (Exception,), {})("ß")):
        Failing.fault = fault
        with pytest.raises(RuntimeError, match=type(fault).__name__):
            native(failing).search(XQ[:, :D_OUT].copy(), 3)


def test_an_encoder_may_search_and_fail_there():
    """Errors pass through two layers of C++."""
    inner = filled()

    class Nested(Encoder):
        def encode(self, x):
            return native(inner).search(x, D_OUT)[0]

    outer = filled(Nested(D_IN, D_OUT))
    expected = deepq.DeepQuantIndex.from_codebooks(outer.codebooks)
    expected.add(native(inner).search(XB, D_OUT)[0])
    queries = native(inner).search(XQ, D_OUT)[0]
    assert_same(native(outer).search(XQ, 3), expected.search(queries, 3))
    inner.encoder.encode = lambda _: 1 / 0
    with pytest.raises(RuntimeError, match=r"RuntimeError: .*ZeroDivisionError: division by zero"):
        native(outer).search(XQ, 3)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (np.zeros((9, 3)), r"expected an array \(9, 8\) of the encoder, got \(9, 3\)"),
        (np.zeros((1, D_OUT)), r"got \(1, 8\)"),
        (0.0, r"got \(\)"),
        (np.zeros((9, D_OUT), complex), "complex128"),
        (np.full((9, D_OUT), "z"), "<U1"),
    ],
    ids=["wide", "one row", "number", "complex", "text"],
)
def test_an_answer_of_the_wrong_kind_is_refused(failing, answer, text):
    Failing.answer = answer
    with pytest.raises(RuntimeError, match=text):
        native(failing).search(XQ[:, :D_OUT].copy(), 3)


def test_an_answer_in_double_precision_will_do(failing):
    right = native(failing).search(XQ[:, :D_OUT].copy(), 3)
    Failing.answer = np.asfortranarray(XQ[:, :D_OUT].astype(np.float64))
    assert_same(native(failing).search(XQ[:, :D_OUT].copy(), 3), right)
