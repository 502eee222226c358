"""Speed of DeepQuantIndex.search on other codes than 8-bit ones, against faiss's index for them.

    python -m benchmarks.speed.bench_codes --case fourbit --data sift.npz \
        --output benchmarks/results/codes.jsonl

The same with `--data text.npz` and `--gauss 128`. Without --case all of these are run, with 1, 64
and 256 queries at once, 1M codes, k = 10:

    fourbit  4-bit codes against faiss.IndexPQFastScan, which is approximate: `overlap` is the part
             of the exact ten best that it finds; ours are compared with those of faiss.IndexPQ
    binary   48 and 64-bit hashes, as codebooks whose codewords are all patterns of +-1, with
             queries of +-1, against faiss.IndexBinaryFlat
    short    12-bit hashes, of which many are equal, in the same way against faiss.IndexPQ

The hashes are the signs of random projections from the mean of the training part. The base, the
queries and the timing are those of bench_scan.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common import pairs, vectors
from benchmarks.common.harness import in_one_thread, parser, run
from benchmarks.common.pairs import Load, Pair, agreement, joined, queries_for
from benchmarks.common.vectors import Floats, Vectors
from deepq.metrics import recall

COLUMNS = [
    *("case", "data", "N", "M", "nbits", "nq", "us_per_query", "x_default", "x_best"),
    *("overlap", "ids_equal", "scores_equal"),
]
FOURBIT_M = (16, 32)
BINARY_M = (6, 8)
SHORT = ((3, 4), (2, 6))  # M, nbits
_FASTSCAN_BLOCK = 32
_CHECKED = 8  # queries that faiss.IndexPQ, slow with 4 bits, answers to check ours


def fourbit(source: Vectors, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure exact searches of 4-bit codes against approximate ones."""
    for M in options.M or FOURBIT_M:
        index = pairs.trained(source, M, 4, options.encoder)
        exact = pairs.pair(index, pairs.codes_of(index, source, options.n), "L2")
        pair = Pair(exact.ours, faiss.IndexPQFastScan(exact.theirs, _FASTSCAN_BLOCK))
        for nq in options.nq:
            queries = source.queries(queries_for(nq, options.n, options.k))
            encoded = index.encoder.encode(queries)
            figures, ours, approximate = Load(
                pair, queries, encoded, nq, options.k, options.repeats
            ).versus()
            few = Load(exact, queries[:_CHECKED], encoded[:_CHECKED], 1, options.k, 1)
            yield {
                "M": M,
                "nbits": 4,
                "nq": nq,
                **figures,
                "overlap": recall(joined(approximate)[1], joined(ours)[1], options.k, options.k),
                **agreement(few.ours()(), few.theirs()()),
            }


def binary(source: Vectors, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure searches of hashes of whole bytes against those by Hamming distance."""
    for M in BINARY_M:
        hashes = Hashes(source, M, 8, options)
        flat = faiss.IndexBinaryFlat(8 * M)
        flat.add(hashes.codes)
        for nq in options.nq:
            load = hashes.load(flat, nq)
            load = replace(load, encoded=hashes.pack(load.queries))
            figures, ours, theirs = load.versus()
            # Each bit that differs is a distance of 2 along its axis.
            squared = [(4 * D, I) for D, I in theirs]
            yield {"M": M, "nbits": 8, "nq": nq, **figures, **agreement(ours, squared)}


def short(source: Vectors, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure searches of hashes so short that many are equal."""
    for M, nbits in SHORT:
        hashes = Hashes(source, M, nbits, options)
        theirs = pairs.empty_twin(hashes.index)
        theirs.add_sa_codes(hashes.codes)
        for nq in options.nq:
            figures, *answers = hashes.load(theirs, nq).versus()
            yield {"M": M, "nbits": nbits, "nq": nq, **figures, **agreement(*answers)}


class Hashes:
    """Signs of random projections: as codes in our index, and as queries of +-1."""

    def __init__(self, source: Vectors, M: int, nbits: int, options: argparse.Namespace) -> None:
        self._source, self._options = source, options
        rng = np.random.default_rng(options.seed)
        self._axes = rng.standard_normal((source.d, M * nbits), dtype=np.float32)
        self._mean = source.train.mean(axis=0)
        self.codes = np.concatenate([self.pack(self._signs(x)) for x in source.blocks(options.n)])
        self.index = deepq.DeepQuantIndex.from_codebooks(np.stack([hypercube(nbits)] * M))
        self.index.add_sa_codes(self.codes)

    def load(self, theirs: Any, nq: int) -> Load:
        """Return searches of ours and another index, both by queries of +-1."""
        count = queries_for(nq, self._options.n, self._options.k)
        queries = self._signs(self._source.queries(count))
        pair = Pair(self.index, theirs)
        return Load(pair, queries, queries, nq, self._options.k, self._options.repeats)

    def _signs(self, x: Floats) -> Floats:
        return np.where((x - self._mean) @ self._axes > 0, np.float32(1), np.float32(-1))

    @staticmethod
    def pack(signs: Floats) -> NDArray[np.uint8]:
        """Return hashes as codes: a stream of bits, the first the least significant."""
        return np.packbits(signs > 0, axis=1, bitorder="little")


def hypercube(bits: int) -> Floats:
    """Return the codewords (2**bits, bits) whose +-1 are the bits of their numbers."""
    numbers = np.arange(1 << bits)[:, None]
    return (numbers >> np.arange(bits) & 1).astype(np.float32) * 2 - 1


CASES = {"fourbit": fourbit, "binary": binary, "short": short}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the cases asked for."""
    source = vectors.of(options)
    for case in options.case:
        about = {"case": case, "data": source.name, "d": source.d, "N": options.n, "k": options.k}
        yield from (about | row for row in CASES[case](source, options))


def main() -> None:
    """Measure the cases asked for."""
    arguments = parser(__doc__ or "", CASES)
    vectors.add_arguments(arguments)
    arguments.add_argument("--M", type=int, nargs="+", help="of the 4-bit codes; default: 16 32")
    arguments.add_argument("--n", type=int, default=1_000_000)
    arguments.add_argument("--nq", type=int, nargs="+", default=[1, 64, 256])
    arguments.add_argument("--k", type=int, default=10)
    arguments.add_argument("--encoder", choices=list(pairs.ENCODERS), default="rotation")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.n, options.nq, options.repeats = 2000, [1, 64], 1
    run(options, "codes", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
