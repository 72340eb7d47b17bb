import math

import torch

from latenteditor.editing.metrics import coverage, mask_iou, psnr, region_psnr


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
