"""What all views changed is told from what each repaints, by the true geometry of a built-in world."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from latenteditor.editing.metrics import mask_iou
from latenteditor.handoff.overlay import tidy
from latenteditor.nerf.change_agreement import Sight, agree, in_cells, look, scaled
from latenteditor.nerf.projection import PerspectiveCamera
from latenteditor.nerf.warped_edits import Finished, warp_edits
from latenteditor.worlds.dataset import dome_cameras
from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import Tracer
from latenteditor.worlds.truth import follow
from latenteditor.worlds.world import random_world

SIZE, NUM_VIEWS, SHARE = 32, 16, 0.35
"""Pixels of a view, which are its cells; views; the default."""


def torch_of(array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()


@pytest.fixture(scope="module")
def cameras() -> list:
    return dome_cameras(NUM_VIEWS, SIZE, seed=0)


@pytest.fixture(scope="module")
def views(cameras) -> list:
    """What each camera's rays meet."""
    tracer = Tracer(random_world(3, num_solids=3))
    return [tracer.trace(camera) for camera in cameras]


@pytest.fixture(scope="module")
def sights(cameras, views) -> list[Sight]:
    found = []
    for camera, hits in zip(cameras, views, strict=True):
        _, rays = camera.rays(1)
        ahead = (rays @ -camera.camera_to_world[:3, 2]).reshape(SIZE, SIZE)
        distance = np.where(np.isfinite(hits.depth), hits.depth, 50.0) / ahead
        pinhole = PerspectiveCamera(
            torch.full((2,), camera.focal_length).float(),
            torch.full((2,), SIZE / 2),
            torch_of(camera.camera_to_world[:3]),
            torch.zeros(6),
        )
        found.append(Sight(pinhole, torch_of(rays).view(SIZE, SIZE, 3), torch_of(distance)))
    return found


def changes_of(views, instruction: Instruction) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """By how much each view changes, as relevance, and the true regions."""
    relevance, regions = [], []
    for hits in views:
        after, region = follow(instruction, hits)
        relevance.append((torch_of(np.abs(after - hits.shade(hits.world)).max(axis=-1)) * 4).clamp(max=1))
        regions.append(torch.from_numpy(region))
    return relevance, regions


