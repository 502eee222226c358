"""Random changes of images that leave their meaning: for training only, with torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images (n, C, H, W), and move each by up to `most` pixels.

    What comes in at a border is its mirror image.
    """
    n, _, height, width = images.shape
    mirrored = torch.rand(n, generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if not most:
        return images
    wide = pad(images, (most,) * 4, mode="reflect")
    places = torch.randint(2 * most + 1, (2, n), generator=generator)
    rows = (places[0, :, None] + torch.arange(height))[:, :, None]
    columns = (places[1, :, None] + torch.arange(width))[:, None, :]
    return wide.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows, columns].permute(
        0, 3, 1, 2
    )


def cut_out(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Make a square of each image grey (its mean), cut off where it leaves the image.

    DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.
    """
    n, _, height, width = images.shape
    inside = _square(n, height, size, generator)[:, None, :, None]
    inside = inside & _square(n, width, size, generator)[:, None, None, :]
    return torch.where(inside, images.mean(dim=(2, 3), keepdim=True), images)


def cut_mix(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Put a rectangle of another image of the batch into each.

    Yun et al., "CutMix", ICCV 2019, with areas drawn evenly from 0 to 1.

    Returns
    -------
    images (n, C, H, W); other (n,), whose rectangle each has; part
        Of an image's area that is its own.
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


def _square(n: int, length: int, size: int, generator: torch.Generator) -> Tensor:
    """Return which positions (n, length) lie within a stretch of `size` around a drawn one."""
    middle = torch.randint(length, (n, 1), generator=generator)
    first = middle - size // 2
    at = torch.arange(length)
    return (at >= first) & (at < first + size)
