import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from latenteditor.worlds.instructions import (
    COLOUR_AND_MATERIAL_TEMPLATES,
    COLOUR_AND_SHAPE_TEMPLATES,
    COLOUR_TEMPLATES,
    KIND_SHARES,
    LOOK_TEMPLATES,
    MATERIAL_TEMPLATES,
    REMOVAL_TEMPLATES,
    SHAPE_TEMPLATES,
    SNOW,
    Instruction,
    idle_wording,
    parse,
    random_instruction,
    random_kind,
    random_recolouring,
)
from latenteditor.worlds.looks import LOOKS
from latenteditor.worlds.world import COLOURS, MATERIALS, SHAPES, Solid, World, random_world

TEMPLATES = {
    COLOUR_TEMPLATES: ("colour",),
    SHAPE_TEMPLATES: ("shape",),
    MATERIAL_TEMPLATES: ("material",),
    COLOUR_AND_SHAPE_TEMPLATES: ("colour", "shape"),
    COLOUR_AND_MATERIAL_TEMPLATES: ("colour", "material"),
    REMOVAL_TEMPLATES: (),
}
NAMES = ("the {0.shape}", "the {0.colour} {0.shape}", "the {0.colour} thing", "the {0.material} {0.shape}")


def other(values, own):
    """Values but one."""
    return [value for value in values if value != own]


def world_with(shape: str) -> tuple[World, int, Solid]:
    """A world with a solid of a shape, which is not the first."""
    for seed in range(200):
        for index, solid in enumerate(random_world(seed).solids):
            if index and solid.shape == shape:
                return random_world(seed), index, solid
    raise AssertionError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("template", "fields"), [(text, fields) for texts, fields in TEMPLATES.items() for text in texts]
)
def test_every_wording_is_read_back(template, fields, name):
    for seed in range(12):
        world = random_world(seed)
        index = seed % len(world.solids)
        solid = world.solids[index]
        new = {
            "colour": other(COLOURS, solid.colour)[seed % 7],
            "shape": other(SHAPES, solid.shape)[seed % 4],
            "material": other(MATERIALS, solid.material)[seed % 2],
        }
        expected = Instruction((index,), removed=not fields, **{field: new[field] for field in fields})
        assert parse(template.format(what=name.format(solid), **new), world) == expected


def test_what_a_random_instruction_says_is_what_it_does():
    rng = np.random.default_rng(0)
    kinds = Counter()
    for seed in range(500):
        world = random_world(seed % 100)
        instruction, words = random_instruction(world, rng, random_kind(rng, KIND_SHARES))
        assert parse(words, world) == replace(instruction, solids=tuple(sorted(instruction.solids))), words
        assert instruction.look or instruction.apply(world) != world
        fields = [name for name in ("colour", "shape", "material", "removed", "look") if getattr(instruction, name)]
        kinds[("several " if len(instruction.solids) > 1 else "") + " and ".join(fields)] += 1
    common = {"colour", "several colour", "shape", "material", "removed", "look"}
    assert set(kinds) == common | {"colour and shape", "colour and material"}
    assert 200 < kinds["colour"] < 350
    assert min(kinds.values()) > 5


def test_groups_are_said_in_every_way():
    rng = np.random.default_rng(0)
    said = " ".join(random_instruction(random_world(seed % 100), rng, "group")[1] for seed in range(200))
    assert all(f"all the {material} things" in said for material in MATERIALS)
    assert "all the things" in said
    assert re.search(r"the \w+( \w+)? and the \w+", said)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plural", ["", "s"])
def test_the_present_colour_of_any_solid_may_be_said(shape, plural):
    """What a torus is called ends like a plural."""
    world, index, solid = world_with(shape)
    new = other(COLOURS, solid.colour)[0]
    assert parse(f"turn the {solid.colour} {shape}{plural} {new}", world) == Instruction((index,), colour=new)


def test_groups_are_read(world):
    """The world's solids are matte, matte and shiny."""
    assert parse("make all the matte things red", world) == Instruction((0, 1), colour="red")
    assert parse("remove all the things", world) == Instruction((0, 1, 2), removed=True)
    colour = world.solids[2].colour
    assert parse(f"make the {world.solids[1].shape} and the {colour} thing red", world).solids == (1, 2)


def test_what_follows_an_article_is_new():
    """Else a cube into which another solid turns would be one that is there."""
    world, index, solid = world_with("cube")
    assert parse(f"turn the {world.solids[0].shape} into a cube", world) == Instruction((0,), shape="cube")
    assert parse("turn the cube into a red cone", world) == Instruction((index,), colour="red", shape="cone")


@pytest.mark.parametrize(
    ("look", "words"), [(look, words) for look, texts in LOOK_TEMPLATES.items() for words in texts]
)
def test_looks_are_read_in_any_world(look, words, world):
    assert parse(words.upper() + ".", world) == Instruction(look=look)


