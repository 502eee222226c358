"""What comes of reading a file: a refusal, the right index, or worse."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

import deepq
from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.files import Kind, Sizes

# From the best to the worst. "undetectable" is a file that is whole, but of another index: where a
# format has no checksums, nobody can tell.
OUTCOMES = (
    "refused",
    "same answers",
    "undetectable",
    "another error",
    "error when used",
    "out of memory",
    "silently wrong",
    "crash",
    "hang",
)
_QUERIES = 4


class Outcome(NamedTuple):
    """One of `OUTCOMES`; seconds of reading; what was raised."""

    what: str
    seconds: float = 0.0
    error: str = ""


class Case(NamedTuple):
    """A kind of file, and what the whole file answers."""

    kind: Kind
    sizes: Sizes
    content: bytes
    answers: bytes


def case_of(kind: Kind, sizes: Sizes, path: Path) -> Case:
    """Make a whole file and ask the index in it."""
    content = kind.content(kind.make(sizes))
    path.write_bytes(content)
    return Case(kind, sizes, content, _answers(deepq.read_index(path), kind, sizes))


def is_refusal(error: Exception, path: Path) -> bool:
    """Say whether an error is the one that is promised: it names the file."""
    return isinstance(error, deepq.FormatError) and str(path) in str(error)


def outcome(case: Case, damaged: bytes, path: Path) -> Outcome:
    """Read and use one damaged file, in a child."""
    path.write_bytes(damaged)
    start = time.monotonic()
    try:
        return in_child(lambda: read_and_use(case, damaged, path))
    except CrashError as error:
        return Outcome("crash", time.monotonic() - start, str(error))
    except HangError as error:
        return Outcome("hang", time.monotonic() - start, str(error))


def read_and_use(case: Case, damaged: bytes, path: Path) -> Outcome:
    """Read and use one damaged file, here."""
    start = time.monotonic()
    try:
        index = deepq.read_index(path)
    except MemoryError as error:
        return Outcome("out of memory", time.monotonic() - start, repr(error))
    except Exception as error:
        what = "refused" if is_refusal(error, path) else "another error"
        return Outcome(what, time.monotonic() - start, repr(error))
    seconds = time.monotonic() - start
    try:
        answers = _answers(index, case.kind, case.sizes)
        what, error = "silently wrong", ""
    except Exception as raised:
        answers, what, error = None, "error when used", repr(raised)
    if answers == case.answers:
        return Outcome("same answers", seconds)
    if case.kind.is_of_faiss and _is_whole(damaged):
        what = "undetectable"
    return Outcome(what, seconds, error)


def _answers(index: Any, kind: Kind, sizes: Sizes) -> bytes:
    """Return everything that a search of all vectors finds, and all decoded ones."""
    queries = sizes._replace(n=_QUERIES).x(5)
    found = [*index.search(queries, sizes.n)]
    if kind.decodes:
        found.append(index.reconstruct_n(0, sizes.n))
    return b"".join(np.ascontiguousarray(array).tobytes() for array in found)


def _is_whole(content: bytes) -> bool:
    """Say whether a file of faiss's is exactly what faiss writes of the index in it."""
    try:
        chain = deepq.to_faiss(deepq.read_index(io.BytesIO(content)))
    except deepq.FormatError:
        return False
    for i in range(chain.chain.size()):  # without what deepq adds, to know its own again
        transform = faiss.downcast_VectorTransform(chain.chain.at(i))
        if isinstance(transform, faiss.LinearTransform) and not transform.have_bias:
            transform.b.resize(0)
    index = chain if content[:4] == b"IxPT" else faiss.downcast_index(chain.index)
    return bool(faiss.serialize_index(index).tobytes() == content)
