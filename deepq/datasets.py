"""Data sets in the formats that the field uses, and a small one that ships with the package.

Vectors come as a `Dataset`: `load`, `wordnet_glosses`. Labelled images come as an `ImageSet`
(`cifar10`, `cifar100`, `svhn`), which `retrieval_protocol` splits into a `Dataset` as papers do.
Lists of image files and their classes come as an `ImageList` (`image_list`, `nus_wide`,
`mirflickr25k`). Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from deepq._common.threads import openmp_threads
from deepq._image_files import ImageSet, cifar10, cifar100, svhn
from deepq._image_lists import ImageList, image_list, mirflickr25k, nus_wide
from deepq._vector_files import read_vectors

__all__ = [
    "Dataset",
    "ImageList",
    "ImageSet",
    "cifar10",
    "cifar100",
    "exact_neighbours",
    "image_list",
    "load",
    "mirflickr25k",
    "nus_wide",
    "read_vectors",
    "retrieval_protocol",
    "svhn",
    "wordnet_glosses",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_PARTS = ("train", "base", "query")
_QUERIES = 1000  # rows that become queries when a file has none of its own
_BASE_BLOCK, _QUERY_BLOCK = 1 << 18, 256
_SPARE = 16  # candidates past k: single precision may have ranked them wrongly


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Vectors to train on, to store and to search with, and what is known about them.

    Attributes
    ----------
    name : str
        For tables and pictures.
    train, base, query : (n, d) float32, or uint8 for images
        The three parts. They may be memory-mapped.
    gt : (nq, depth) int64 or None
        Ids in `base` of each query's nearest neighbours in L2, in ranked order.
    train_labels, base_labels, query_labels : (n,) int64, (n, c) bool or None
        One class for each vector, or a multi-hot row.
    label_names : tuple of str
        The name of each class, where known.
    base_texts, query_texts : tuple of str
        What the vectors stand for, where known.

    Raises
    ------
    ValueError
        If the parts do not fit each other.
    """

    name: str
    train: Array
    base: Array
    query: Array
    gt: Ints | None = None
    train_labels: Array | None = None
    base_labels: Array | None = None
    query_labels: Array | None = None
    label_names: tuple[str, ...] = ()
    base_texts: tuple[str, ...] = ()
    query_texts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part} {getattr(self, part).shape}" for part in _PARTS)
        return f"<Dataset {self.name}: {sizes}>"

    def __post_init__(self) -> None:
        for part in _PARTS:
            x, labels = getattr(self, part), getattr(self, f"{part}_labels")
            if x.ndim != 2 or x.shape[1] != self.d:
                raise ValueError(
                    f"{self.name}: expected {part} of shape (n, {self.d}) like base, got {x.shape}"
                )
            if labels is not None and (labels.ndim > 2 or labels.shape[:1] != (len(x),)):
                raise ValueError(
                    f"{self.name}: expected {len(x)} labels for {part}, got shape {labels.shape}"
                )
        for part in ("base", "query"):
            texts = getattr(self, f"{part}_texts")
            if texts and len(texts) != len(getattr(self, part)):
                raise ValueError(
                    f"{self.name}: expected {len(getattr(self, part))} texts for {part}, "
                    f"got {len(texts)}"
                )
        self._check_gt()

    def _check_gt(self) -> None:
        gt = self.gt
        if gt is None:
            return
        if gt.ndim != 2 or len(gt) != len(self.query):
            raise ValueError(
                f"{self.name}: expected gt of shape ({len(self.query)}, depth), got {gt.shape}"
            )
        if gt.size and (gt.min() < 0 or gt.max() >= len(self.base)):
            raise ValueError(
                f"{self.name}: expected ids from 0 to {len(self.base) - 1} in gt, "
                f"got {gt.min()} to {gt.max()}"
            )

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return int(self.base.shape[-1])

    def neighbours(self, k: int = 100) -> Ints:
        """Return the true L2 neighbours (nq, k): `gt` if it is deep enough, else computed."""
        if self.gt is not None and self.gt.shape[1] >= k:
            return self.gt[:, :k]
        return exact_neighbours(self.base, self.query, k)[1]


def wordnet_glosses() -> Dataset:
    """Return the small set that ships with the package.

    10,000 training, 10,000 base and 500 query vectors with 384 dimensions: embeddings of the
    glosses of WordNet 3.0 by all-MiniLM-L6-v2. The 45 classes are WordNet's lexicographer files
    ("noun.animal"). Base and queries have their texts. The licence lies beside the file, in
    ``WORDNET_NOTICE.txt``.
    """
    return load(Path(__file__).parent / "_data" / "wordnet_glosses.npz")


