import math

import pytest
import torch

from latenteditor.editing.metrics import (
    CONSISTENCIES,
    coverage,
    direction_similarity,
    mask_iou,
    psnr,
    region_means,
    region_psnr,
    ssim_map,
)


def left_half(views: int = 1) -> torch.Tensor:
    region = torch.zeros(views, 1, 4, 6, dtype=torch.bool)
    region[..., :3] = True
    return region


def test_psnr_of_a_constant_error_is_minus_20_log10_of_it():
    reference = torch.full((2, 3, 4, 6), 0.5)
    errors = torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(psnr(reference + errors, reference), torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)


def test_psnr_tells_inside_from_outside():
    reference = torch.full((1, 3, 4, 6), 0.5)
    images = torch.where(left_half(), reference + 0.1, reference)
    overall, inside, outside = region_psnr(images, reference, left_half())
    torch.testing.assert_close(inside, torch.tensor([20.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(overall, torch.tensor([20.0 + 10.0 * math.log10(2.0)]), atol=1e-3, rtol=0)
    assert outside.isposinf().all()


def test_what_lies_outside_a_region_cannot_touch_its_psnr():
    reference = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    images = reference + 0.1
    damaged = images.where(left_half(), torch.nan)
    assert torch.equal(psnr(damaged, reference, left_half()), psnr(images, reference, left_half()))


def test_psnr_over_nothing_is_not_a_number():
    images = torch.zeros(1, 3, 4, 6)
    assert psnr(images, images, torch.zeros(1, 1, 4, 6, dtype=torch.bool)).isnan().all()


def test_iou_of_equal_disjoint_overlapping_and_empty_masks():
    half, empty = left_half(), torch.zeros_like(left_half())
    third = torch.zeros_like(half)
    third[..., 2:4] = True
    masks = torch.cat([half, half, half, empty, empty])
    regions = torch.cat([half, ~half, third, empty, half])
    torch.testing.assert_close(mask_iou(masks, regions), torch.tensor([1.0, 0.0, 0.25, 1.0, 0.0]))


def test_coverage_is_the_masked_share_of_each_view():
    masks = torch.cat([left_half(), ~torch.zeros_like(left_half())])
    assert torch.equal(coverage(masks), torch.tensor([0.5, 1.0]))


def embeddings(*degrees: float) -> torch.Tensor:
    """Unit vectors of the plane at these angles."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_direction_similarity_is_the_cosine_between_the_images_and_the_captions_direction():
    original = torch.tensor([[1.0, 0.0, 0.0]] * 4)
    edited = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    source, target = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    # The captions' direction is (-1, 1, 0); the images' are (-1, 1, 0), (-1, 0, 1), none, (-0.4, 0.8, 0).
    expected = torch.tensor([1.0, 0.5, 0.0, 1.2 / math.sqrt(1.6)])
    torch.testing.assert_close(direction_similarity(original, edited, source, target), expected)
    torch.testing.assert_close(direction_similarity(edited, original, source, target), -expected)


ORIGINAL = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
EDITED = [[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]]
# o1 - o0 = (-1, 1, 0); e1 - e0 = (-0.6, -0.2, 0.8); e0 - o0 = (-0.4, 0.8, 0); e1 - o1 = (0, -0.4, 0.8).
BY_HAND = {
    "in2n": 0.4 / math.sqrt(2 * 1.04),
    "printed": 0.24 - 0.16,
    "wys": -0.32 / 0.8,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_consistency_is_its_formula_and_none_of_the_others(name):
    (value,) = CONSISTENCIES[name].measure(torch.tensor(ORIGINAL), torch.tensor(EDITED)).tolist()
    assert value == pytest.approx(BY_HAND[name], abs=1e-6)
    assert sum(value == pytest.approx(other, abs=1e-2) for other in BY_HAND.values()) == 1


def test_no_edit_is_perfectly_consistent_to_in2n_and_has_no_direction_to_the_others():
    frames = embeddings(0, 30, 90)
    values = {name: consistency.measure(frames, frames) for name, consistency in CONSISTENCIES.items()}
    torch.testing.assert_close(values["in2n"], torch.ones(2))
    assert not values["printed"].any()
    assert not values["wys"].any()


def test_an_edit_that_turns_right_angles_is_consistent_to_neither():
    # The original goes along x, the edited along y; the edit's own directions are orthogonal too.
    original = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    edited = torch.tensor([[0.0, 1.0], [0.0, 2.0]]) + torch.tensor([[0.0, 0.0], [3.0, -2.0]])
    assert CONSISTENCIES["wys"].measure(original, edited).tolist() == [0.0]
    edited = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    assert CONSISTENCIES["in2n"].measure(original, edited).tolist() == [0.0]


def some_views(height: int = 20, width: int = 31) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 3, height, width, generator=generator)
    return (reference + 0.2 * torch.randn(reference.shape, generator=generator)).clamp(0, 1), reference


def test_ssim_map_is_that_of_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    images, reference = some_views()
    _, expected = structural_similarity_index_measure(images, reference, data_range=1.0, return_full_image=True)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(ssim_map(images, reference), expected.mean(dim=1, keepdim=True), atol=1e-5, rtol=0)


def test_ssim_of_two_constants_is_their_luminance_term_and_of_equals_is_one():
    dark, bright = torch.full((1, 3, 12, 12), 0.2), torch.full((1, 3, 12, 12), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(ssim_map(dark, bright), torch.full((1, 1, 12, 12), expected), atol=1e-4, rtol=0)
    images, _ = some_views()
    torch.testing.assert_close(ssim_map(images, images), torch.ones(2, 1, 20, 31))


def test_ssim_refuses_images_smaller_than_half_its_window():
    with pytest.raises(ValueError, match="6 or more pixels along each side, not 5x9"):
        ssim_map(torch.zeros(1, 3, 9, 5), torch.zeros(1, 3, 9, 5))


def test_region_means_tell_inside_from_outside():
    values = torch.where(left_half(), 3.0, torch.arange(24.0).view(1, 1, 4, 6))
    overall, inside, outside = region_means(values, left_half())
    right = torch.arange(24.0).view(4, 6)[:, 3:].mean()
    torch.testing.assert_close(inside, torch.tensor([3.0]))
    torch.testing.assert_close(outside, right[None])
    torch.testing.assert_close(overall, (3.0 + right[None]) / 2)
    assert region_means(values, torch.zeros_like(left_half())).inside.isnan().all()
