"""What a search has found, written block by block, to a file or stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from deepq._common.errors import InputError
from deepq._common.safe_files import replacing, write_whole

_CLOSED = 141  # 128 and the number of the signal

Answers = Iterator[tuple[Any, Any]]  # scores and ids (n, k) of blocks of queries
Writer = Callable[[Answers, int, Callable[[bytes], None]], None]


def write(answers: Answers, k: int, output: str, kind: str | None) -> None:
    """Write results of `k` a query in one of the formats of `WRITERS`.

    Parameters
    ----------
    answers : iterator of (D, I)
        Read while it is written, where the format goes line by line.
    k : int
        How many there are of a query.
    output : str
        A path, which is replaced in the end, or "-" for stdout.
    kind : str or None
        Name of the format; None for that of the suffix, or "jsonl" on stdout.

    Raises
    ------
    InputError
        If the suffix is of no format.
    """
    if kind is None:
        kind = "jsonl" if output == "-" else Path(output).suffix.removeprefix(".")
    if kind not in WRITERS:
        known = ", ".join(f".{name}" for name in WRITERS)
        raise InputError(
            f"expected --output that ends in one of {known}, or --format, got {output}"
        )
    with _opened(output) as file:
        WRITERS[kind](answers, k, lambda piece: write_whole(file, piece))


def _jsonl(answers: Answers, k: int, put: Callable[[bytes], None]) -> None:  # noqa: ARG001
    for number, scores, ids in _by_query(answers):
        line = json.dumps({"query": number, "ids": ids, "scores": scores})
        put(f"{line}\n".encode())


def _csv(answers: Answers, k: int, put: Callable[[bytes], None]) -> None:  # noqa: ARG001
    put(b"query,rank,id,score\n")
    for number, scores, ids in _by_query(answers):
        lines = zip(range(1, len(ids) + 1), ids, scores, strict=True)
        put("".join(f"{number},{rank},{i},{score!r}\n" for rank, i, score in lines).encode())


def _ivecs(answers: Answers, k: int, put: Callable[[bytes], None]) -> None:
    import numpy as np

    for _, I in answers:
        if I.max(initial=0) > np.iinfo(np.int32).max:
            raise InputError(f"expected ids of 32 bits in .ivecs, got {I.max()}")
        widths = np.full((len(I), 1), k)
        put(np.hstack([widths, I]).astype("<i4").tobytes())


def _npz(answers: Answers, k: int, put: Callable[[bytes], None]) -> None:
    import numpy as np

    D, I = _joined(answers, k)
    memory = io.BytesIO()
    np.savez(memory, D=D, I=I)
    put(memory.getvalue())


def _parquet(answers: Answers, k: int, put: Callable[[bytes], None]) -> None:
    import numpy as np

    from deepq.datasets.named import needed

    pa = needed("pyarrow", "Parquet files")
    parquet = needed("pyarrow.parquet", "Parquet files")
    D, I = _joined(answers, k)
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), k)
        for name, x in (("ids", I), ("scores", D))
    }
    memory = io.BytesIO()
    parquet.write_table(pa.table({"query": np.arange(len(I)), **columns}), memory)
    put(memory.getvalue())


WRITERS: dict[str, Writer] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "npz": _npz,
    "parquet": _parquet,
    "ivecs": _ivecs,
}


def _by_query(answers: Answers) -> Iterator[tuple[int, list[float], list[int]]]:
    """Yield the number of a query, and the scores and ids that it has."""
    number = 0
    for D, I in answers:
        for scores, ids in zip(D, I, strict=True):
            there = ids >= 0
            yield number, [float(str(score)) for score in scores[there]], ids[there].tolist()
            number += 1


def _joined(answers: Answers, k: int) -> tuple[Any, Any]:
    import numpy as np

    blocks = [(np.empty((0, k), np.float32), np.empty((0, k), np.int64)), *answers]
    D, I = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return D, I


def end_quietly() -> NoReturn:
    """End a run whose stdout nobody reads any more, as a program that the signal ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
    raise SystemExit(_CLOSED)


@contextmanager
def _opened(output: str) -> Iterator[BinaryIO]:
    if output == "-":
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            end_quietly()
        return
    with replacing(output) as file:
        yield file
