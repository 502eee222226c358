"""Encoders inside C++ live as long as what needs them, and no longer."""

from __future__ import annotations

import copy
import gc
import os
import threading
import weakref
from pathlib import Path

import faiss
import numpy as np

import deepq

from .builders import D_OUT, XB, M, Waved, filled, run, trained, waved


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_encoder_lives_as_long_as_the_index():
    index = filled()
    encoder, twin = weakref.ref(index.encoder), copy.copy(index)
    del index
    gc.collect()
    assert encoder() is None
    assert twin.encoder.is_fitted


def test_a_composite_keeps_an_encoder_and_frees_it():
    inside = trained(waved())
    encoder = weakref.ref(inside.encoder)
    mapped = faiss.IndexIDMap(inside)
    del inside
    gc.collect()
    assert encoder() is not None
    mapped.add_with_ids(XB, np.arange(300))
    del mapped
    gc.collect()
    assert encoder() is None


def test_encoders_are_freed_in_another_thread():
    held = [filled()]
    encoder = weakref.ref(held[0].encoder)
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    gc.collect()
    assert encoder() is None


def test_making_and_deleting_leaves_nothing_behind():
    W, books = np.ones((D_OUT, 1 << 14), np.float32), np.zeros((M, 16, D_OUT // M), np.float32)
    living, base = weakref.WeakSet(), 0
    for i in range(300):
        index = deepq.DeepQuantIndex.from_codebooks(books, Waved(W))
        living.add(index.encoder)
        faiss.IndexIDMap(index).search(W[:1], 1)
        index._native.write_encoder(Waved(W))
        del index
        if i == 30:
            gc.collect()
            base = resident()
    gc.collect()
    assert not living
    assert resident() - base < 20 * W.nbytes  # of 270, each with several copies


EXIT = """
import sys, threading, time
import faiss, numpy as np, deepq
class Waved(deepq.encoders.Encoder):
    def encode(self, x):
        return np.tanh(x)
x = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
index = deepq.DeepQuantIndex.from_codebooks(x[:16, :8].reshape(4, 16, 2), Waved(8, 8))
mapped = faiss.IndexIDMap2(index)
mapped.add_with_ids(x, np.arange(64))
chain = faiss.downcast_index(index)
sys.held = Waved.held = [index, mapped, chain]
def search():
    while True:
        mapped.search(x, 3)
if len(sys.argv) > 1:
    threading.Thread(target=search, daemon=True).start()
    time.sleep(0.1)
print(mapped.search(x, 1)[1].shape)
"""


def test_the_interpreter_ends_with_living_objects():
    assert run(EXIT) == "(64, 1)\n"
