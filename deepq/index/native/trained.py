"""Training by whoever calls the C++ object: a composite's `train` becomes that of the index inside.

A composite is C++ code, and trains the native chain by its virtual function: that would be faiss's
own rotation and codebooks, without a decoder. So the chain of an index gets a table of virtual
functions in which `train` calls the index (`_trained`). A chain that is trained already is left as
it is, as faiss does. What faiss makes of the object without us, by files or clones, is faiss's own.

This takes knowledge of faiss's classes that no header checks: `fault` does.
"""

from __future__ import annotations

import logging
import weakref
from functools import cache
from typing import Any

import faiss
import numpy as np

from deepq._common.types import Floats
from deepq.index.native import _trained
from deepq.index.native.known_faiss import untested

# Kept at import: a program may put a class of ours in its place.
_IndexPreTransform = faiss.IndexPreTransform

_log = logging.getLogger("deepq.index")

# By the address of the chain. The index keeps the chain; nothing here keeps the index.
_trainers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def place(chain: Any, trainer: Any) -> None:
    """Let `trainer.train(x)` be called where C++ code trains the chain, if this faiss can.

    It has `d` and `is_trained`, and must keep the chain as long as it lives.
    """
    if not fault():
        _place(chain, trainer)


def warn_of_another(rerank: int) -> None:
    """Log what is missing where encoder and codebooks come from somebody else than `train`."""
    if fault():
        _log.warning(
            "expected train() of the index itself, got what faiss made of its encoder and "
            "codebooks, without a decoder: composites cannot call us here, since %s",
            fault(),
        )
    elif rerank:
        _log.warning("expected train() for rerank=%s, got no decoder", rerank)


@cache
def fault() -> str:
    """Say why C++ code cannot train as we do here, if so; found out once, at the first need."""
    if untested():
        return untested()
    chain = _IndexPreTransform(faiss.IndexFlatL2(2))
    if not _trained.prepare(int(chain.this), _trainer_of):
        return f"the classes of this faiss {faiss.__version__} are not as expected"
    try:
        return "" if _works() else "a trial gave wrong numbers"
    except Exception as error:
        return f"a trial failed: {error!r}"


def _place(chain: Any, trainer: Any) -> None:
    _trainers[int(chain.this)] = trainer
    _trained.place(int(chain.this))


def _trainer_of(address: int) -> Any:
    trainer = _trainers.get(address)
    return None if trainer is None or trainer.is_trained else trainer


class _Trial:
    """Counts as trained once it has been, and keeps what it was given."""

    d, is_trained = 2, False

    def train(self, x: Floats) -> None:
        self.given, self.is_trained = x, True


def _works() -> bool:
    """Train a chain through a composite, with somebody who trains it and without."""
    x = np.array([[1, 2], [3, 5], [4, 4]], np.float32)
    chain, trial = _IndexPreTransform(faiss.IndexFlatL2(2)), _Trial()
    chain.is_trained = False
    _place(chain, trial)
    outer = faiss.IndexIDMap(chain)
    outer.train_c(len(x), faiss.swig_ptr(x))
    right = np.array_equal(trial.given, x) and not chain.is_trained
    del trial
    outer.train_c(len(x), faiss.swig_ptr(x))  # by faiss
    return right and bool(chain.is_trained)
