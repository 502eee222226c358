"""Cut the small data set that ships with deepq out of the large file of WordNet gloss embeddings.

    python -m benchmarks.common.make_wordnet_cut text_wordnet.npz

The large file holds int8 embeddings (all-MiniLM-L6-v2, 384 numbers, divide by `scale`) of the
glosses of WordNet 3.0 in three disjoint parts, train, base and query, in random order; the
lexicographer file of each as its label; and the texts as UTF-8 with offsets, in the order query,
base, train. The cut takes the first rows of each part and keeps this form, without the training
texts. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

ROWS = {"query": 500, "base": 10_000, "train": 10_000}
DEPTH = 100
TARGET = Path(__file__).resolve().parents[2] / "deepq" / "_data" / "wordnet_glosses.npz"


def exact_gt(base: np.ndarray, query: np.ndarray, depth: int) -> np.ndarray:
    """Return the L2 neighbours (nq, depth) of int8 rows; ties in ascending id.

    Sums of products of int8 numbers are exact in float64.
    """
    b, q = base.astype(np.float64), query.astype(np.float64)
    distances = (b * b).sum(axis=1) - 2.0 * (q @ b.T)
    return np.argsort(distances, axis=1, kind="stable")[:, :depth].astype(np.uint16)


def cut(source: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the small set."""
    with np.load(source, allow_pickle=False) as full:
        small = {part: full[part][:rows] for part, rows in ROWS.items()}
        small |= {f"{part}_label": full[f"{part}_label"][:rows] for part, rows in ROWS.items()}
        small |= {"label_names": full["label_names"], "scale": full["scale"]}
        offsets, utf8 = full["text_offsets"], full["text_utf8"]
        starts = {"query": 0, "base": len(full["query"])}
    small["gt"] = exact_gt(small["base"], small["query"], DEPTH)
    rows = np.concatenate([starts[part] + np.arange(ROWS[part]) for part in ("query", "base")])
    small["text_utf8"] = np.concatenate([utf8[offsets[i] : offsets[i + 1]] for i in rows])
    lengths = offsets[rows + 1] - offsets[rows]
    small["text_offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return small


def main() -> None:
    """Read the arguments, write the file, say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the large file, text_wordnet.npz")
    parser.add_argument("--out", type=Path, default=TARGET)
    args = parser.parse_args()
    np.savez_compressed(args.out, **cut(args.source))
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