def load(path: str | Path) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    path : str or Path
        One of

        * an ``.npz`` file with the arrays `base` and `query`, and where known `train`, `gt`,
          `scale` (vectors are divided by it), `train_label`, `base_label`, `query_label`,
          `label_names`, and `text_utf8` with `text_offsets` (texts in the order query, base);
        * a folder with ``*_base``, ``*_query`` and where known ``*_learn`` as ``.fvecs`` or
          ``.bvecs`` and ``*_groundtruth.ivecs``, as the TEXMEX sets (SIFT1M, GIST1M) come;
        * a single array, ``.npy``, ``.fvecs`` or ``.bvecs``: 1,000 rows of it, or a tenth if that
          is less, are drawn with a fixed seed to be the queries and the rest is the base.

        Where there is no training part, the base is it.

    Returns
    -------
    Dataset
        float32 throughout. Arrays that are float32 on disk, other than in ``.npz``, stay
        memory-mapped unless rows are drawn from them.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If the format is unknown, an array is missing, or the parts do not fit each other.
    """
    path = Path(path)
    if path.is_dir():
        return _load_texmex(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return _from_arrays(path.stem, arrays)
    return _split(path.stem, read_vectors(path))


def retrieval_protocol(
    images: ImageSet,
    queries: int | None = 100,
    training: int | None = 500,
    *,
    training_in_base: bool = True,
) -> Dataset:
    """Split labelled images into training rows, base and queries, as papers on retrieval do.

    Queries are the first images of each class in the test part, training rows the first of each
    class in the training part. The base is all of the training part and what is left of the test
    part. Of CIFAR-10:

    ==========================  ========  =======  ======
    arguments                   training  base     query
    ==========================  ========  =======  ======
    none                        5,000     59,000   1,000
    ``training_in_base=False``  5,000     54,000   1,000
    ``None, None``              50,000    50,000   10,000
    ==========================  ========  =======  ======

    Parameters
    ----------
    images : ImageSet
        Such as `cifar10` returns.
    queries, training : int, optional
        How many of each class; None for the whole part.
    training_in_base : bool
        Whether training rows may be found.

    Returns
    -------
    Dataset
        uint8 rows (n, channels * height * width), with labels.

    Raises
    ------
    ValueError
        If a class has too few images, or nothing is left for the base.
    """
    drawn = _first_of_each_class(images.test_labels, queries, f"{images.name}: test")
    learnt = _first_of_each_class(images.train_labels, training, f"{images.name}: training")
    kept = np.full(len(learnt), fill_value=True) if training_in_base else ~learnt
    if not kept.any() and drawn.all():
        raise ValueError(f"{images.name}: expected images that are left for the base, got none")
    train, test = (x.reshape(len(x), -1) for x in (images.train, images.test))
    return Dataset(
        name=images.name,
        train=train[learnt],
        base=np.concatenate([train[kept], test[~drawn]]),
        query=test[drawn],
        train_labels=images.train_labels[learnt],
        base_labels=np.concatenate([images.train_labels[kept], images.test_labels[~drawn]]),
        query_labels=images.test_labels[drawn],
        label_names=images.label_names,
    )


def _first_of_each_class(labels: Ints, count: int | None, part: str) -> npt.NDArray[np.bool_]:
    chosen = np.full(len(labels), fill_value=count is None)
    if count is None:
        return chosen
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if not 1 <= count <= len(rows):
            raise ValueError(
                f"{part}: expected from 1 to {len(rows)} images of class {label}, got {count}"
            )
        chosen[rows[:count]] = True
    return chosen


def exact_neighbours(
    base: Floats, query: Floats, k: int, metric: int = faiss.METRIC_L2
) -> tuple[Floats, Ints]:
    """Return the k best base vectors for each query by exhaustive search.

    The base is read block by block, so it may be memory-mapped. faiss finds the candidates in
    single precision, and double precision ranks them.

    Parameters
    ----------
    base, query : (n, d) float32
        What is searched, and for what.
    k : int
        From 1 to the number of base vectors.
    metric : int
        ``faiss.METRIC_L2`` (squared distances) or ``faiss.METRIC_INNER_PRODUCT``.

    Returns
    -------
    D : (nq, k) float32
        Squared distances, ascending, or inner products, descending.
    I : (nq, k) int64
        Their ids; equals in ascending id.

    Raises
    ------
    ValueError
        If `k`, `metric` or the shapes are unusable.
    """
    if base.ndim != 2 or query.ndim != 2 or base.shape[1] != query.shape[1]:
        raise ValueError(
            f"expected base (nb, d) and query (nq, d), got {base.shape} and {query.shape}"
        )
    if not 1 <= k <= len(base):
        raise ValueError(f"expected k from 1 to {len(base)}, the size of the base, got {k}")
    if metric not in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT):
        raise ValueError(f"expected metric METRIC_L2 or METRIC_INNER_PRODUCT, got {metric}")
    candidates = _candidates(base, query, min(k + _SPARE, len(base)), metric)
    D = np.empty((len(query), k), dtype=np.float32)
    I = np.empty((len(query), k), dtype=np.int64)
    sign = 1.0 if metric == faiss.METRIC_L2 else -1.0
    for start in range(0, len(query), _QUERY_BLOCK):
        rows = slice(start, start + _QUERY_BLOCK)
        ids = np.sort(candidates[rows], axis=1)
        x, q = base[ids].astype(np.float64), query[rows, None, :].astype(np.float64)
        scores = ((x - q) ** 2).sum(axis=2) if sign > 0 else -(x * q).sum(axis=2)
        order = np.argsort(scores, axis=1, kind="stable")[:, :k]
        D[rows] = sign * np.take_along_axis(scores, order, axis=1)
        I[rows] = np.take_along_axis(ids, order, axis=1)
    return D, I


def _candidates(base: Floats, query: Floats, k: int, metric: int) -> Ints:
    """Return the ids (nq, k) that single precision takes for the k best, in any order.

    faiss expands |x - y|^2, which cancels far from the origin, so L2 is measured from the centre.
    """
    centre = np.zeros(base.shape[1], dtype=np.float32)
    if metric == faiss.METRIC_L2:
        centre = base[:_BASE_BLOCK].mean(axis=0, dtype=np.float64).astype(np.float32)
    query = np.ascontiguousarray(query - centre, dtype=np.float32)
    ids = np.empty((len(query), 0), dtype=np.int64)
    scores = np.empty((len(query), 0), dtype=np.float32)
    for start in range(0, len(base), _BASE_BLOCK):
        block = np.ascontiguousarray(base[start : start + _BASE_BLOCK] - centre, dtype=np.float32)
        with openmp_threads():
            D, I = faiss.knn(query, block, min(k, len(block)), metric=metric)
        scores = np.concatenate([scores, D if metric == faiss.METRIC_L2 else -D], axis=1)
        ids = np.concatenate([ids, I + start], axis=1)
        best = np.argsort(scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, axis=1)
        ids = np.take_along_axis(ids, best, axis=1)
    return ids


def _from_arrays(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Dataset:
    missing = [key for key in ("base", "query") if key not in arrays]
    if missing:
        raise ValueError(
            f"{name}: expected arrays named base and query, "
            f"got {', '.join(sorted(arrays)) or 'none'}"
        )

    def floats(key: str) -> Floats:
        x = arrays[key].astype(np.float32, copy=False)
        return x / np.float32(arrays["scale"]) if "scale" in arrays else x

    def ints(key: str) -> Ints | None:
        return arrays[key].astype(np.int64, copy=False) if key in arrays else None

    base, query = floats("base"), floats("query")
    query_texts, base_texts = _texts(arrays, len(query), len(base))
    names = arrays["label_names"].tolist() if "label_names" in arrays else ()
    return Dataset(
        name=name,
        train=floats("train") if "train" in arrays else base,
        base=base,
        query=query,
        gt=ints("gt"),
        train_labels=ints("train_label" if "train" in arrays else "base_label"),
        base_labels=ints("base_label"),
        query_labels=ints("query_label"),
        label_names=tuple(names),
        base_texts=base_texts,
        query_texts=query_texts,
    )


def _texts(
    arrays: Mapping[str, npt.NDArray[Any]], nq: int, nb: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if "text_utf8" not in arrays:
        return (), ()
    utf8, offsets = arrays["text_utf8"].tobytes(), arrays["text_offsets"].tolist()
    if len(offsets) <= nq + nb:
        raise ValueError(
            f"expected text_offsets for {nq} queries and {nb} base vectors, got {len(offsets)}"
        )
    bounds = pairwise(offsets[: nq + nb + 1])
    texts = tuple(utf8[start:end].decode() for start, end in bounds)
    return texts[:nq], texts[nq:]


def _load_texmex(folder: Path) -> Dataset:
    def one(pattern: str, *suffixes: str) -> Path | None:
        found = [p for suffix in suffixes for p in sorted(folder.glob(pattern + suffix))]
        if len(found) > 1:
            raise ValueError(f"{folder}: expected one {pattern} file, got {len(found)}")
        return found[0] if found else None

    def floats(path: Path) -> Floats:
        return read_vectors(path).astype(np.float32, copy=False)

    base, query = (one(f"*_{part}", ".fvecs", ".bvecs") for part in ("base", "query"))
    learn, gt = one("*_learn", ".fvecs", ".bvecs"), one("*_groundtruth", ".ivecs")
    if base is None or query is None:
        raise ValueError(f"{folder}: expected *_base and *_query as .fvecs or .bvecs in it")
    x = floats(base)
    return Dataset(
        name=base.stem.removesuffix("_base"),
        train=floats(learn) if learn else x,
        base=x,
        query=floats(query),
        gt=read_vectors(gt).astype(np.int64) if gt else None,
    )


def _split(name: str, x: npt.NDArray[Any]) -> Dataset:
    nq = min(_QUERIES, len(x) // 10)
    if nq == 0:
        raise ValueError(f"{name}: expected at least 10 vectors to draw queries from, got {len(x)}")
    drawn = np.zeros(len(x), dtype=bool)
    drawn[np.random.default_rng(1234).permutation(len(x))[:nq]] = True
    base, query = x[~drawn].astype(np.float32), x[drawn].astype(np.float32)
    return Dataset(name=name, train=base, base=base, query=query)
