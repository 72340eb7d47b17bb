"""An edit laid over its photograph: what is outside stays, what is inside has the photograph's detail."""

import numpy as np
import pytest
import torch

from latenteditor.handoff.overlay import along_edges, lay_over, shown_change, soft_region, tidy, with_detail

CELLS = 16
FACTOR = 8


def photograph(size: int = CELLS * FACTOR) -> np.ndarray:
    """A picture with detail everywhere."""
    return np.random.default_rng(0).integers(0, 200, (size, size, 3), dtype=np.uint8)


def working(picture: np.ndarray) -> torch.Tensor:
    """What a decoder without any detail makes of a picture."""
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    return torch.nn.functional.avg_pool2d(image[None], 9, 1, 4, count_include_pad=False)[0]


def square(first: int = 4, last: int = 12) -> torch.Tensor:
    mask = torch.zeros(1, CELLS, CELLS, dtype=torch.bool)
    mask[:, first:last, first:last] = True
    return mask


def test_outside_the_mask_every_byte_is_the_photographs():
    before = photograph()
    overlay = lay_over(before, torch.ones(3, 128, 128), working(before), square())
    far = np.ones((128, 128), bool)
    far[3 * FACTOR : 13 * FACTOR, 3 * FACTOR : 13 * FACTOR] = False  # The mask and the seam's cell around it.
    assert (overlay.share[far] == 0).all()
    assert (overlay.picture[overlay.share == 0] == before[overlay.share == 0]).all()
    assert (overlay.share[5 * FACTOR : 11 * FACTOR, 5 * FACTOR : 11 * FACTOR] == 1).all()
    assert before.mean() < 120
    assert overlay.picture[6 * FACTOR : 10 * FACTOR, 6 * FACTOR : 10 * FACTOR].mean() > 220


def test_the_seam_is_soft_and_grows_inwards():
    share = soft_region(square(), (128, 128))[64, 4 * FACTOR : 64].numpy()
    assert (np.diff(share) >= 0).all() and share[0] < 0.2 and share[-1] == 1
    assert ((share > 0.05) & (share < 0.95)).sum() >= FACTOR // 2


def test_a_mask_of_everything_has_no_seam_at_the_views_border():
    assert (soft_region(torch.ones(1, 4, 6, dtype=torch.bool), (32, 48)) == 1).all()


def test_specks_go_and_pinholes_close():
    mask = square()
    mask[0, 0, 0] = mask[0, 15, 14] = mask[0, 15, 15] = True
    mask[0, 7, 7] = False
    assert torch.equal(tidy(mask), square())


def test_a_hole_that_is_no_pinhole_and_an_island_that_is_no_speck_stay():
    mask = square()
    mask[0, 6:8, 6:8] = False
    mask[0, 0:2, 0:2] = True
    assert torch.equal(tidy(mask), mask)


def test_an_edit_that_changes_nothing_leaves_the_photograph_as_it_was():
    before = photograph()
    overlay = lay_over(before, working(before), working(before), square())
    assert (overlay.picture == before).all()


def test_nothing_is_laid_over_where_there_is_no_mask():
    before = photograph()
    overlay = lay_over(before, torch.ones(3, 128, 128), working(before), torch.zeros(1, 16, 16, dtype=torch.bool))
    assert overlay.picture is before and not overlay.share.any()


@pytest.mark.parametrize("size", [128, 320])
def test_detail_comes_back_where_the_edit_follows_the_view_and_not_where_it_draws_anew(size):
    before = torch.from_numpy(photograph(size)).permute(2, 0, 1).float() / 255
    shown = torch.nn.functional.interpolate(working(photograph(size))[None], (128, 128), mode="area")[0]
    detail = before - torch.nn.functional.interpolate(shown[None], (size, size), mode="bicubic")[0]
    darker = with_detail(0.5 * shown, shown, before)
    kept = darker - 0.5 * torch.nn.functional.interpolate(shown[None], (size, size), mode="bicubic")[0]
    assert (kept * detail).sum() / (detail**2).sum() > 0.4
    elsewhere = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(1))
    drawn = with_detail(elsewhere, shown, before)
    kept = drawn - torch.nn.functional.interpolate(elsewhere[None], (size, size), mode="bicubic")[0]
    assert (kept * detail).sum() / (detail**2).sum() < 0.1


def test_a_faint_edit_counts_as_a_change_and_what_it_leaves_does_not():
    before = torch.full((3, 128, 128), 0.5)
    edited = before.clone()
    edited[:, 40:60, 40:60] += 0.02
    share = shown_change(edited, before, square())[0]
    assert share[45:55, 45:55].min() == 1 and share[70:90, 70:90].max() == 0


@pytest.mark.parametrize("size", [128, 512])
def test_a_blurred_border_follows_the_photographs_edge(size):
    photograph = torch.where(disc(size), 0.8, 0.3).repeat(3, 1, 1)
    change = torch.nn.functional.avg_pool2d(disc(128)[None].float(), 9, 1, 4, count_include_pad=False)
    blurred = torch.nn.functional.interpolate(change[None], (size, size), mode="bilinear")[0, 0]
    share = along_edges(change, photograph, float(FACTOR))
    wrong = [(image - disc(size).float()).square().mean().item() for image in (blurred, share)]
    assert wrong[1] < 0.4 * wrong[0]


def test_a_border_that_the_photograph_does_not_have_stays_where_the_edit_drew_it():
    photograph = torch.where(disc(128), 0.8, 0.3).repeat(3, 1, 1)
    change = torch.zeros(1, 128, 128)
    change[:, 5:25, 5:25] = 1
    assert torch.allclose(along_edges(change, photograph, float(FACTOR)), change[0], atol=1e-4)


def disc(size: int) -> torch.Tensor:
    """A disc in the middle of a square."""
    sides = (torch.arange(size) + 0.5) / size - 0.5
    return sides[:, None] ** 2 + sides[None] ** 2 < 0.06
