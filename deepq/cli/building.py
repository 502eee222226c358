"""Commands that make and fill indexes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

import deepq
from deepq._common.errors import InputError
from deepq._common.safe_files import replacing, write_whole
from deepq.cli import inputs

_OF_FAISS = (".faiss", ".index")


@click.command(short_help="Learn an index from vectors in a file.")
@click.argument("data")
@click.argument("index")
@click.option("--kind", default="OPQ16,PQ16", show_default=True, help="What to learn, as above.")
@inputs.metric
@inputs.column
@click.option("--labels", metavar="FILE", help=".npy of classes or tags, where they are learned.")
@click.option("--add", "adds", is_flag=True, help="Add the vectors as well.")
@click.option("--seed", type=int, default=1234, show_default=True, help="Of everything random.")
@click.option(
    "--preset",
    type=click.Choice(["default", "fast", "best"]),
    default="default",
    help="How much a decoder may cost.",
)
@click.option("--max-points", type=int, help="Most vectors to learn from.")
@click.option("--max-seconds", type=float, help="No new stage begins after so long.")
@click.option("--checkpoint", metavar="FILE", help="Where to keep, and go on from, what there is.")
@click.option("--force", is_flag=True, help="Replace INDEX if it is there.")
@inputs.progress
@inputs.as_json
def train(
    data: str,
    index: str,
    kind: str,
    metric: str | None,
    column: str | None,
    labels: str | None,
    adds: bool,
    force: bool,
    progress: bool | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Learn an INDEX from the vectors in DATA.

    \b
      deepq train base.npy base.dpq                          16 bytes a vector
      deepq train base.parquet base.dpq --column emb --add   and store the vectors, too
      deepq train base.npy base.dpq --kind PQ8,Rerank100     ranked anew by a decoder
      deepq train base.fbin base.dpq --kind IVF1024,PQ16     in cells
      deepq train set.npz base.dpq --kind DQN24              with the labels in set.npz

    Kinds are those of faiss.index_factory, PQ16, PQ16x4, OPQ16,PQ16, IVF1024,PQ16, and more:
    deepq.index_factory says which. The M of PQ must divide the numbers of a vector. Of a big file a
    sample is read. Ctrl-C keeps the best so far in INDEX, if codebooks have been learned.
    """
    inputs.new_file(index, replaces=force)
    rows = inputs.rows_of(data, column, "train")
    made = deepq.index_factory(int(rows.shape[1]), kind, inputs.metric_of(metric, data))
    y = _labels(data, labels, kind)
    made.training = deepq.TrainConfig(**settings)
    made.verbose = inputs.shows_bars(progress)
    start = time.monotonic()
    try:
        if y is None:
            made.train(rows)
        else:
            made.train(rows, y)
        if adds:
            made.add(rows)
    except KeyboardInterrupt as stop:
        if made.is_trained:
            deepq.write_index(made, index)
            said = f"interrupted: {index} has the best so far, and {made.ntotal:,} vectors"
            stop.__notes__ = [said]
        raise
    made.verbose = False
    deepq.write_index(made, index)
    facts = {"index": index, "trained_on": len(rows), "ntotal": int(made.ntotal)}
    facts |= {"bytes_per_vector": int(made.code_size), "seconds": time.monotonic() - start}
    inputs.tell(facts, as_json=as_json)


@click.command(short_help="Store vectors in an index.")
@click.argument("index")
@click.argument("data")
@click.option("--output", metavar="FILE", help="Where to write; without it INDEX is replaced.")
@inputs.column
@inputs.progress
@inputs.as_json
def add(
    index: str,
    data: str,
    output: str | None,
    column: str | None,
    progress: bool | None,
    as_json: bool,
) -> None:
    """Add the vectors in DATA to a trained INDEX; ids follow on from those that are there.

    \b
      deepq add base.dpq base.parquet --column emb
      deepq add base.dpq more.npy --output bigger.dpq

    DATA is read block by block: memory holds the codes, not the vectors. The file is replaced when
    all is done; after an error or Ctrl-C it is as it was.
    """
    filled = inputs.index_of(index)
    rows = inputs.rows_of(data, column, "base")
    filled.verbose = inputs.shows_bars(progress)
    start, before = time.monotonic(), int(filled.ntotal)
    filled.add(rows)
    filled.verbose = False
    deepq.write_index(filled, output or index)
    added = int(filled.ntotal) - before
    facts = {"index": output or index, "added": added, "ntotal": int(filled.ntotal)}
    inputs.tell({**facts, "seconds": time.monotonic() - start}, as_json=as_json)


