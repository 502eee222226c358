"""Lists of images and their classes, in text files: those of deep hashing, NUS-WIDE, MIRFLICKR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deepq._common.checks import as_size
from deepq._common.errors import FormatError, InputError

_MIRFLICKR_IMAGES = 25_000
_LONGEST = 8  # digits of the number of a class


class ImageList(NamedTuple):
    """Where images are, and their classes.

    Attributes
    ----------
    paths : tuple of Path
        One for each image; nothing is opened.
    labels : (n,) int64, (n, c) bool, or None
        One class for each image, or a multi-hot row; None where a list has none.
    label_names : tuple of str
        The name of each column, where known.
    """

    paths: tuple[Path, ...]
    labels: npt.NDArray[Any] | None
    label_names: tuple[str, ...] = ()


def image_list(
    path: str | Path,
    root: str | Path = "",
    *,
    labels: str | Path | None = None,
    classes: int | None = None,
) -> ImageList:
    """Read a list file as HashNet, thulab/DeepHash and DeepHash-pytorch publish them.

    Parameters
    ----------
    path : str or Path
        A text file such as ``database.txt``. Each line is the path of an image and, after spaces,
        a 0 or 1 for each class, or the numbers of its classes, from 0 on: one, or several that
        differ. Or there are paths alone.
    root : str or Path
        The folder that the paths start from; one that is absolute stays as it is.
    labels : str or Path, optional
        Another text file that has the classes, line by line, where `path` has names alone:
        ``database_label.txt``. Where lines have numbers of classes, one may be blank.
    classes : int, optional
        How many there are, where lines have several numbers of classes; by default as many as the
        largest number asks for.

    Returns
    -------
    ImageList
        The labels are (n, c) bool; (n,) int64 where every line has the number of one class; None
        where there are none, as in thulab/DeepHash's lists of CIFAR-10 (``train/3_3148.jpg``): they
        are in CIFAR-10's own files, which `cifar10` reads.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If a line has another form than the first, or there is none, or the files differ in length.

    Notes
    -----
    https://github.com/thuml/HashNet, https://github.com/thulab/DeepHash,
    https://github.com/swuxyj/DeepHash-pytorch.
    """
    path, root = Path(path), Path(root)
    lines = [line.split() for line in _lines(path)]
    if not lines:
        raise FormatError(f"{path}: expected at least one line, got an empty file")
    blank = next((number for number, line in enumerate(lines, start=1) if not line), None)
    if blank is not None:
        raise FormatError(f"{path}, line {blank}: expected a path, got a blank line")
    paths = tuple(root / line[0] for line in lines)
    rows, source = [line[1:] for line in lines], path
    if labels is not None:
        source = Path(labels)
        if any(rows):
            raise FormatError(f"{path}: expected paths alone beside {source}, got classes, too")
        rows = [line.split() for line in source.read_text(encoding="utf-8").splitlines()]
        while len(rows) > len(paths) and not rows[-1]:
            rows.pop()
        if len(rows) != len(paths):
            raise FormatError(f"{source}: expected {len(paths)} lines, got {len(rows)}")
    elif not any(rows):
        return ImageList(paths, None)
    count = None if classes is None else as_size(classes, "classes")
    return ImageList(paths, _classes(rows, source, count, gaps=labels is not None))


def _classes(
    rows: list[list[str]], path: Path, count: int | None, *, gaps: bool
) -> npt.NDArray[Any]:
    """Return the labels of the lines of a file, as the words of each; `gaps`: some may be blank."""
    width = len(rows[0])
    are_bits = count in (None, width) and width > 1 and set().union(*rows) <= {"0", "1"}
    for number, row in enumerate(rows, start=1):
        if are_bits:
            valid, form = len(row) == width, f"{width} classes, each 0 or 1"
        else:
            valid = (bool(row) or gaps) and all(map(_is_class, row)) and len(set(row)) == len(row)
            form = "a class, or several that differ"
            if count is not None:
                valid, form = valid and all(int(w) < count for w in row), f"{form}, below {count}"
        if not valid:
            raise FormatError(f"{path}, line {number}: expected {form}, got {' '.join(row)!r:.80}")
    if are_bits:
        return _bits("".join(row) for row in rows).reshape(-1, width)
    if count is None and all(len(row) == 1 for row in rows):
        return np.array([int(row[0]) for row in rows], np.int64)
    c = count or 1 + max(int(word) for row in rows for word in row)
    found = np.zeros((len(rows), c), np.bool_)
    for tags, row in zip(found, rows, strict=True):
        tags[[int(word) for word in row]] = True
    return found


def nus_wide(
    folder: str | Path,
    part: Literal["train", "test", "all"] = "all",
    concepts: Sequence[str] | None = None,
) -> ImageList:
    """Read the lists and the ground truth of NUS-WIDE as its authors publish them.

    Parameters
    ----------
    folder : str or Path
        Where ``ImageList`` and ``Groundtruth`` are.
    part : {"train", "test", "all"}
        161,789, 107,859 or all 269,648 images: ``ImageList/TrainImagelist.txt`` with
        ``Groundtruth/TrainTestLabels/Labels_*_Train.txt``, and so on;
        ``ImageList/Imagelist.txt`` with ``Groundtruth/AllLabels/Labels_*.txt``.
    concepts : sequence of str, optional
        Which columns, and in which order; all 81 by name without it. Papers take the 21 most
        frequent and the images that have one of them.

    Returns
    -------
    ImageList
        Multi-hot labels. The paths start from the folder of the images, such as
        ``actor/0001_2124494179.jpg``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    FormatError
        If the files have different numbers of lines, or a line other than 0 and 1.

    Notes
    -----
    T.-S. Chua et al., "NUS-WIDE: a real-world web image database from National University of
    Singapore", CIVR 2009.
    """
    folder = Path(folder)
    if part not in ("train", "test", "all"):
        raise InputError(f"expected part 'train', 'test' or 'all', got {part!r}")
    which = "" if part == "all" else part.capitalize()
    end = f"_{which}.txt" if which else ".txt"
    truth = folder / "Groundtruth" / ("TrainTestLabels" if which else "AllLabels")
    if concepts is None:
        found = (file.name for file in truth.glob(f"Labels_*{end}"))
        concepts = sorted(name.removeprefix("Labels_").removesuffix(end) for name in found)
    if not concepts:
        raise FileNotFoundError(f"expected files Labels_*{end} in {truth}")
    names = _lines(folder / "ImageList" / f"{which}Imagelist.txt")
    paths = tuple(Path(name.strip().replace("\\", "/")) for name in names)
    labels = np.empty((len(paths), len(concepts)), dtype=bool)
    for column, concept in zip(labels.T, concepts, strict=True):
        file = truth / f"Labels_{concept}{end}"
        rows = [line.strip() for line in _lines(file)]
        if len(rows) != len(paths) or not set(rows) <= {"0", "1"}:
            raise FormatError(
                f"{file}: expected {len(paths)} lines of 0 or 1, got {len(rows)} with "
                f"{', '.join(sorted(set(rows))[:4])}"
            )
        column[:] = _bits(rows)
    return ImageList(paths, labels, tuple(concepts))


def mirflickr25k(
    annotations: str | Path,
    images: str | Path = "",
    *,
    topics: Literal["all", "potential", "relevant"] = "all",
) -> ImageList:
    """Read the annotations of MIRFLICKR-25000 as its authors publish them.

    Parameters
    ----------
    annotations : str or Path
        The folder ``mirflickr25k_annotations_v080``: a file for each topic with the numbers of its
        images, one a line.
    images : str or Path
        The folder of the images, ``im1.jpg`` to ``im25000.jpg``.
    topics : {"all", "potential", "relevant"}
        The 24 topics where the topic is in the image at all (``sky.txt``), the 14 where it is the
        subject (``sky_r1.txt``), or all 38. Papers take 24 or 38.

    Returns
    -------
    ImageList
        25,000 images with multi-hot labels. Some have no topic.

    Raises
    ------
    FileNotFoundError
        If there is no file of such topics.
    FormatError
        If a line is no number from 1 to 25000.

    Notes
    -----
    M. J. Huiskes and M. S. Lew, "The MIR Flickr retrieval evaluation", MIR 2008.
    """
    annotations, images = Path(annotations), Path(images)
    if topics not in ("all", "potential", "relevant"):
        raise InputError(f"expected topics 'all', 'potential' or 'relevant', got {topics!r}")
    files = {file.stem: file for file in annotations.glob("*.txt") if file.stem != "README"}
    wanted = {"all": (True, False), "relevant": (True,), "potential": (False,)}[topics]
    names = tuple(sorted(name for name in files if name.endswith("_r1") in wanted))
    if not names:
        raise FileNotFoundError(f"expected files of {topics} topics in {annotations}")
    labels = np.zeros((_MIRFLICKR_IMAGES, len(names)), dtype=bool)
    for column, name in zip(labels.T, names, strict=True):
        for line in _lines(files[name]):
            if not _is_number(line.strip()) or not 1 <= int(line) <= _MIRFLICKR_IMAGES:
                raise FormatError(
                    f"{files[name]}: expected numbers from 1 to {_MIRFLICKR_IMAGES}, got {line!r}"
                )
            column[int(line) - 1] = True
    paths = tuple(images / f"im{i}.jpg" for i in range(1, _MIRFLICKR_IMAGES + 1))
    return ImageList(paths, labels, names)


def _lines(path: Path) -> list[str]:
    """Return the lines, without blank ones at the end."""
    return path.read_text(encoding="utf-8").rstrip().splitlines()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _is_class(text: str) -> bool:
    return _is_number(text) and len(text) < _LONGEST


def _bits(digits: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return strings of the digits 0 and 1 as one row of bools."""
    bits: npt.NDArray[np.bool_] = np.frombuffer("".join(digits).encode(), np.uint8) == ord("1")
    return bits
