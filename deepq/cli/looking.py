"""Commands that say what is there, and what to take."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

import deepq
from deepq.cli import inputs

_MOST_ROWS = 50_000  # that are compared


@click.command(short_help="Say what is in a file.")
@click.argument("path")
@click.option("--drift", metavar="DATA", help="Vectors that an index is compared with.")
@click.option("--warn-above", type=float, default=0.1, show_default=True, help="Drift to warn of.")
@inputs.column
@inputs.as_json
def info(
    path: str, drift: str | None, warn_above: float, column: str | None, as_json: bool
) -> None:
    """Say what an index, a data set or a file of vectors holds.

    \b
      deepq info base.dpq
      deepq info base.parquet --column emb
      deepq info base.dpq --drift today.parquet --column emb

    Drift says how much more the vectors of DATA lose than those like which the index was trained: 0
    is as much, 1 twice as much. Of many a sample is taken.
    """
    from deepq.datasets.vectors import KNOWN

    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"expected a file {path}, got none")
    if drift is not None:
        index = inputs.index_of(path)
        facts = _of_index(index) | _drifted(index, drift, column, warn_above)
    elif column is None and inputs.is_data_set(path):
        facts = _of_data_set(deepq.datasets.load(path))
    elif place.is_dir() or place.suffix.lower() in KNOWN:
        rows = deepq.datasets.read_vectors(path, column)
        facts = {"kind": "vectors", "n": len(rows), "d": rows.shape[1], "dtype": str(rows.dtype)}
    else:
        outer, inner = inputs.nest_of(path)
        facts = _of_index(inner)
        if outer is not inner:
            facts = {"in": type(outer).__name__, **facts, "ntotal": int(outer.ntotal)}
            facts["d"] = int(outer.d)  # a transform may change it
        facts["bytes"] = place.stat().st_size
    inputs.tell(facts, as_json=as_json)


@click.command(short_help="Say which settings to take.")
@click.argument("data")
@click.option("--bytes", "size", type=int, help="The most bytes a vector may take.")
@click.option("--recall", type=float, help="The least 10-recall@10, from 0 to 1.")
@inputs.metric
@inputs.column
@click.option("--seed", type=int, default=1234, show_default=True, help="Of everything random.")
@inputs.progress
@inputs.as_json
def suggest(
    data: str,
    size: int | None,
    recall: float | None,
    metric: str | None,
    column: str | None,
    seed: int,
    progress: bool | None,
    as_json: bool,
) -> None:
    """Try settings on a sample of DATA, and print those that fit, the best first.

    \b
      deepq suggest base.parquet --bytes 16
      deepq suggest base.npy --recall 0.6 --json
    """
    if (size is None) == (recall is None):
        raise click.UsageError("expected either --bytes or --recall")
    found = deepq.suggest(
        inputs.rows_of(data, column, "base"),
        bytes_per_vector=size,
        recall=recall,
        metric=inputs.metric_of(metric, data),
        seed=seed,
        verbose=inputs.shows_bars(progress),
    )
    for one in found:
        click.echo(json.dumps(dataclasses.asdict(one)) if as_json else str(one))


def _of_index(index: Any) -> dict[str, Any]:
    cells = {
        name: int(getattr(index, name)) for name in ("nlist", "nprobe") if hasattr(index, name)
    }
    return {
        "kind": type(index).__name__,
        "d": int(index.d),
        "metric": "l2" if index.metric_type == inputs.METRICS["l2"] else "ip",
        "M": int(index.pq.M),
        "nbits": int(index.pq.nbits),
        **cells,
        "bytes_per_vector": int(index.code_size),
        "encoder": ", ".join(type(member).__name__ for member in index.encoder.members),
        "rerank": int(index.rerank),
        "is_trained": bool(index.is_trained),
        **({"fingerprint": index.fingerprint} if index.is_trained else {}),
        "ntotal": int(index.ntotal),
    }


def _drifted(index: Any, data: str, column: str | None, most: float) -> dict[str, Any]:
    import numpy as np

    rows = inputs.rows_of(data, column, "base")
    if len(rows) > _MOST_ROWS:
        rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), _MOST_ROWS, replace=False))]
    found: Any = deepq.diagnose(index, np.asarray(rows), warn_above=most)
    facts = {"rows": found.n, "relative_error": found.error, "bits": found.bits}
    return {**facts, "drift": found.drift, "idle_bits": found.idle}


def _of_data_set(data: Any) -> dict[str, Any]:
    metric = {1: "l2", 0: "ip"}.get(data.metric, data.metric)
    parts = {part: len(getattr(data, part)) for part in ("train", "base", "query")}
    depth = 0 if data.gt is None else data.gt.shape[1]
    facts = {"kind": "data set", **parts, "d": data.d, "dtype": str(data.base.dtype)}
    return {**facts, "metric": metric, "true_neighbours": depth}
