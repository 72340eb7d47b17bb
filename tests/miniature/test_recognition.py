import numpy as np
import pytest
import torch

from latenteditor.miniature.recognition import (
    TRUTH,
    UNEDITED,
    hue_candidates,
    interval,
    look_candidates,
    nearest_candidate,
    region_camera,
    world_candidates,
)
from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import Tracer, dome_camera
from latenteditor.worlds.truth import follow
from latenteditor.worlds.world import COLOURS, MATERIALS, SHAPES

SIZE = 48
INSTRUCTIONS = {
    "colour": Instruction((0,), colour="cyan"),
    "shape": Instruction((0,), shape="cone"),
    "material": Instruction((0,), material="striped"),
    "removal": Instruction((0,), removed=True),
    "group": Instruction((0, 1), colour="cyan"),
    "look": Instruction(look="sepia"),
}


@pytest.fixture(scope="module")
def hits(world):
    """A view in which the first solid is neither a cyan cone nor striped, and is well seen."""
    solid = world.solids[0]
    assert (solid.colour != "cyan", solid.shape != "cone", solid.material != "striped") == (True, True, True)
    rng, tracer = np.random.default_rng(0), Tracer(world)
    views = (tracer.trace(dome_camera(rng, SIZE)) for _ in range(20))
    return next(view for view in views if all((view.ids == index).mean() > 0.02 for index in (1, 2)))


def seen(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).float().movedim(-1, 0)[None]


@pytest.mark.parametrize("kind", INSTRUCTIONS)
def test_the_truth_is_recognised_and_every_alternative_is_known_by_its_own_name(hits, kind):
    after, region = follow(INSTRUCTIONS[kind], hits)
    candidates = world_candidates(INSTRUCTIONS[kind], hits, region, after)
    where = torch.from_numpy(region)[None, None]
    assert nearest_candidate(seen(after), where, candidates) == TRUTH
    assert nearest_candidate(seen(hits.shade(hits.world)), where, candidates) == UNEDITED
    for name, pixels in zip(candidates.names, candidates.pixels, strict=True):
        picture = seen(after)
        picture[0, :, where[0, 0]] = pixels.T
        nearest = candidates.names.index(nearest_candidate(picture, where, candidates))
        # The solid's own colour, say, is the unedited view once more.
        assert torch.allclose(candidates.pixels[nearest], pixels, atol=0.01)
        assert (nearest == 0) == (name == TRUTH)


@pytest.mark.parametrize("colour", ["red", "purple"])
def test_a_dark_scrap_is_nearer_to_the_truth_than_to_the_original_and_yet_not_recognised(hits, colour):
    """What the old measure took for a cone: a flat patch where cone and solid are, in some dark colour."""
    after, region = follow(INSTRUCTIONS["shape"], hits)
    candidates = world_candidates(INSTRUCTIONS["shape"], hits, region, after)
    scrap = after.copy()
    scrap[region] = 0.3 * np.array(COLOURS[colour])
    assert nearest_candidate(seen(scrap), torch.from_numpy(region)[None, None], candidates) != TRUTH


def test_alternatives_are_every_other_colour_shape_and_material_and_the_solid_taken_away(hits):
    after, region = follow(INSTRUCTIONS["colour"], hits)
    names = set(world_candidates(INSTRUCTIONS["colour"], hits, region, after).names)
    solid = hits.world.solids[0]
    assert set(COLOURS) - {"cyan", solid.colour} <= names
    assert set(SHAPES) - {solid.shape} <= names
    assert set(MATERIALS) - {solid.material} <= names
    assert {"removed", UNEDITED} <= names
    assert not {"cyan", solid.shape, solid.material} & names, "these would be the truth"


def test_a_removal_that_leaves_the_shadow_is_told_from_one_that_does_not(hits):
    instruction = INSTRUCTIONS["removal"]
    after, region = follow(instruction, hits)
    candidates = world_candidates(instruction, hits, region, after)
    assert candidates.names[-1] == "removed, its shadow left"
    ghost = candidates.pixels[-1]
    darker = (ghost - candidates.pixels[0]).mean(dim=-1)
    assert (darker < 1e-5).all()
    assert (darker < -0.05).any()


def test_of_several_solids_one_left_as_it_was_is_an_alternative(hits):
    after, region = follow(INSTRUCTIONS["group"], hits)
    names = world_candidates(INSTRUCTIONS["group"], hits, region, after).names
    assert {"without solid 0", "without solid 1"} <= set(names)


def test_a_region_camera_sees_the_pixels_of_the_whole_view(hits):
    region = hits.ids == 1
    there = Tracer(hits.world).trace(region_camera(hits.camera, region))
    pixels = there.shade(hits.world).reshape(-1, 3)[: region.sum()]
    assert np.allclose(pixels, hits.shade(hits.world)[region])


def test_photographs_have_every_other_hue_and_look_for_alternatives():
    picture = np.full((6, 6, 3), 0.3)
    picture[:3] = (0.8, 0.1, 0.1)
    region = np.zeros((6, 6), dtype=bool)
    region[:3] = True
    hues = hue_candidates(picture, "red", picture * (0.2, 1, 1), region)
    assert set(hues.names) == {TRUTH, UNEDITED} | set(COLOURS) - {"red"}
    looks = look_candidates(picture, 1 - picture)
    assert set(looks.names) == {TRUTH, UNEDITED, "night", "black and white", "sepia", "pencil"}


def test_wilsons_interval_is_the_set_of_rates_that_do_not_refute_what_was_seen():
    for successes, trials in ((0, 9), (3, 10), (9, 9), (50, 200)):
        low, high = interval(successes, trials)
        for bound in (low, high):
            deviation = abs(successes / trials - bound)
            assert deviation == pytest.approx(1.96 * np.sqrt(bound * (1 - bound) / trials), abs=1e-9)
        assert low <= successes / trials <= high
    assert interval(0, 0) == (0.0, 1.0)
