"""Search texts by meaning: WordNet's glosses, 16 bytes a text.

    python examples/text_search.py

The embeddings ship with the package, 384 numbers each; for texts of your own any
model that makes vectors will do. Prints results of three texts, then of one subject alone.
"""

from __future__ import annotations

import numpy as np

import deepq


def main() -> None:
    """Index the glosses, and search."""
    data = deepq.datasets.wordnet_glosses()
    index = deepq.DeepQuantIndex(data.d, 16, metric="cosine")
    index.train(data.train)
    index.add(data.base)
    whole, codes = data.base.nbytes, index.ntotal * index.code_size
    print(f"{index.ntotal:,} texts in {codes:,} bytes instead of {whole:,}")

    D, I = index.search(data.query, 3)
    for text, scores, rows in zip(data.query_texts[:3], D, I, strict=False):
        print(f"\n{text}")
        for score, row in zip(scores, rows, strict=True):
            print(f"  {score:.2f}  {data.base_texts[row]}")

    # Only among texts of one subject: an array of bools says which may be found.
    subject = data.query_labels[0]
    among = deepq.SearchParameters(sel=data.base_labels == subject)
    _, I = index.search(data.query[:1], 3, params=among)
    print(f"\nin {data.label_names[subject]}:")
    for row in I[0]:
        print(f"        {data.base_texts[row]}")
    assert np.all(data.base_labels[I[0]] == subject)


if __name__ == "__main__":
    main()
