"""Random changes of images, against explicit loops over pixels."""

from __future__ import annotations

import pytest
import torch

from deepq.training.augment import cut_mix, cut_out, shifted

N, C, H, W = 40, 2, 6, 9
IMAGES = torch.rand(N, C, H, W, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "change",
    [
        lambda images, g: shifted(images, 2, g),
        lambda images, g: cut_out(images, 3, g),
        lambda images, g: cut_mix(images, g)[0],
    ],
    ids=["shifted", "cut_out", "cut_mix"],
)
def test_the_generator_decides_and_nothing_changes_in_place(change):
    before, state = IMAGES.clone(), torch.random.get_rng_state()
    first, again, other = (change(IMAGES, generator(seed)) for seed in (1, 1, 2))
    assert first.shape == IMAGES.shape
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(IMAGES, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Pixel (i, j) of the result was at (i + down, j + right), mirrored at the borders."""

    def inside(at: int, length: int) -> int:
        at = abs(at)
        return at if at < length else 2 * (length - 1) - at

    result = torch.empty_like(image)
    for i in range(H):
        for j in range(W):
            result[:, i, j] = image[:, inside(i + down, H), inside(j + right, W)]
    return result


def test_shifted_images_are_mirrored_and_moved():
    places = {
        (mirrored, down, right)
        for mirrored in (False, True)
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    found = set()
    for image, result in zip(IMAGES, shifted(IMAGES, 2, generator()), strict=True):
        matches = {
            (mirrored, down, right)
            for mirrored, down, right in places
            if torch.equal(moved(image.flip(2) if mirrored else image, down, right), result)
        }
        assert len(matches) == 1
        found |= matches
    assert {mirrored for mirrored, _, _ in found} == {False, True}
    assert {down for _, down, _ in found} == {right for _, _, right in found} == set(range(-2, 3))


def test_without_a_shift_images_are_mirrored_only():
    result = shifted(IMAGES, 0, generator())
    mirrored = [torch.equal(r, x.flip(2)) for r, x in zip(result, IMAGES, strict=True)]
    same = [torch.equal(r, x) for r, x in zip(result, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 10 < sum(mirrored) < 30


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cut_out_squares_have_the_mean_colour(size):
    sizes = set()
    for image, result in zip(IMAGES, cut_out(IMAGES, size, generator()), strict=True):
        changed = (result != image).any(0)
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        assert changed[box].all()
        assert changed.sum() == changed[box].numel()
        grey = image.mean(dim=(1, 2))[:, None, None].expand(image[:, box[0], box[1]].shape)
        torch.testing.assert_close(result[:, box[0], box[1]], grey)
        sizes.add((len(rows), len(columns)))
    assert max(sizes) <= (size, size)
    if size < 4:
        assert (size, size) in sizes


def test_cut_mix_puts_the_same_rectangle_of_another_image_into_each():
    parts = []
    for seed in range(20):
        mixed, other, part = cut_mix(IMAGES, generator(seed))
        assert sorted(other.tolist()) == list(range(N))
        foreign = (mixed != IMAGES).any(1).any(0)
        assert part == pytest.approx(1 - foreign.sum().item() / (H * W))
        for i in range(H):
            for j in range(W):
                source = IMAGES[other] if foreign[i, j] else IMAGES
                assert torch.equal(mixed[:, :, i, j], source[:, :, i, j])
        parts.append(part)
    assert min(parts) < 0.2
    assert max(parts) > 0.8
