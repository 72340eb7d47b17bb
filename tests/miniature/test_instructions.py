import re

import numpy as np
import pytest

from latenteditor.miniature.instructions import (
    TEMPLATES,
    Recolouring,
    idle_wording,
    parse,
    random_recolouring,
    wording,
)
from latenteditor.miniature.world import COLOURS, SHAPES, random_world


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_wording_is_read_back(template, monkeypatch):
    monkeypatch.setattr("latenteditor.miniature.instructions.TEMPLATES", (template,))
    rng = np.random.default_rng(0)
    with_present_colour = 0
    for seed in range(60):
        world = random_world(seed)
        recolouring = random_recolouring(world, rng)
        said = wording(world, recolouring, rng)
        assert parse(said, world) == Recolouring(tuple(sorted(recolouring.solids)), recolouring.colour)
        with_present_colour += any(world.solids[index].colour in said for index in recolouring.solids)
    assert 5 < with_present_colour < 55


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plural", ["", "s"])
def test_the_present_colour_of_any_solid_may_be_said(shape, plural):
    """What a torus is called ends like a plural."""
    worlds = (random_world(seed) for seed in range(100))
    world = next(world for world in worlds if shape in {solid.shape for solid in world.solids})
    index, solid = next(pair for pair in enumerate(world.solids) if pair[1].shape == shape)
    new = next(colour for colour in COLOURS if colour != solid.colour)
    assert parse(f"turn the {solid.colour} {shape}{plural} {new}", world) == Recolouring((index,), new)


def test_without_a_generator_the_words_are_plain(world):
    assert wording(world, Recolouring((1,), "blue")) == f"make the {world.solids[1].shape} blue"


def test_a_random_recolouring_takes_a_colour_that_its_solids_do_not_have():
    rng = np.random.default_rng(0)
    counts = set()
    for seed in range(60):
        world = random_world(seed)
        recolouring = random_recolouring(world, rng)
        counts.add(len(recolouring.solids))
        assert recolouring.colour not in {world.solids[index].colour for index in recolouring.solids}
        assert recolouring.apply(world) != world
    assert counts == {1, 2}


def test_idle_wordings_name_no_solid_of_the_world():
    rng = np.random.default_rng(0)
    for seed in range(40):
        world = random_world(seed)
        with pytest.raises(ValueError, match="Cannot tell"):
            parse(idle_wording(world, rng), world)


def test_plurals_capitals_and_punctuation_do_not_matter(world):
    shape = world.solids[0].shape
    assert parse(f"Make the {shape.upper()}S red!", world) == Recolouring((0,), "red")


def test_a_colour_before_a_solid_names_it_and_a_colour_alone_is_the_new_one(world):
    solid = world.solids[2]
    assert parse(f"turn the {solid.colour} {solid.shape} pink", world) == Recolouring((2,), "pink")


@pytest.mark.parametrize("wrong", ["no solid", "no colour", "two colours", "an absent solid", "nothing"])
def test_what_cannot_be_told_is_refused_with_what_could_be_said(wrong, world):
    shape = world.solids[0].shape
    absent = next(name for name in SHAPES if name not in {solid.shape for solid in world.solids})
    prompt = {
        "no solid": "make it red",
        "no colour": f"make the {shape} larger",
        "two colours": f"make the {shape} red and blue",
        "an absent solid": f"make the {absent} red",
        "nothing": "",
    }[wrong]
    with pytest.raises(ValueError, match=re.escape(f"Cannot tell what {prompt!r} does")) as refusal:
        parse(prompt, world)
    message = str(refusal.value)
    assert "\n" not in message
    assert all(f"the {solid.colour} {solid.shape}" in message for solid in world.solids)
    assert all(colour in message for colour in COLOURS)
