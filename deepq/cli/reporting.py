"""The command that writes a page about an index."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import deepq
from deepq._common.errors import FormatError, InputError
from deepq.cli import inputs

_NONE = "none"


@click.command(short_help="Write a page about an index: what it finds, takes and loses.")
@click.argument("index")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="Where to write; - is stdout.",
)
@click.option("--queries", metavar="FILE", help="Queries; without them some vectors of DATA.")
@click.option("--truth", metavar="FILE", help="True neighbours of the queries: .ivecs, ...")
@click.option("--labels", metavar="FILE", help=".npy of classes or tags of the vectors in INDEX.")
@click.option("--query-labels", metavar="FILE", help=".npy of those of the queries.")
@click.option("--texts", metavar="FILE", help="What the vectors stand for, a line for each.")
@click.option("--query-texts", metavar="FILE", help="What the queries stand for.")
@click.option("--images", metavar="FILE", help="Paths of pictures, a line for each vector.")
@click.option("--query-images", metavar="FILE", help="Paths of pictures of the queries.")
@click.option("--suggestions", metavar="FILE", help="What deepq suggest --json has printed.")
@click.option("--title", help="Heading; without it the name of INDEX.")
@click.option(
    "--max-queries",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Queries that are searched at most.",
)
@click.option(
    "--samples",
    type=click.IntRange(0),
    default=6,
    show_default=True,
    help="Queries that are shown with their results.",
)
@click.option("--seed", type=int, default=1234, show_default=True, help="Of what is drawn.")
@inputs.column
@inputs.progress
@inputs.as_json
def report(
    index: str,
    data: str,
    output: str,
    queries: str | None,
    truth: str | None,
    labels: str | None,
    query_labels: str | None,
    texts: str | None,
    query_texts: str | None,
    images: str | None,
    query_images: str | None,
    suggestions: str | None,
    title: str | None,
    column: str | None,
    progress: bool | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write one page of HTML about INDEX, which needs no other file and no network.

    \b
      deepq report base.dpq base.npy                         some of the vectors are the queries
      deepq report base.dpq base.npy --queries queries.npy -o page.html
      deepq report base.dpq set.npz                          with its queries, labels and texts
      deepq report base.dpq none --queries q.npy --truth gt.ivecs
      deepq report base.dpq base.npy --texts lines.txt --labels classes.npy

    DATA are the vectors that are in INDEX, in its order, or a data set; or none, where the vectors
    are gone. Vectors that are queries may not be found. True neighbours that nobody gives are
    computed. Of a lot of queries some are drawn.
    """
    from deepq.plots.reporting import report as write  # here: it imports much

    opened = inputs.index_of(index)
    known = _known(data, column)
    told = write(
        opened,
        known,
        sys.stdout.buffer if output == "-" else output,
        queries=None if queries is None else inputs.rows_of(queries, column, "query"),
        truth=None if truth is None else deepq.datasets.read_vectors(truth),
        labels=None if labels is None else inputs.array_of(labels),
        query_labels=None if query_labels is None else inputs.array_of(query_labels),
        texts=_lines(texts),
        query_texts=_lines(query_texts),
        images=_lines(images, paths=True),
        query_images=_lines(query_images, paths=True),
        suggestions=_suggestions(suggestions),
        title=Path(index).name if title is None else title,
        verbose=inputs.shows_bars(progress),
        **settings,
    )
    if output != "-":
        size = Path(output).stat().st_size
        inputs.tell({"report": output, **told, "bytes": size}, as_json=as_json)


def _known(data: str, column: str | None) -> Any:
    """Open what is known of the vectors in an index: a data set, vectors, or nothing."""
    if data == _NONE and not Path(data).exists():
        return None
    if column is None and inputs.is_data_set(data):
        return deepq.datasets.load(data)
    return inputs.rows_of(data, column, "base")


def _lines(path: str | None, *, paths: bool = False) -> list[Any] | None:
    """Read a text or path from every line; paths are those of files beside the list."""
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"expected lines of UTF-8 in {path}, got: {error}") from error
    if not lines[-1]:
        lines.pop()
    return [Path(path).parent / line for line in lines] if paths else list(lines)


def _suggestions(path: str | None) -> list[Any]:
    found = []
    for line in _lines(path) or []:
        try:
            found.append(deepq.Suggestion(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"expected lines of deepq suggest --json in {path}, got {line!r:.60}"
            ) from error
    return found
