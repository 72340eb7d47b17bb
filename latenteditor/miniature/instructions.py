"""Instructions about a built-in world, and the world they ask for.

An instruction says which solids take which colour. It is written in varying words from a seed, and read back
from words by ``parse``, so that a prompt typed by a person has a known truth.
"""

import re
from dataclasses import dataclass

import numpy as np

from latenteditor.miniature.world import COLOURS, SHAPES, World

TEMPLATES = (
    "make {what} {colour}",
    "turn {what} {colour}",
    "paint {what} {colour}",
    "colour {what} {colour}",
    "color {what} {colour}",
    "change {what} to {colour}",
    "{what} should be {colour}",
    "give {what} a {colour} coat",
    "make {what} look {colour}",
)


@dataclass(frozen=True)
class Recolouring:
    """Solids, by their index in a world, and the colour all of them take."""

    solids: tuple[int, ...]
    colour: str

    def apply(self, world: World) -> World:
        """The world after the instruction."""
        return world.recoloured(dict.fromkeys(self.solids, self.colour))


def random_recolouring(world: World, rng: np.random.Generator, num_solids: int | None = None) -> Recolouring:
    """One solid, seldom two, and a colour that none of them has."""
    if num_solids is None:
        num_solids = 2 if len(world.solids) > 2 and rng.uniform() < 0.2 else 1
    solids = tuple(int(index) for index in rng.permutation(len(world.solids))[:num_solids])
    taken = {world.solids[index].colour for index in solids}
    colours = [colour for colour in COLOURS if colour not in taken]
    return Recolouring(solids, colours[rng.integers(len(colours))])


def wording(world: World, recolouring: Recolouring, rng: np.random.Generator | None = None) -> str:
    """Says the instruction; always in the same plain words where no ``rng`` is given."""
    names = [_name(world, index, rng) for index in recolouring.solids]
    template = TEMPLATES[0] if rng is None else TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(what=" and ".join(names), colour=recolouring.colour)


def idle_wording(world: World, rng: np.random.Generator) -> str:
    """An instruction about a solid that is not in the world: it leaves the world as it is."""
    absent = [shape for shape in SHAPES if shape not in {solid.shape for solid in world.solids}]
    shape = absent[rng.integers(len(absent))]
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(what=f"the {shape}", colour=list(COLOURS)[rng.integers(len(COLOURS))])


def parse(prompt: str, world: World) -> Recolouring:
    """The instruction that a prompt gives about a world.

    Raises:
        ValueError: The prompt names no solid of this world, or not exactly one new colour.
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    names = {*SHAPES, *(f"{shape}s" for shape in SHAPES)}
    named = [index for index, solid in enumerate(world.solids) if {solid.shape, solid.shape + "s"} & set(words)]
    colours = [
        word for word, after in zip(words, [*words, ""][1:], strict=True) if word in COLOURS and after not in names
    ]
    if not named or len(colours) != 1:
        solids = ", ".join(f"the {solid.colour} {solid.shape}" for solid in world.solids)
        raise ValueError(
            f"Cannot tell what {prompt!r} does to this world: name one or more of its solids ({solids}) "
            f"and one colour ({', '.join(COLOURS)}), as in 'make the {world.solids[0].shape} blue'."
        )
    return Recolouring(tuple(named), colours[0])


def _name(world: World, index: int, rng: np.random.Generator | None) -> str:
    """The solid's name, at times with its present colour."""
    solid = world.solids[index]
    if rng is not None and rng.uniform() < 0.25:
        return f"the {solid.colour} {solid.shape}"
    return f"the {solid.shape}"
