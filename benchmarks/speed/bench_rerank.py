"""Speed of re-ranked search against faiss.IndexPQ, by the number of stored vectors.

    python -m benchmarks.speed.bench_rerank --data sift.npz --M 8 --output results/rerank.jsonl

Both store the same vectors, the base of the data set repeated with noise, in as many bytes. Ratios
are medians of paired CPU times of one thread, at faiss's default SIMD level and at its best. The
decoder is as large as training makes it. Its numbers are random, which makes no difference to its
speed; its `spare` is what training finds for SIFT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

import deepq
from benchmarks.common.harness import calls, in_one_thread, parser, run, versus
from benchmarks.common.vectors import Vectors, add_arguments, of
from deepq.decoders import Decoder
from deepq.encoders import Identity
from deepq.quantizers import ProductQuantizer
from deepq.training.settings import plan

COLUMNS = ["data", "M", "N", "nq", "us_per_query", "x_default", "x_best"]


def reranked(vectors: Vectors, M: int, rerank: int) -> deepq.DeepQuantIndex:
    """Make an index with codebooks of a short k-means and a decoder of random numbers."""
    quantizer = ProductQuantizer(M)
    quantizer.train(vectors.train, iterations=5)
    d, rng = vectors.d, np.random.default_rng(0)
    made = plan("default", d, M, len(vectors.train), None)
    h, w = made.hidden, made.inside
    shapes = {
        "tables": (M, 256, d),
        "features": (M, 256, h),
        "inner": (h, w),
        "bias": (w,),
        "outer": (w, h),
        "output": (h, d),
        "centre": (d,),
    }
    numbers = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    decoder = Decoder({"sites": quantizer.trained(), **numbers}, shrink=0.9, candidates=1, spare=20)
    quantizer.decoder = decoder
    return deepq.DeepQuantIndex(d, M, encoder=Identity(d), quantizer=quantizer, rerank=rerank)


def measured(options: Any, vectors: Vectors) -> Iterator[dict[str, Any]]:
    """Time searches of both while they grow."""
    ours = reranked(vectors, options.M, options.rerank)
    theirs = faiss.IndexPQ(vectors.d, options.M, 8)
    theirs.pq.cp.niter = 5
    theirs.train(vectors.train)
    for N in sorted(options.N):
        for index in (ours, theirs):
            index.reset()
            for block in vectors.blocks(N):
                index.add(block)
        for nq in options.nq:
            queries = vectors.queries(max(nq, min(options.queries, 4 * nq)))
            figures, _, _ = versus(
                calls(lambda x: ours.search(x, 10), queries, nq),
                calls(lambda x: theirs.search(x, 10), queries, nq),
                options.repeats,
            )
            seconds = sorted(figures["seconds"]["deepq"])[options.repeats // 2]
            yield {
                "data": vectors.name,
                "M": options.M,
                "N": N,
                "nq": nq,
                "rerank": options.rerank,
                "us_per_query": seconds / len(queries) * 1e6,
                **figures,
            }


def main() -> None:
    """Time every number of vectors and of queries asked for."""
    arguments = parser(__doc__ or "")
    add_arguments(arguments)
    arguments.add_argument("--M", type=int, default=8)
    arguments.add_argument("--rerank", type=int, default=100)
    arguments.add_argument("--N", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    arguments.add_argument("--nq", type=int, nargs="+", default=[1, 16, 256])
    arguments.add_argument("--queries", type=int, default=256, help="most queries of a round")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.N, options.nq, options.repeats = [1_000], [16], 1
    run(options, "rerank", measured(options, of(options)), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