def repaint(relevance: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each view with two rectangles changed at random, a fifth of it in all."""
    generator = torch.Generator().manual_seed(1)
    repainted = []
    for each in relevance:
        changed = each.clone()
        for _ in range(2):
            row, column = (int(torch.randint(SIZE - SIZE // 3, (), generator=generator)) for _ in range(2))
            changed[row : row + SIZE // 3, column : column + SIZE // 3] = 1.0
        repainted.append(changed)
    return repainted


def mean_iou(found, regions) -> float:
    pairs = [(one.float(), other.float()) for one, other in zip(found, regions, strict=True) if other.any()]
    return float(
        np.mean([mask_iou(one.view(1, 1, SIZE, SIZE) > 0, other.view(1, 1, SIZE, SIZE) > 0) for one, other in pairs])
    )


def everything_seen() -> list[torch.Tensor]:
    return [torch.ones(SIZE, SIZE, dtype=torch.bool)] * NUM_VIEWS


def agreed(sights, relevance) -> list[torch.Tensor]:
    return [tidy(region, speck=2)[0] for region in agree(sights, relevance, everything_seen(), SHARE)]


def test_what_single_views_repaint_is_outvoted(sights, views):
    relevance, regions = changes_of(views, Instruction((0,), colour="green"))
    assert mean_iou(agreed(sights, relevance), regions) > 0.8
    repainted = repaint(relevance)
    assert mean_iou([each > 0.5 for each in repainted], regions) < 0.3
    assert mean_iou(agreed(sights, repainted), regions) > 0.4


def test_a_new_shape_may_stand_in_front_of_what_was_there(sights, views):
    world = views[0].world
    taller = replace(world, solids=tuple(replace(each, size=1.4 * each.size) for each in world.solids))
    before = [hits.shade(world) for hits in views]
    after = [Tracer(taller).trace(hits.camera).shade(taller) for hits in views]
    grown = [torch.from_numpy(np.abs(a - b).max(axis=-1) > 0.1) for a, b in zip(after, before, strict=True)]
    found = agreed(sights, [each.float() for each in grown])
    assert mean_iou(found, grown) > 0.6


def test_a_view_without_an_edit_is_told_by_the_others_where_it_belongs(sights, views):
    relevance, regions = changes_of(views, Instruction((0,), colour="green"))
    found = agreed(sights, [None, *relevance[1:]])
    assert mean_iou(found[:1], regions[:1]) > 0.5


def test_what_is_not_seen_has_no_vote_and_few_votes_decide_nothing(sights, views):
    relevance, _ = changes_of(views, Instruction((0,), colour="green"))
    everything = everything_seen()
    assert not any(region.any() for region in agree(sights[:2], relevance[:2], everything[:2], SHARE))
    nothing = [~each for each in everything]
    assert not any(region.any() for region in agree(sights, relevance, nothing, SHARE))


def test_where_everything_changed_everything_is_the_edit(sights):
    all_of_it = [torch.ones(SIZE, SIZE)] * NUM_VIEWS
    assert (
        mean_iou(
            [region[0] for region in agree(sights, all_of_it, everything_seen(), SHARE)],
            [each > 0 for each in all_of_it],
        )
        > 0.8
    )


def test_faint_edits_count_as_much_as_strong_ones():
    strong = torch.zeros(1, 32, 32)
    strong[:, 8:16, 8:16] = 0.9
    for change in (strong, strong / 4):
        (found,) = scaled([change])
        assert found[:, 9:15, 9:15].min() == 1 and found[:, :8].max() == 0
    assert scaled([None, torch.full((1, 4, 4), 0.03)])[0] is None
    assert scaled([torch.full((1, 4, 4), 0.03)])[0].max() == 0, "noise is no change"


def test_cells_are_the_means_of_their_pixels():
    camera = Cameras(torch.eye(4)[None, :3], 100.0, 100.0, 64.0, 32.0, width=128, height=64)
    image = torch.zeros(1, 64, 128)
    image[:, :2, :2] = 1
    cells = in_cells(image, camera)
    assert cells.shape == (32, 64) and cells[0, 0] == 1 and cells.sum() == 1


def test_cameras_that_are_no_perspective_ones_are_refused_in_a_sentence(reconstructed_run):
    fisheye = copy.deepcopy(reconstructed_run.pipeline.datamanager.train_dataset.cameras[:1])
    fisheye.camera_type = torch.full_like(fisheye.camera_type, CameraType.FISHEYE.value)
    with pytest.raises(ValueError, match="undistort the photographs first"):
        look(reconstructed_run.pipeline.model, fisheye)


def test_a_neighbours_edit_lies_on_the_surface_that_both_see(cameras, views, sights):
    instruction, one, others = Instruction((0,), colour="green"), 0, (1, NUM_VIEWS - 1)
    before = [torch_of(hits.shade(hits.world)).permute(2, 0, 1) for hits in views]
    edits = [torch_of(follow(instruction, hits)[0]).permute(2, 0, 1) for hits in views]
    relevance, regions = changes_of(views, instruction)
    finished = [Finished(sights[other], edits[other], relevance[other][None]) for other in others]
    warped = warp_edits(before[one], sights[one], finished)
    region = regions[one]
    assert region.any()
    assert (warped - edits[one]).abs()[:, region].mean() < 0.7 * (before[one] - edits[one]).abs()[:, region].mean()
    assert (warped - before[one]).abs()[:, ~region].mean() < 0.01
    assert torch.equal(warp_edits(before[one], sights[one], []), before[one])
