"""What finished edits look like: how far they leak, and LPIPS in and outside the region."""

import math

import pytest
import torch

from latenteditor.benchmark.final_views import RINGS, final_views, leakage, leaks_to
from latenteditor.worlds.held_out import HeldOut

SIZE = 64


def region() -> torch.Tensor:
    mask = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    mask[:, :, :, :16] = True
    return mask


def test_a_change_in_the_region_alone_leaks_nowhere():
    unedited = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rings = leakage(unedited + 0.5 * region(), unedited, region())
    assert [ring for ring in rings if not math.isnan(ring)] == [0.0] * (RINGS.index(48))
    assert leaks_to(rings) == 0


def test_a_change_around_the_region_is_found_at_its_distance():
    unedited = torch.zeros(2, 3, SIZE, SIZE)
    edited = unedited.clone()
    edited[..., 16 : 16 + 8] = 0.25
    rings = leakage(edited, unedited, region())
    assert rings[: RINGS.index(8)] == pytest.approx([0.25] * RINGS.index(8))
    assert rings[RINGS.index(8) : RINGS.index(48)] == pytest.approx([0.0] * (RINGS.index(48) - RINGS.index(8)))
    assert leaks_to(rings) == 8


def test_a_change_everywhere_has_no_end():
    rings = [0.1] * len(RINGS)
    assert leaks_to(rings) == math.inf


def test_lpips_is_meant_over_the_region_and_the_rest_of_the_views_that_see_it():
    sees = region()
    sees[1] = False
    images = torch.zeros(2, 3, SIZE, SIZE)
    views = HeldOut(["a", "b"], images, images, sees)
    distance = torch.where(region()[:1], 0.75, 0.25)
    found = final_views(images, images, views, lambda shown, truth: distance)
    assert (found.lpips_inside, found.lpips_outside) == (0.75, 0.25)
    assert math.isnan(final_views(images, images, views, None).lpips_inside)
