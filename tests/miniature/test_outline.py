import pytest
import torch

from latenteditor.miniature.outline import boundary_f, changed, outline


def square(first: int, last: int, size: int = 64) -> torch.Tensor:
    region = torch.zeros(1, 1, size, size, dtype=torch.bool)
    region[..., first:last, first:last] = True
    return region


def test_the_outline_of_a_square_is_its_edge():
    assert outline(square(10, 20)).sum() == 4 * 9


def test_the_border_of_the_view_is_no_outline():
    assert not outline(torch.ones(1, 1, 8, 8, dtype=torch.bool)).any()


def test_a_region_has_its_own_outline_and_one_that_is_a_pixel_off_still_has():
    assert boundary_f(square(10, 30), square(10, 30)).item() == 1
    assert boundary_f(square(11, 29), square(10, 30)).item() == 1


def test_a_smaller_region_within_another_has_another_outline():
    assert boundary_f(square(16, 24), square(10, 30)).item() == 0


def test_half_an_outline_found_counts_by_precision_and_recall():
    """All of the found one is true, a quarter of the true one, and what touches that, is found."""
    true = square(10, 30)
    found = true.clone()
    found[..., 14:, :] = False
    score = boundary_f(found, true).item()
    assert 0.3 < score < 0.8


def test_nothing_found_scores_nothing_and_where_there_is_no_outline_nothing_is_scored():
    nothing = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    assert boundary_f(nothing, square(10, 30)).item() == 0
    assert boundary_f(square(10, 30), nothing).isnan().item()


@pytest.mark.parametrize(("change", "expected"), [(0.05, 0), (0.3, 36)])
def test_what_changed_is_what_differs_by_more_than_the_autoencoder_does(change, expected):
    original = torch.full((1, 3, 16, 16), 0.5)
    edited = original.clone()
    edited[:, 0, 4:8, 4:8] += change
    found = changed(edited, original)
    assert found[..., 4:8, 4:8].all() == (expected > 0)
    assert found.sum() <= expected
