"""Speed of the way into an index: encoding, and the k-means that makes the codebooks.

    python -m benchmarks.speed.bench_encode --case add --data sift.npz \
        --output benchmarks/results/encode.jsonl

The same with `--data text.npz` and `--gauss 128`. Without --case all are run:

    add     DeepQuantIndex.add against faiss.IndexPQ.add on the same codebooks: with the encoder
            Identity, like with like, and with the default one, where faiss gets vectors that are
            encoded already
    single  the same rows, as many as --singles, added one by one to both, with the encoder Identity
    kmeans  deepq.quantizers.ProductQuantizer.train against faiss.ProductQuantizer.train: the same
            rows of the training part (--train-rows), 25 iterations of each; `error_ratio` is our
            mean squared error of these rows over faiss's

Codes have a byte for every 8 or 16 dimensions of 128, and for every 8 of 384. The timing is that of
bench_scan.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.common import pairs, vectors
from benchmarks.common.harness import in_one_thread, parser, run, versus
from benchmarks.common.vectors import Floats, Vectors
from deepq.quantizers import ProductQuantizer

COLUMNS = [
    *("case", "data", "d", "M", "rows", "encoder", "us_per_vector", "x_default", "x_best"),
    *("codes_equal", "error_ratio"),
]
SIZES = {128: (8, 16), 384: (48,), 768: (96,)}
_ITERATIONS = 25
# Codebooks of the case `add` need few.
_ROWS_FOR_CODEBOOKS = 20_000


def add(source: Vectors, M: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure adding the same rows to both, with every encoder."""
    x = np.concatenate(list(source.blocks(options.n)))
    few = replace(source, train=source.train[:_ROWS_FOR_CODEBOOKS])
    for encoder in pairs.ENCODERS:
        ours = pairs.trained(few, M, 8, encoder)
        theirs, z = pairs.empty_twin(ours), ours.encoder.encode(x)
        figures, *_ = versus(partial(_add, ours, x), partial(_add, theirs, z), options.repeats)
        equal = float((pairs.stored(ours) == pairs.stored(theirs)).mean())
        yield {"encoder": encoder, **_per_vector(figures, len(x)), "codes_equal": equal}


def _add(index: Any, x: Floats) -> None:
    """Add x to an index that is emptied first."""
    index.reset()
    index.add(x)


def single(source: Vectors, M: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure adding rows one by one, as stores do that insert document by document."""
    x = next(source.blocks(options.n))[: options.singles]
    few = replace(source, train=source.train[:_ROWS_FOR_CODEBOOKS])
    ours = pairs.trained(few, M, 8, "identity")
    theirs = pairs.empty_twin(ours)
    figures, *_ = versus(
        partial(_add_singly, ours, x), partial(_add_singly, theirs, x), options.repeats
    )
    equal = float((pairs.stored(ours) == pairs.stored(theirs)).mean())
    yield {"encoder": "identity", **_per_vector(figures, len(x)), "codes_equal": equal}


def _add_singly(index: Any, x: Floats) -> None:
    """Add the rows of x in as many calls to an index that is emptied first."""
    index.reset()
    for i in range(len(x)):
        index.add(x[i : i + 1])


def kmeans(source: Vectors, M: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure training codebooks on the same rows."""
    z = source.train

    def ours() -> Floats:
        quantizer = ProductQuantizer(M)
        quantizer.train(z, iterations=_ITERATIONS, seed=options.seed)
        return quantizer.trained()

    def theirs() -> Floats:
        quantizer = faiss.ProductQuantizer(source.d, M, 8)
        quantizer.cp.niter, quantizer.cp.seed = _ITERATIONS, options.seed
        quantizer.train(z)
        return faiss.vector_to_array(quantizer.centroids).reshape(M, 256, -1)

    figures, *codebooks = versus(ours, theirs, options.repeats)
    error, faiss_error = (_error(z, books) for books in codebooks)
    yield {**_per_vector(figures, len(z)), "error_ratio": error / faiss_error, "error": error}


def _error(z: Floats, codebooks: Floats) -> float:
    """Return the mean squared error of the rows of z."""
    quantizer = ProductQuantizer(len(codebooks))
    quantizer.codebooks = codebooks
    return float(np.square(z - quantizer.decode(quantizer.encode(z))).sum(axis=1).mean())


def _per_vector(figures: dict[str, Any], rows: int) -> dict[str, Any]:
    us = median(figures["seconds"]["deepq"]) / rows * 1e6
    return {"rows": rows, "us_per_vector": us, **figures}


CASES = {"add": add, "single": single, "kmeans": kmeans}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the cases asked for with every size of code."""
    source = vectors.of(options)
    for case in options.case:
        for M in options.M or SIZES.get(source.d, (8,)):
            about = {"case": case, "data": source.name, "d": source.d, "M": M}
            yield from (about | row for row in CASES[case](source, M, options))


def main() -> None:
    """Measure the cases asked for."""
    arguments = parser(__doc__ or "", CASES)
    vectors.add_arguments(arguments, train_rows=65_536)
    arguments.add_argument("--M", type=int, nargs="+", help="default: as above")
    arguments.add_argument("--n", type=int, default=50_000, help="rows to add")
    arguments.add_argument("--singles", type=int, default=1000, help="rows to add one by one")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.n, options.M, options.repeats, options.singles = 2000, [8], 1, 100
    run(options, "encode", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
