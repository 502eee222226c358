"""Commands that search and measure."""

from __future__ import annotations

from typing import Any

import click

import deepq
from deepq._common.errors import InputError
from deepq.cli import inputs, results

_BLOCK = 1024  # queries that are searched together


@click.command(short_help="Find the nearest stored vectors of queries.")
@click.argument("index")
@click.argument("queries")
@click.option(
    "-k", type=click.IntRange(1), default=10, show_default=True, help="Results of a query."
)
@click.option("--output", metavar="FILE", default="-", help="Where to write; stdout without it.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(results.WRITERS)),
    help="Without it by the suffix of FILE; jsonl on stdout.",
)
@click.option("--rerank", type=click.IntRange(0), help="How many results are ranked anew.")
@click.option("--nprobe", type=click.IntRange(1), help="Cells that a search looks into.")
@inputs.column
@inputs.progress
def search(
    index: str,
    queries: str,
    k: int,
    output: str,
    kind: str | None,
    rerank: int | None,
    nprobe: int | None,
    column: str | None,
    progress: bool | None,
) -> None:
    """Find the K nearest vectors in INDEX for each of QUERIES.

    \b
      deepq search base.dpq queries.npy                              a line of JSON a query
      deepq search base.dpq queries.npy --output answers.npz         arrays I and D
      deepq search base.dpq q.parquet --column emb --output a.parquet
      cat queries.npy | deepq search base.dpq - --format csv | head

    csv and jsonl leave out what is missing; in npz, parquet and ivecs its id is -1.
    """
    from tqdm import tqdm

    from deepq._common.arrays import as_vectors
    from deepq._common.sources import row_blocks

    searched, inner = inputs.nest_of(index)
    rows = inputs.rows_of(queries, column, "query")
    asked = (("rerank", rerank), ("nprobe", nprobe))
    given = {name: value for name, value in asked if value is not None}
    params = deepq.SearchParameters(**given) if given else None
    if searched is not inner:  # composites of faiss's differ in what they pass on
        if nprobe is not None and not hasattr(inner, "nprobe"):
            raise InputError(f"expected no --nprobe of an index without cells, got {nprobe}")
        for name, value in given.items():
            setattr(inner, name, value)
        params = None
    if rows.ndim != 2:
        raise InputError(f"expected queries of shape (n, d), got {rows.shape}")

    def answers() -> Any:
        quiet, count = not inputs.shows_bars(progress), -(-len(rows) // _BLOCK)
        blocks = row_blocks(rows, _BLOCK)
        for block in tqdm(blocks, "search", total=count, unit="block", disable=quiet):
            yield searched.search(as_vectors(block, searched.d, "queries"), k, params=params)

    results.write(answers(), k, output, kind)


@click.command(short_help="Measure what an index finds, and how fast.")
@click.argument("index")
@click.argument("data")
@click.option("--truth", metavar="FILE", help="True neighbours of the queries in DATA: .ivecs, ...")
@click.option(
    "--measures",
    default="1-recall@1,10-recall@10,us_per_query",
    show_default=True,
    help="Names, with commas: K-recall@R, mAP@R, precision@R, us_per_query, ...",
)
@inputs.column
@inputs.as_json
def evaluate(
    index: str, data: str, truth: str | None, measures: str, column: str | None, as_json: bool
) -> None:
    """Measure INDEX with the queries, true neighbours and labels of DATA.

    \b
      deepq evaluate base.dpq sift-128-euclidean.hdf5
      deepq evaluate base.dpq set.npz --measures mAP,us_per_query
      deepq evaluate base.dpq queries.npy --truth gt.ivecs --json

    DATA is a data set whose base is in INDEX, or queries, with --truth. True neighbours that a data
    set lacks are computed, which takes a while. Those of --truth are ids as INDEX answers with.
    """
    names = [name.strip() for name in measures.split(",")]
    measured, _ = inputs.nest_of(index)
    labels = None
    if truth is not None:
        queries = inputs.rows_of(data, column, "query")
        gt = deepq.datasets.read_vectors(truth)
    else:
        if not inputs.is_data_set(data):
            raise InputError(f"expected a data set, or --truth beside queries, got {data}")
        found = deepq.datasets.load(data)
        measured = _by_rows(measured)
        if len(found.base) != measured.ntotal:
            raise InputError(
                f"expected an index of the {len(found.base):,} vectors of {data}, got "
                f"{measured.ntotal:,}"
            )
        queries, gt = found.query, _truth(found, names, measured.ntotal)
        if found.query_labels is not None and found.base_labels is not None:
            labels = (found.query_labels, found.base_labels)
    inputs.tell(deepq.evaluate(measured, queries, gt, names, labels=labels), as_json=as_json)


def _by_rows(index: Any) -> Any:
    """Return what answers with the numbers of rows: the index in an IndexIDMap, which has ids."""
    import faiss

    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index


def _truth(data: Any, names: list[str], most: int) -> Any:
    """Return the true neighbours that the measures need, if they need any."""
    depths = [int(name.split("-")[0]) for name in names if name.split("-")[0].isdecimal()]
    return data.neighbours(min(max(depths), most)) if depths else None
