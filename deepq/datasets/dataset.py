"""Vectors to train on, to store and to search with: in files, or shipped with the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.arrays import as_labels, as_numbers, as_whole
from deepq._common.checks import as_metric, as_real, as_size
from deepq._common.errors import DimensionError, FormatError, InputError
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2, Floats, Ids
from deepq.datasets.arrow_files import ARROW, PARQUET
from deepq.datasets.exact import exact_neighbours
from deepq.datasets.hdf5_files import HDF5, benchmark_parts
from deepq.datasets.vector_files import opened_npz
from deepq.datasets.vectors import read_vectors

Array = npt.NDArray[Any]

_PARTS = ("train", "base", "query")
_TEXMEX = (  # names of base, query and learn in TEXMEX's sets and BIGANN, in Deep1B and of cuVS
    ("*_base", "base"),
    ("*_query", "query", "*_queries", "queries"),
    ("*_learn", "learn"),
)
_VECTORS = (".fvecs", ".bvecs", ".fbin", ".f16bin", ".u8bin", ".i8bin")
_TRUTH = ("*_groundtruth", "groundtruth", "groundtruth.neighbors")
_QUERIES = 1000  # rows that become queries when a file has none of its own


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Vectors to train on, to store and to search with, and what is known about them.

    Attributes
    ----------
    name : str
        For tables and pictures.
    train, base, query : (n, d) float32, or uint8 for images
        The three parts. They may be memory-mapped, or a `RowSource`.
    gt : (nq, depth) int64 or None
        Ids in `base` of each query's nearest neighbours, in ranked order.
    metric : int or "cosine"
        What neighbours are nearest by: ``faiss.METRIC_L2``, ``faiss.METRIC_INNER_PRODUCT``, or the
        cosine.
    train_labels, base_labels, query_labels : (n,) int or str, (n, c) bool or None
        One class for each vector, or a multi-hot row, in any form that `train` takes.
    label_names : tuple of str
        The name of each class, where known.
    base_texts, query_texts : tuple of str
        What the vectors stand for, where known.

    Raises
    ------
    InputError, DimensionError, KindError
        If the parts do not fit each other, or are not of real numbers, ids and labels.
    """

    name: str
    train: Array
    base: Array
    query: Array
    gt: Ids | None = None
    train_labels: Array | None = None
    base_labels: Array | None = None
    query_labels: Array | None = None
    label_names: tuple[str, ...] = ()
    base_texts: tuple[str, ...] = ()
    query_texts: tuple[str, ...] = ()
    metric: int | str = METRIC_L2

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part} {getattr(self, part).shape}" for part in _PARTS)
        return f"<Dataset {self.name}: {sizes}>"

    def __post_init__(self) -> None:
        for part in _PARTS:
            object.__setattr__(self, part, as_numbers(getattr(self, part), part))
        for part in _PARTS:
            x, labels = getattr(self, part), getattr(self, f"{part}_labels")
            if labels is not None:
                labels = as_labels(labels, f"{part}_labels")
                object.__setattr__(self, f"{part}_labels", labels)
            if x.ndim != 2 or x.shape[1] != self.d:
                raise DimensionError(
                    f"{self.name}: expected {part} of shape (n, {self.d}) like base, got {x.shape}"
                )
            if labels is not None and len(labels) != len(x):
                raise DimensionError(
                    f"{self.name}: expected {len(x)} labels for {part}, got shape {labels.shape}"
                )
        for part in ("base", "query"):
            texts = getattr(self, f"{part}_texts")
            if texts and len(texts) != len(getattr(self, part)):
                raise InputError(
                    f"{self.name}: expected {len(getattr(self, part))} texts for {part}, "
                    f"got {len(texts)}"
                )
        if self.metric != "cosine":
            object.__setattr__(self, "metric", as_metric(self.metric))
        self._check_gt()

    def _check_gt(self) -> None:
        if self.gt is None:
            return
        gt = as_whole(self.gt, "gt")
        object.__setattr__(self, "gt", gt)
        if gt.ndim != 2 or len(gt) != len(self.query):
            raise DimensionError(
                f"{self.name}: expected gt of shape ({len(self.query)}, depth), got {gt.shape}"
            )
        if gt.size and (gt.min() < 0 or gt.max() >= len(self.base)):
            raise InputError(
                f"{self.name}: expected ids from 0 to {len(self.base) - 1} in gt, "
                f"got {gt.min()} to {gt.max()}"
            )

    @property
    def d(self) -> int:
        """The number of dimensions."""
        return int(self.base.shape[-1])

    def neighbours(self, k: int = 100) -> Ids:
        """Return the true neighbours (nq, k) by `metric`: `gt` if it is deep enough, else computed.

        For the cosine the base is copied into memory.
        """
        k = as_size(k, "k")
        if self.gt is not None and self.gt.shape[1] >= k:
            return self.gt[:, :k]
        if self.metric == "cosine":
            base, query = _unit(self.base), _unit(self.query)
            return exact_neighbours(base, query, k, METRIC_INNER_PRODUCT)[1]
        return exact_neighbours(self.base, self.query, k, as_metric(self.metric))[1]


