"""One page of HTML about an index: what it is, finds, takes and loses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from deepq._common.arrays import as_array
from deepq._common.checks import as_count, as_flag, as_integer
from deepq._common.errors import KindError
from deepq._common.safe_files import refuse_special, replacing, require_method, write_whole
from deepq.evaluation.suggestion import Suggestion
from deepq.index.flat import DeepQuantIndex
from deepq.index.interop import from_faiss
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.plots import sections, style
from deepq.plots.markup import Html
from deepq.plots.measured import Findings, facts, measure
from deepq.plots.page import lead, numbers, whole
from deepq.plots.questions import Questions, questions
from deepq.plots.samples import samples as sample_cards


def report(
    index: Any,
    data: Any,
    output: str | os.PathLike[str] | BinaryIO,
    *,
    queries: Any = None,
    truth: Any = None,
    labels: Any = None,
    query_labels: Any = None,
    texts: Any = None,
    query_texts: Any = None,
    images: Any = None,
    query_images: Any = None,
    suggestions: Iterable[Suggestion] = (),
    title: str | None = None,
    max_queries: int = 500,
    samples: int = 6,
    seed: int = 1234,
    verbose: bool = False,
) -> dict[str, Any]:
    """Measure an index, and write one page of HTML about it.

    The page needs no other file and no network, and runs no script. It is made for wide and narrow
    screens, light and dark, and for paper. It says what the index is, what it finds of the true
    neighbours and by labels, how long queries take, how codebooks are used, what codes lose, how
    the training went, and shows queries with their results.

    Parameters
    ----------
    index : DeepQuantIndex, DeepQuantIVFIndex, or what `from_faiss` takes
        A trained index with vectors, whose ids are their positions.
    data : Dataset, (n, d) array, `datasets.RowSource` or None
        The stored vectors as they were, in the order of the index. A data set has its queries,
        true neighbours, labels and texts as well. None is enough beside `queries` and `truth`, or
        `queries` and labels of an index that has learned from labels.
    output : path or binary file
        Where to write. The file of a path is replaced when the page is done.
    queries : (nq, d) array, optional
        What to search for. Without queries some of the stored vectors are: they may not be found
        then, by themselves or by others.
    truth : (nq, depth) array of int, optional
        Ids of the true neighbours of `queries` in ranked order. Without it they are computed, by
        the metric of the index; not for an index that has learned from labels where there are
        labels, which say what it is to find.
    labels, query_labels : (n,) or (n, c) arrays, optional
        Classes or tags of the stored vectors and of `queries`, as `metrics` takes them.
    texts, query_texts : sequences of str, optional
        What stored vectors and `queries` stand for.
    images, query_images : sequences of arrays or paths, optional
        Their pictures: (C, H, W), (H, W, C) or (H, W), uint8 or floats from 0 to 1, or files. An
        index that takes images needs none.
    suggestions : iterable of Suggestion
        What `deepq.suggest` has tried, to be drawn beside.
    title : str, optional
        Heading of the page.
    max_queries, samples : int
        How many queries are searched at most, and how many are shown with their results. They are
        drawn at random.
    seed : int
        Seed of what is drawn.
    verbose : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    dict
        The main figures: "queries", "us_per_query", and where they are known recall, mAP and the
        like by name, and "error", what codes lose.

    Raises
    ------
    StateError
        If the index is not trained, or empty.
    InputError, DimensionError, KindError
        If data, queries, truth, labels, texts or pictures do not fit the index and each other.
    ImportError
        If matplotlib is missing.
    OSError
        If the file cannot be written.
    """
    style.needed("matplotlib")
    if isinstance(output, str | os.PathLike):  # before all that takes time
        refuse_special(Path(output))
        if not Path(output).absolute().parent.is_dir():
            raise FileNotFoundError(f"expected a folder for {os.fspath(output)}, got none")
    else:
        require_method(output, "write")
    if not isinstance(index, DeepQuantIndex | DeepQuantIVFIndex):
        index = from_faiss(index)
    tried = list(suggestions)
    wrong = [one for one in tried if not isinstance(one, Suggestion)]
    if wrong:
        raise KindError(f"expected suggestions of deepq.suggest, got {type(wrong[0]).__name__}")
    seed, shown = as_integer(seed, "seed"), as_count(samples, "samples")
    quiet = not as_flag(verbose, "verbose")
    asked = questions(
        index,
        data,
        queries=queries,
        truth=None if truth is None else as_array(truth, "truth"),
        labels=(query_labels, labels),
        texts=(query_texts, texts),
        images=(query_images, images),
        max_queries=max_queries,
        seed=seed,
    )
    with tqdm(desc="report", unit="step", disable=quiet) as bar:

        def tell(step: str) -> None:
            bar.set_postfix_str(step)
            bar.update()

        found = measure(index, asked, seed, tell)
        tell("page")
        parts = _parts(index, asked, found)
        if shown:
            parts["samples"] = "Queries", sample_cards(index, asked, shown, seed)
        if tried:
            parts["settings"] = "Other settings", sections.suggestions(tried)
        heading = title or "What this index finds"
        content = whole(heading, lead(index, asked), numbers(index, found), parts).encode()
    if isinstance(output, str | os.PathLike):
        with replacing(output) as file:
            write_whole(file, content)
    else:
        write_whole(output, content)
    told: dict[str, Any] = {"queries": len(asked.queries), "us_per_query": found.together_us}
    told |= found.recalls | found.by_labels
    if found.lost is not None and found.lost.error is not None:
        told["error"] = found.lost.error
    return told


def _parts(index: Any, asked: Questions, found: Findings) -> dict[str, tuple[str, Html]]:
    """Return what is known, by the names of sections: what the menu calls it, and the section."""
    parts: dict[str, tuple[str, Html]] = {}
    if asked.truth is not None:
        parts["recall"] = "Recall", sections.recall(found, asked)
    if found.deep is not None:
        parts["labels"] = "Labels", sections.by_labels(found)
    parts["time"] = "Time", sections.times(found, asked)
    parts["codebooks"] = "Codes", sections.codebooks(found)
    if index.history:
        parts["training"] = "Training", sections.training(index.history)
    parts["index"] = "Index", sections.index_facts(facts(index))
    return parts