@click.command(short_help="Put the vectors of several indexes into one.")
@click.argument("indexes", metavar="INDEX...", nargs=-1, required=True)
@click.option("--output", metavar="FILE", required=True, help="Where to write.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@inputs.as_json
def merge(indexes: tuple[str, ...], output: str, force: bool, as_json: bool) -> None:
    """Write what is in all INDEXes, which must be of one training, as one index.

    \b
      deepq merge first.dpq second.dpq third.dpq --output whole.dpq

    Ids of each follow on from those of the ones before. Indexes of another fingerprint are refused.
    """
    inputs.new_file(output, replaces=force)
    whole = inputs.index_of(indexes[0])
    for path in indexes[1:]:
        other = inputs.index_of(path)
        try:
            whole.check_compatible_for_merge(other)
        except InputError as error:
            raise InputError(f"{path} beside {indexes[0]}: {error}") from error
        whole.merge_from(other)
    deepq.write_index(whole, output)
    facts = {"index": output, "merged": len(indexes), "ntotal": int(whole.ntotal)}
    inputs.tell({**facts, "fingerprint": whole.fingerprint}, as_json=as_json)


@click.command(short_help="Turn an index of deepq's into one of faiss's or Lance's, or back.")
@click.argument("source")
@click.argument("target")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["deepq", "faiss", "lance"]),
    help="Without it by TARGET's suffix.",
)
@click.option("--vectors", metavar="DATA", help="For Lance: the vectors that are in SOURCE.")
@inputs.column
@click.option("--force", is_flag=True, help="Replace TARGET if it is there, and no folder.")
@inputs.as_json
def convert(
    source: str,
    target: str,
    kind: str | None,
    vectors: str | None,
    column: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the index in SOURCE to TARGET, as a file of deepq's or faiss's, or for Lance.

    \b
      deepq convert old.faiss new.dpq        the codes stay, the scan is faster
      deepq convert base.dpq base.faiss      plain faiss opens it
      deepq convert base.dpq base.lance --vectors base.parquet

    A data set of Lance's has the embeddings of --vectors; or what the codes stand for.
    """
    if kind is None:
        kind = {".lance": "lance", **dict.fromkeys(_OF_FAISS, "faiss")}.get(
            Path(target).suffix, "deepq"
        )
    inputs.new_file(target, replaces=force and kind != "lance")
    if vectors is not None and kind != "lance":
        raise InputError(f"expected no --vectors for a file of {kind}'s, got {vectors}")
    index, inner = inputs.nest_of(source)
    if kind == "lance":
        rows = None if vectors is None else inputs.rows_of(vectors, column, "base")
        bare, ids = _and_ids(index)
        deepq.write_lance(bare, target, rows, ids=ids)
    elif kind == "deepq":
        if index is not inner:
            raise InputError(
                f"expected an index that is in no composite for a file of deepq's, got an "
                f"{type(index).__name__} in {source}: --to faiss keeps it"
            )
        deepq.write_index(index, target)
    else:
        import faiss

        plain = deepq.to_faiss(index) if index is inner else index
        with replacing(target) as file:
            write_whole(file, faiss.serialize_index(plain).data)
    facts = {"index": target, "format": kind, "ntotal": int(index.ntotal)}
    path = Path(target)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    inputs.tell({**facts, "bytes": sum(file.stat().st_size for file in files)}, as_json=as_json)


def _and_ids(index: Any) -> tuple[Any, Any]:
    """Return an index and its ids, of an IndexIDMap those of the map."""
    import faiss

    from deepq.index.interop import inner_index

    if not isinstance(index, faiss.IndexIDMap):
        return index, None
    return inner_index(faiss.downcast_index(index.index)), faiss.vector_to_array(index.id_map)


def _labels(data: str, labels: str | None, kind: str) -> Any:
    """Read the labels that a kind without codebooks of its own learns from."""
    if "PQ" in kind:
        if labels is not None:
            raise InputError(f"expected a kind that learns from labels with --labels, got {kind!r}")
        return None
    if labels is not None:
        return inputs.array_of(labels)
    found = deepq.datasets.load(data).train_labels if inputs.is_data_set(data) else None
    if found is None:
        raise InputError(f"expected --labels, or labels in {data}, for {kind!r}, got none")
    return found