def wordnet_glosses() -> Dataset:
    """Return the small set that ships with the package.

    10,000 training, 10,000 base and 500 query vectors with 384 dimensions: embeddings of the
    glosses of WordNet 3.0 by all-MiniLM-L6-v2. The 45 classes are WordNet's lexicographer files
    ("noun.animal"). Base and queries have their texts. The licence lies beside the file, in
    ``WORDNET_NOTICE.txt``.
    """
    return load(Path(__file__).parents[1] / "_data" / "wordnet_glosses.npz")


def load(path: str | Path) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    path : str or Path
        One of

        * an ``.npz`` file with the arrays `base` and `query`, and where known `train`, `gt`,
          `scale` (vectors are divided by it), `train_label`, `base_label`, `query_label`,
          `label_names`, and `text_utf8` with `text_offsets` (texts in the order query, base).
          Classes and ids may be whole floats, classes also names, and tags 0 and 1;
        * an ``.hdf5`` file of ann-benchmarks or VIBE, with the distances euclidean, angular,
          cosine, normalized or ip: the base is called ``train`` there, the queries ``test``;
        * a folder with ``*_base``, ``*_query`` and where known ``*_learn`` as ``.fvecs``,
          ``.bvecs``, ``.fbin``, ``.u8bin``, ``.i8bin`` or ``.f16bin`` and ``*_groundtruth.ivecs``
          or ``.ibin``, as the TEXMEX sets (SIFT1M, GIST1M) come; the names of BIGANN, Deep1B and
          cuVS are known too: ``gnd/idx_*M.ivecs`` for as many millions as the base has, ``base``,
          ``learn``, ``*_queries`` and ``groundtruth.neighbors``;
        * anything else that `read_vectors` opens: 1,000 rows of it, or a tenth if that is less, are
          drawn with a fixed seed to be the queries and the rest is the base, in memory.

        Where there is no training part, the base is it.

    Returns
    -------
    Dataset
        float32 throughout. Arrays that are float32 on disk, other than in ``.npz`` and in chunks of
        HDF5, stay memory-mapped unless rows are drawn from them.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    FormatError, InputError, DimensionError, KindError
        If the format is unknown, an array is missing, or holds something else than its name says,
        or the parts do not fit each other.
    """
    path = Path(path)
    if path.is_dir() and not any(f.suffix in (*PARQUET, *ARROW) for f in path.iterdir()):
        return _load_texmex(path)
    if path.suffix in HDF5:
        parts, metric = benchmark_parts(path)
        gt = np.asarray(parts["gt"]) if "gt" in parts else None
        base, query = _floats(parts["base"]), _floats(parts["query"])
        return Dataset(path.stem, base, base, query, gt, metric=metric)
    if path.suffix == ".npz":
        with opened_npz(path) as arrays:
            return _from_arrays(path.stem, arrays)
    return _split(path.stem, read_vectors(path))


def _from_arrays(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Dataset:
    missing = [key for key in ("base", "query") if key not in arrays]
    if missing:
        raise FormatError(
            f"{name}: expected arrays named base and query, "
            f"got {', '.join(sorted(arrays)) or 'none'}"
        )

    def floats(key: str) -> Floats:
        x = as_numbers(arrays[key], key).astype(np.float32, copy=False)
        return x / np.float32(as_real(arrays["scale"], "scale")) if "scale" in arrays else x

    base, query = floats("base"), floats("query")
    query_texts, base_texts = _texts(arrays, len(query), len(base))
    names = arrays["label_names"].tolist() if "label_names" in arrays else ()
    labels, names = _labels(arrays, names)
    return Dataset(
        name=name,
        train=floats("train") if "train" in arrays else base,
        base=base,
        query=query,
        gt=as_whole(arrays["gt"], "gt") if "gt" in arrays else None,
        train_labels=labels.get("train" if "train" in arrays else "base"),
        base_labels=labels.get("base"),
        query_labels=labels.get("query"),
        label_names=tuple(names),
        base_texts=base_texts,
        query_texts=query_texts,
    )


def _labels(
    arrays: Mapping[str, Array], names: Sequence[str]
) -> tuple[dict[str, Array], Sequence[str]]:
    """Return the labels of each part that has some, and the names of classes.

    Names in place of numbers become numbers in the order of `names`, or else of the alphabet.
    """
    keys = {part: f"{part}_label" for part in _PARTS if f"{part}_label" in arrays}
    labels = {part: as_labels(arrays[key], key) for part, key in keys.items()}
    named = {part: y for part, y in labels.items() if y.dtype.kind == "U"}
    if named:
        names = names or np.unique(np.concatenate(list(named.values()))).tolist()
        number = {name: i for i, name in enumerate(names)}
        for part, y in named.items():
            unknown = sorted(set(y.tolist()) - number.keys())
            if unknown:
                raise InputError(f"expected names of label_names in {keys[part]}, got {unknown[0]}")
            labels[part] = np.array([number[name] for name in y.tolist()], np.int64)
    for part, y in labels.items():
        labels[part] = y if y.dtype.kind == "b" else as_whole(y, keys[part])
    return labels, names


def _texts(
    arrays: Mapping[str, npt.NDArray[Any]], nq: int, nb: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if "text_utf8" not in arrays:
        return (), ()
    utf8, offsets = arrays["text_utf8"].tobytes(), arrays["text_offsets"].tolist()
    if len(offsets) <= nq + nb:
        raise InputError(
            f"expected text_offsets for {nq} queries and {nb} base vectors, got {len(offsets)}"
        )
    bounds = pairwise(offsets[: nq + nb + 1])
    texts = tuple(utf8[start:end].decode() for start, end in bounds)
    return texts[:nq], texts[nq:]


def _load_texmex(folder: Path) -> Dataset:
    def one(patterns: tuple[str, ...], *suffixes: str) -> Path | None:
        names = [pattern + suffix for pattern in patterns for suffix in suffixes]
        found = sorted({path for name in names for path in folder.glob(name)})
        if len(found) > 1:
            raise FormatError(f"{folder}: expected one {patterns[0]} file, got {len(found)}")
        return found[0] if found else None

    base, query, learn = (one(names, *_VECTORS) for names in _TEXMEX)
    if base is None or query is None:
        raise FormatError(
            f"{folder}: expected *_base and *_query in it as one of {', '.join(_VECTORS)}"
        )
    x = _floats(read_vectors(base))
    gt = one(_TRUTH, ".ivecs", ".ibin")
    millions = folder / "gnd" / f"idx_{len(x) // 10**6}M.ivecs"  # BIGANN's, of its first vectors
    if len(x) % 10**6 == 0 and millions.is_file():
        gt = millions
    return Dataset(
        name=folder.name if base.stem == "base" else base.stem.removesuffix("_base"),
        train=_floats(read_vectors(learn)) if learn else x,
        base=x,
        query=_floats(read_vectors(query)),
        gt=np.asarray(read_vectors(gt)).astype(np.int64) if gt else None,
    )


def _floats(rows: Any) -> Floats:
    """Rows as float32: mapped, where they are that in their file, else in memory."""
    floats: Floats = np.asanyarray(rows).astype(np.float32, copy=False)
    return floats


def _unit(x: Array) -> Floats:
    """Rows of length 1, but for those of zeros."""
    rows = np.array(x, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return rows / np.where(lengths > 0, lengths, 1).astype(np.float32)[:, None]


def _split(name: str, x: Any) -> Dataset:
    nq = min(_QUERIES, len(x) // 10)
    if nq == 0:
        raise FormatError(
            f"{name}: expected at least 10 vectors to draw queries from, got {len(x)}"
        )
    drawn = np.zeros(len(x), dtype=bool)
    drawn[np.random.default_rng(1234).permutation(len(x))[:nq]] = True
    x = np.asarray(as_numbers(x, name))
    base, query = x[~drawn].astype(np.float32), x[drawn].astype(np.float32)
    return Dataset(name=name, train=base, base=base, query=query)
