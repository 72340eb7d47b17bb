"""What became of solids that were edited by several instructions."""

import pytest
import torch

from latenteditor.pictures import read_images
from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.several import (
    KINDS,
    draw_prompts,
    draw_recolourings,
    draw_seeds,
    render_solid_views,
    solid_figures,
)
from latenteditor.worlds.world import random_world

SEED = next(seed for seed in range(100) if len(random_world(seed).solids) >= 3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "world"
    write_dataset(folder, random_world(SEED), 6, 2, 48, SEED)
    return folder


def test_each_recolouring_is_about_another_solid_in_a_colour_of_its_own():
    for seed in range(SEED, SEED + 10):
        world = random_world(seed)
        drawn = draw_recolourings(world, seed, 2)
        assert len({instruction.solids for instruction, _ in drawn}) == 2
        assert len({instruction.colour for instruction, _ in drawn} - {solid.colour for solid in world.solids}) == 2
        for instruction, words in drawn:
            assert parse(words, world) == instruction
    assert draw_recolourings(world, seed, 2) == drawn


def test_prompts_of_every_kind_are_about_the_same_solids_and_change_them():
    for seed in range(SEED, SEED + 10):
        world = random_world(seed)
        drawn = {kind: draw_prompts(world, seed, kind, 2) for kind in KINDS}
        assert drawn["recolour"] == draw_recolourings(world, seed, 2)
        assert len({tuple(instruction.solids for instruction, _ in of_kind) for of_kind in drawn.values()}) == 1
        for instruction, words in (one for of_kind in drawn.values() for one in of_kind):
            assert parse(words, world) == instruction
            assert instruction.apply(world) != world


def test_more_recolourings_than_solids_are_refused():
    world = random_world(SEED)
    with pytest.raises(ValueError, match=f"seed {SEED} has {len(world.solids)} solids, not 9"):
        draw_recolourings(world, SEED, 9)


def test_a_scene_is_right_where_it_shows_what_it_should(dataset):
    drawn = draw_recolourings(random_world(SEED), SEED, 3)
    instructions = [instruction for instruction, _ in drawn]
    views = render_solid_views(dataset, instructions)
    assert views.photographs.shape == views.truth.shape == (2, 3, 48, 48)
    pictures = read_images(dataset / "images", views.names)
    torch.testing.assert_close(pictures, views.photographs, atol=0.5 / 255 + 1e-6, rtol=0)
    first, second, third = (instruction.solids[0] for instruction in instructions)
    changed = (views.photographs != views.truth).any(dim=1, keepdim=True)
    named = views.seen(first) | views.seen(second) | views.seen(third)
    assert (changed & ~named).float().mean() < 0.05, "only edges and reflections beside the named solids"
    removed = torch.where(views.seen(second), views.photographs, views.truth) + 0.01
    for solid, edited in ((first, True), (second, False), (third, True)):
        figures = solid_figures(removed, views.photographs, views, solid, edited)
        if figures:
            assert figures["right"] == 1.0
            assert figures["psnr_wanted"] == pytest.approx(40.0, abs=0.1)
            assert figures["psnr_other"] < 30.0
            wrong = solid_figures(removed, views.photographs, views, solid, not edited)
            assert wrong["right"] == 0.0
            assert wrong["psnr_wanted"] == figures["psnr_other"]


def test_a_solid_that_no_view_sees_has_no_figures(dataset):
    views = render_solid_views(dataset, [])
    assert solid_figures(views.photographs, views.photographs, views, 200, True) == {}


def test_worlds_with_too_few_solids_are_passed_over():
    seeds = draw_seeds(3_000_200, 3, 4)
    assert len(seeds) == 3 == len(set(seeds))
    assert all(len(random_world(seed).solids) >= 4 for seed in seeds)
    with pytest.raises(ValueError, match="have 100 solids: ask for fewer"):
        draw_seeds(0, 1, 100)
