"""Lists of images and their classes, in text files: those of deep hashing, NUS-WIDE, MIRFLICKR."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError, InputError

_MIRFLICKR_IMAGES = 25_000


class ImageList(NamedTuple):
    """Where images are, and their classes.

    Attributes
    ----------
    paths : tuple of Path
        One for each image; nothing is opened.
    labels : (n,) int64, or (n, c) bool
        One class for each image, or a multi-hot row.
    label_names : tuple of str
        The name of each column, where known.
    """

    paths: tuple[Path, ...]
    labels: npt.NDArray[Any]
    label_names: tuple[str, ...] = ()


def image_list(path: str | Path, root: str | Path = "") -> ImageList:
    """Read a list file as HashNet, thulab/DeepHash and DeepHash-pytorch publish them.

    Parameters
    ----------
    path : str or Path
        A text file such as ``database.txt``. Each line is the path of an image and, after spaces,
        either a 0 or 1 for each class, or the number of its one class.
    root : str or Path
        The folder that the paths start from; one that is absolute stays as it is.

    Returns
    -------
    ImageList
        The labels are (n, c) bool in the first case and (n,) int64 in the second.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If a line has another form than the first, or there is none.

    Notes
    -----
    https://github.com/thuml/HashNet, https://github.com/thulab/DeepHash,
    https://github.com/swuxyj/DeepHash-pytorch.
    """
    path, root = Path(path), Path(root)
    paths: list[Path] = []
    rows: list[str] = []
    width = 0
    for number, line in enumerate(_lines(path), start=1):
        classes = line.split()[1:]
        width = width or len(classes)
        valid = set(classes) <= {"0", "1"} if width > 1 else _is_number("".join(classes))
        if not classes or len(classes) != width or not valid:
            form = f"{width} classes, each 0 or 1" if width > 1 else "a class"
            raise FormatError(
                f"{path}, line {number}: expected a path and {form}, got {line!r:.80}"
            )
        paths.append(root / line.split()[0])
        rows.append("".join(classes))
    if not paths:
        raise FormatError(f"{path}: expected at least one line, got an empty file")
    labels = _bits(rows).reshape(-1, width) if width > 1 else np.array(rows).astype(np.int64)
    return ImageList(tuple(paths), labels)


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


def _bits(digits: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return strings of the digits 0 and 1 as one row of bools."""
    bits: npt.NDArray[np.bool_] = np.frombuffer("".join(digits).encode(), np.uint8) == ord("1")
    return bits
