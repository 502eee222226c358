"""Pictures in files as rows of pixels, which are read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.checks import as_size, as_tuple
from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.sources import RowSource
from deepq.datasets.image_lists import ImageList
from deepq.datasets.named import needed

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

_NUMBERS = 1 << 24  # pixels' numbers that are held at a time


def image_folder(folder: str | Path) -> ImageList:
    """List the pictures of a folder that has a folder for each class, as torchvision reads them.

    Parameters
    ----------
    folder : str or Path
        ``cat/1.jpg``, ``cat/more/2.png``, ``dog/3.jpg``, ...: classes are the folders in it, in
        the order of the alphabet, pictures what lies in one at any depth. Names that begin with a
        dot are passed over, as are files of other kinds.

    Returns
    -------
    ImageList
        Labels are (n,) int64, with the names of the folders.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    FormatError
        If there is no class in it, or one without a picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder {folder}, got none")
    classes = sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
    if not classes:
        raise FormatError(f"{folder}: expected a folder for each class in it, got none")
    paths: list[Path] = []
    labels: list[int] = []
    for number, one in enumerate(classes):
        found = sorted(f for f in one.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        found = [f for f in found if f.name[0] != "."]
        if not found:
            raise FormatError(f"{one}: expected pictures, {', '.join(SUFFIXES)}, got none")
        paths += found
        labels += [number] * len(found)
    return ImageList(tuple(paths), np.array(labels, np.int64), tuple(c.name for c in classes))


class ImageRows(RowSource):
    """Pictures in files as rows (n, channels * height * width) of uint8.

    Attributes
    ----------
    paths : tuple of Path
        The files.
    image_shape : (int, int, int)
        Channels, height and width.
    """

    def __init__(
        self, paths: Sequence[Path], image_shape: tuple[int, int, int], fits: bool
    ) -> None:
        self.paths, self.image_shape, self._fits = tuple(paths), image_shape, fits
        d = int(np.prod(image_shape))
        n = len(self.paths)
        bounds = [*range(0, n, max(1, _NUMBERS // d)), n]
        super().__init__(f"{n} pictures", bounds, d, np.uint8)

    def _read_part(self, i: int, size: int) -> Iterator[npt.NDArray[Any]]:  # noqa: ARG002 - small
        paths = self.paths[self._bounds[i] : self._bounds[i + 1]]
        rows = np.empty((len(paths), self.shape[1]), np.uint8)
        for row, path in zip(rows, paths, strict=True):
            row[:] = self._pixels(path)
        yield rows

    def _pixels(self, path: Path) -> npt.NDArray[Any]:
        channels, height, width = self.image_shape
        picture = _open(path, "L" if channels == 1 else "RGB")
        if self._fits:
            operations = needed("PIL.ImageOps", "pictures", "Pillow")
            bilinear = needed("PIL.Image", "pictures", "Pillow").Resampling.BILINEAR
            picture = operations.fit(picture, (width, height), bilinear)
        if picture.size != (width, height):
            raise FormatError(
                f"{path}: expected {width} x {height} pixels, as in the first picture, got "
                f"{picture.width} x {picture.height}: read_images(size=) cuts all to one size"
            )
        pixels = np.asarray(picture).reshape(height, width, channels)
        return pixels.transpose(2, 0, 1).ravel()


def read_images(
    images: ImageList | Sequence[str | os.PathLike[str]],
    size: int | tuple[int, int] | None = None,
    *,
    gray: bool = False,
) -> ImageRows:
    """Open pictures as rows that a network takes; each is read, by Pillow, when it is asked for.

    Parameters
    ----------
    images : ImageList or sequence of paths
        Such as `image_folder`, `csv_list` or `image_list` return.
    size : int or (height, width), optional
        All pictures are scaled to cover this, and what stands out on both sides is cut off. Without
        it they must be of the first one's size.
    gray : bool
        Whether to read one channel of brightness, and not red, green and blue.

    Returns
    -------
    ImageRows
        (n, channels * height * width) uint8, each channel row by row; `image_shape` says how.

    Raises
    ------
    FileNotFoundError
        If the first picture is not there; of others, when they are read.
    ImportError
        If Pillow is missing.
    FormatError
        If a picture is damaged, of more than 8 bits, or of another size; with its path.
    InputError, KindError
        If there is none, or `size` is no size.
    """
    paths = [Path(path) for path in (images.paths if isinstance(images, ImageList) else images)]
    if not paths:
        raise InputError("expected a picture at least, got none")
    channels = 1 if gray else 3
    if size is None:
        first = _open(paths[0], "L" if gray else "RGB")
        return ImageRows(paths, (channels, first.height, first.width), fits=False)
    given = (size, size) if isinstance(size, int) else as_tuple(size, "size")
    if len(given) != 2:
        raise KindError(f"expected a size (height, width), got {size!r}")
    height, width = (as_size(number, "size") for number in given)
    return ImageRows(paths, (channels, height, width), fits=True)


def _open(path: Path, mode: str) -> Any:
    """Read a picture in one mode of Pillow's."""
    pillow = needed("PIL.Image", "pictures", "Pillow")
    try:
        with path.open("rb") as file, pillow.open(file) as picture:
            if picture.mode[0] in "IF":
                raise FormatError(f"{path}: expected pixels of 8 bits, got mode {picture.mode}")
            if "transparency" in picture.info:
                return picture.convert("RGBA").convert(mode)
            return picture.convert(mode)
    except FormatError:
        raise
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FormatError(f"{path}: expected a whole picture, got: {error}") from error