def test_every_look_of_a_picture_can_be_asked_for():
    assert set(LOOK_TEMPLATES) == {*LOOKS, "snow"}


def test_the_words_for_a_recolouring_vary_and_are_read_back():
    rng = np.random.default_rng(0)
    with_present_colour, said = 0, set()
    for seed in range(60):
        world = random_world(seed)
        recolouring, words = random_instruction(world, rng, "colour")
        assert parse(words, world) == recolouring
        with_present_colour += world.solids[recolouring.solids[0]].colour in words
        said.add(words.split()[0])
    assert 5 < with_present_colour < 55
    assert len(said) > 4


@pytest.mark.parametrize("count", [1, 2])
def test_a_random_recolouring_takes_a_colour_that_its_solids_do_not_have(count):
    rng = np.random.default_rng(0)
    for seed in range(60):
        world = random_world(seed)
        recolouring = random_recolouring(world, rng, count) if count > 1 else random_recolouring(world, rng)
        assert recolouring == Instruction(recolouring.solids, colour=recolouring.colour)
        assert len(set(recolouring.solids)) == count
        assert recolouring.colour not in {world.solids[index].colour for index in recolouring.solids}


def test_idle_wordings_name_no_solid_of_the_world():
    rng = np.random.default_rng(0)
    removals = 0
    for seed in range(300):
        world = random_world(seed % 60)
        words = idle_wording(world, rng)
        removals += words.split()[0] in ("remove", "delete", "erase", "take")
        with pytest.raises(ValueError, match="Cannot tell"):
            parse(words, world)
    assert removals > 10


def test_plurals_capitals_and_punctuation_do_not_matter(world):
    shape = world.solids[0].shape
    assert parse(f"Make the {shape.upper()}S red!", world) == Instruction((0,), colour="red")


@pytest.mark.parametrize(
    "wrong",
    [
        "no solid",
        "nothing new",
        "two colours",
        "two shapes",
        "two materials",
        "a removal that paints",
        "an absent solid",
        "an absent colour",
        "nothing",
        "no word",
    ],
)
def test_what_cannot_be_told_is_refused_with_what_could_be_said(wrong, world):
    shape = world.solids[0].shape
    absent = next(name for name in SHAPES if name not in {solid.shape for solid in world.solids})
    prompt = {
        "no solid": "make it red",
        "nothing new": f"make the {shape} larger",
        "two colours": f"make the {shape} red and blue",
        "two shapes": f"turn the {shape} into a cone or a sphere",
        "two materials": f"make the {shape} shiny and striped",
        "a removal that paints": f"remove the {shape} and make it red",
        "an absent solid": f"make the {absent} red",
        "an absent colour": f"make the {world.solids[1].colour} {shape} red",
        "nothing": "",
        "no word": "1 2 !",
    }[wrong]
    with pytest.raises(ValueError, match=re.escape(f"Cannot tell what {prompt!r} does")) as refusal:
        parse(prompt, world)
    message = str(refusal.value)
    assert "\n" not in message
    assert all(f"the {solid.colour} {solid.shape}" in message for solid in world.solids)
    assert all(word in message for word in (*COLOURS, *SHAPES, *MATERIALS))


@pytest.mark.parametrize(
    "new",
    [{"colour": "cyan"}, {"shape": "cone"}, {"material": "striped"}, {"colour": "cyan", "shape": "cone"}],
    ids=" and ".join,
)
def test_the_named_solids_change_as_told_and_nothing_else_does(new, world):
    instruction = Instruction((0, 2), **new)
    after = instruction.apply(world)
    assert after == replace(
        world,
        solids=(replace(world.solids[0], **new), world.solids[1], replace(world.solids[2], **new)),
    )
    assert after != world
    assert instruction.moves_surfaces == ("shape" in new)


def test_removed_solids_are_gone(world):
    instruction = Instruction((0, 2), removed=True)
    assert instruction.apply(world) == replace(world, solids=world.solids[1:2])
    assert instruction.moves_surfaces


def test_snow_lies_on_the_whole_floor_and_on_nothing_else(world):
    after = Instruction(look="snow").apply(world)
    assert after.floor.colours == (SNOW, SNOW)
    assert replace(after, floor=world.floor) == world
    assert not Instruction(look="snow").moves_surfaces


def test_an_instruction_without_content_changes_nothing(world):
    picture = np.random.default_rng(0).uniform(size=(4, 4, 3))
    for instruction in (Instruction(), Instruction((0,), colour=world.solids[0].colour)):
        assert instruction.apply(world) == world
        assert instruction.finish(picture) is picture


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_of_the_picture_leaves_the_world_and_finishes_the_picture(look, world):
    picture = np.random.default_rng(0).uniform(size=(4, 4, 3))
    assert Instruction(look=look).apply(world) == world
    assert np.array_equal(Instruction(look=look).finish(picture), LOOKS[look](picture))
