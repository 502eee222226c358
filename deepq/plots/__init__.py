"""Pictures of an index and of what it finds, and one page with all of them.

`curves` draws recall against bytes and time, and precision and recall by labels; `inside` a
training, the use of codebooks and buckets, and what codes lose; `found` a query and its results.
Each returns its Axes; `style` has colours. `reporting` writes a page of HTML about an index:
`questions` are what it is asked, `measured` finds its numbers, `charts` has pictures as SVG,
`pictures` images; `sections` and `samples` are parts of the page, in `markup`, and `page` puts them
together with the `stylesheet`.

It imports everything below, and matplotlib, from the extra ``deepq[plots]``, when it draws. A new
picture: a function in the file of its kind, one line here and in docs/plots.md.
"""

from deepq.plots.curves import (
    precision_at,
    precision_recall,
    recall_against_bytes,
    recall_against_time,
    recall_by_rank,
)
from deepq.plots.found import neighbours
from deepq.plots.inside import bucket_usage, codebook_usage, distortion, training
from deepq.plots.reporting import report

__all__ = [
    "bucket_usage",
    "codebook_usage",
    "distortion",
    "neighbours",
    "precision_at",
    "precision_recall",
    "recall_against_bytes",
    "recall_against_time",
    "recall_by_rank",
    "report",
    "training",
]
