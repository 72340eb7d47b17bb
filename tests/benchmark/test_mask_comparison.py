"""Masks and edits against the truth: figures of views, and what is left of them in tables."""

import json

import pytest
import torch

from latenteditor.benchmark.mask_comparison import (
    cost_table,
    largest_difference_outside,
    mask_table,
    mean_costs,
    measure_views,
    psnr_table,
    summarise_views,
    summarise_worlds,
)
from latenteditor.worlds.held_out import HeldOut
from latenteditor.worlds.report import at_pixels

SIZE = 10
NAMES = ["near.png", "far.png", "away.png"]


@pytest.fixture
def views() -> HeldOut:
    """Three grey views whose region takes a fifth, a hundredth and nothing."""
    region = torch.zeros(3, 1, SIZE, SIZE, dtype=torch.bool)
    region[0, :, :2] = True
    region[1, :, 0, 0] = True
    grey = torch.full((3, 3, SIZE, SIZE), 0.5)
    return HeldOut(NAMES, photographs=grey, truth=grey.clone(), region=region)


@pytest.fixture
def figures(views):
    half = views.region.clone()
    half[0, :, :, : SIZE // 2] = False
    everything = torch.ones_like(views.region)
    off_inside = views.truth + 0.1 * views.region
    return measure_views(views, {"per-view": half, "field": everything}, {"field": off_inside})


def test_figures_of_views_have_their_closed_forms(figures):
    near, far, away = figures
    assert [view["view"] for view in figures] == NAMES
    assert [view["region"] for view in figures] == pytest.approx([0.2, 0.01, 0.0])
    assert near["mask_iou"] == pytest.approx({"per-view": 0.5, "field": 0.2})
    assert far["mask_iou"] == pytest.approx({"per-view": 1.0, "field": 0.01})
    assert near["mask_coverage"] == pytest.approx({"per-view": 0.1, "field": 1.0})
    assert near["psnr_inside"]["field"] == pytest.approx(20.0, abs=1e-4)
    # Equal images have no finite PSNR, and a region that is not seen has none at all.
    assert near["psnr_outside"]["field"] is None
    assert away["psnr_inside"]["field"] is None
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


@pytest.mark.parametrize(
    ("least_region", "count", "mean", "worst"),
    [(0.004, 2, (0.75, 0.105), (0.5, 0.01)), (0.02, 1, (0.5, 0.2), (0.5, 0.2)), (0.5, 0, (), ())],
)
def test_views_that_hardly_see_the_region_do_not_count(figures, least_region, count, mean, worst):
    summary = summarise_views(figures, least_region)
    assert summary["views"] == count
    assert tuple(summary["mask_iou"].values()) == pytest.approx(mean)
    assert tuple(summary["worst_mask_iou"].values()) == pytest.approx(worst)


def test_worlds_count_alike_and_the_worst_view_is_that_of_all(figures):
    one, other, none = (summarise_views(figures, least) for least in (0.004, 0.02, 0.5))
    together = summarise_worlds([one, other, none])
    assert together["views"] == 3
    assert together["mask_iou"] == pytest.approx({"per-view": 0.625, "field": 0.1525})
    assert together["worst_mask_iou"] == pytest.approx({"per-view": 0.5, "field": 0.01})
    assert together["psnr_inside"] == pytest.approx({"field": 20.0}, abs=1e-4)
    table = mask_table({"one": one, "none": none})
    assert [cell.strip() for cell in table[2].split("|")[1:-1]] == ["one", "2", "0.75", "0.50", "0.11", "0.01"]
    assert [cell.strip() for cell in table[3].split("|")[1:-1]] == ["none", "0", "-", "-", "-", "-"]
    assert [cell.strip() for cell in psnr_table({"one": one}, ["field"])[2].split("|")[1:-1]] == ["one", "20.00", "-"]


def test_only_what_shows_nothing_of_the_edit_is_held_against_the_unedited_scene(views):
    edited = views.photographs.clone()
    edited[0, :, 0, 0] = 1.0
    shown = torch.zeros_like(views.region)
    shown[0, :, 0, 0] = True
    assert largest_difference_outside(edited, views.photographs, shown) == [0.0, 0.0, 0.0]
    edited[2, 1, 4, 4] = 0.25
    assert largest_difference_outside(edited, views.photographs, shown) == [0.0, 0.0, 0.25]


def test_a_mask_of_cells_covers_their_pixels(views):
    cells = torch.zeros(3, 1, SIZE // 2, SIZE // 2, dtype=torch.bool)
    cells[:, :, 0] = True
    assert torch.equal(at_pixels(cells, views.region)[0], views.region[0])


def costs(seconds: float, megabytes: float) -> dict[str, float]:
    return {
        "survey_seconds": seconds, "relevance_seconds": 0.0, "seconds_per_view_edit": 0.5,
        "command_seconds": 10 * seconds, "memory_bytes": 1e6 * megabytes, "gpu_bytes": 0.0,
    }  # fmt: skip


def test_costs_are_stated_beyond_the_plain_method_where_it_was_run():
    worlds = [{"none": costs(0, 900), "field": costs(2, 1000)}, {"none": costs(0, 1100), "field": costs(4, 1300)}]
    together = mean_costs(worlds)
    assert together["field"] == costs(3, 1150)
    heads, _, plain, field, extra = ([cell.strip() for cell in line.split("|")[1:-1]] for line in cost_table(together))
    assert (plain[0], field[0], extra[0]) == ("none", "field", "field over none")
    assert dict(zip(heads, extra, strict=True))["survey, s"] == "3.0"
    assert dict(zip(heads, extra, strict=True))["memory, MB"] == "150"
    assert dict(zip(heads, field, strict=True))["ns-train, s"] == "30.0"
    del together["none"]
    assert len(cost_table(together)) == 3
