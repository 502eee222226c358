"""Random changes of images that leave their meaning: for training only, with torch.

Images are float32 (n, C, H, W); what is drawn comes from the generator, on the processor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

_SHIFT, _CUT = 1 / 8, 1 / 4  # of an image's shorter side: moved at most, side of the square
_MIXED = 0.5  # share of the batches with rectangles of other images


def augmented(
    images: Tensor, targets: Tensor | None, mixes: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Change images at random, and their targets (n, c) where two are mixed.

    Each is mirrored or not, and moved; then a square is cut out, or, in half of the batches where
    `mixes` is set, a rectangle is of another image.
    """
    height = min(images.shape[2:])
    images = shifted(images, round(_SHIFT * height), generator)
    if mixes and targets is not None and torch.rand(1, generator=generator) < _MIXED:
        images, other, part = cut_mix(images, generator)
        return images, part * targets + (1 - part) * targets[other]
    return cut_out(images, round(_CUT * height), generator), targets


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Mirror each of the images or not, and move it by up to `most` pixels along both axes.

    What comes in at a border is its mirror image, so `most` must be below H and W.
    """
    n, _, height, width = images.shape
    mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if not most:
        return images
    wide = pad(images, (most,) * 4, mode="reflect").permute(0, 2, 3, 1)
    top, left = torch.randint(2 * most + 1, (2, n, 1), generator=generator)
    rows = (top + torch.arange(height))[:, :, None]
    columns = (left + torch.arange(width))[:, None, :]
    return wide[torch.arange(n)[:, None, None], rows, columns].permute(0, 3, 1, 2)


def cut_out(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Give a square of each image the image's mean colour; it ends where the image does.

    DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
    """
    n, _, height, width = images.shape
    rows = _stretch(n, height, size, generator)[:, None, :, None]
    columns = _stretch(n, width, size, generator)[:, None, None, :]
    inside = (rows & columns).to(images.device)
    return torch.where(inside, images.mean(dim=(2, 3), keepdim=True), images)


def cut_mix(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Put a rectangle of another image of the batch into each.

    Yun et al., "CutMix", ICCV 2019, with areas drawn evenly from 0 to 1; the rectangle is in the
    same place in all images, and lies within them.

    Returns
    -------
    images : (n, C, H, W)
        New ones.
    other : (n,) int64
        The image that the rectangle is of.
    part : float
        Share of an image's area that is its own.
    """
    n, _, height, width = images.shape
    other = torch.randperm(n, generator=generator)
    side = float(torch.rand(1, generator=generator)) ** 0.5
    h, w = round(side * height), round(side * width)
    top = int(torch.randint(height - h + 1, (1,), generator=generator))
    left = int(torch.randint(width - w + 1, (1,), generator=generator))
    mixed = images.clone()
    mixed[:, :, top : top + h, left : left + w] = images[other, :, top : top + h, left : left + w]
    return mixed, other, 1 - h * w / (height * width)


def _stretch(n: int, length: int, size: int, generator: torch.Generator) -> Tensor:
    """Return which places (n, length) lie in a stretch of `size` around a drawn one."""
    first = torch.randint(length, (n, 1), generator=generator) - size // 2
    places = torch.arange(length)
    return (places >= first) & (places < first + size)
