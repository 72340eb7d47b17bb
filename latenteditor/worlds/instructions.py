"""Instructions about a built-in world, and the world they ask for.

An instruction says which solids take which colour, shape or material, or are removed, or how the whole picture
changes. It is written in varying words from a seed, and read back from words by ``parse``, so that a prompt typed
by a person has a known truth.
"""

import re
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from latenteditor.worlds.looks import LOOKS
from latenteditor.worlds.world import COLOURS, MATERIALS, SHAPES, Floor, Solid, World

COLOUR_TEMPLATES = (
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
SHAPE_TEMPLATES = (
    "turn {what} into a {shape}",
    "make {what} a {shape}",
    "change {what} to a {shape}",
    "replace {what} with a {shape}",
)
MATERIAL_TEMPLATES = (
    "make {what} {material}",
    "{what} should be {material}",
    "make {what} look {material}",
    "give {what} a {material} finish",
)
COLOUR_AND_SHAPE_TEMPLATES = (
    "turn {what} into a {colour} {shape}",
    "make {what} a {colour} {shape}",
    "replace {what} with a {colour} {shape}",
)
COLOUR_AND_MATERIAL_TEMPLATES = (
    "make {what} {colour} and {material}",
    "turn {what} {colour} and {material}",
    "{what} should be {material} and {colour}",
)
REMOVAL_TEMPLATES = ("remove {what}", "delete {what}", "erase {what}", "take {what} away")
LOOK_TEMPLATES = {
    "night": ("make it look like night", "make it night", "turn day into night", "what would it look like at night"),
    "black and white": ("make it black and white", "turn it into a black and white photograph", "black and white"),
    "sepia": ("make it sepia", "turn it into a sepia photograph", "give it a sepia tone"),
    "pencil": ("make it a pencil drawing", "turn it into a pencil sketch", "draw it in pencil"),
    "snow": ("make the floor snow white", "cover the floor with snow", "turn the floor to white snow"),
}
T = TypeVar("T")
SNOW = (0.95, 0.96, 0.98)
_REMOVING = {"remove", "delete", "erase", "away"}


@dataclass(frozen=True)
class Instruction:
    """Solids, by their index in a world, and what becomes of them; or a look that the whole picture takes."""

    solids: tuple[int, ...] = ()
    """Empty where the whole picture changes."""
    colour: str | None = None
    """The solids' new colour, a name in ``COLOURS``."""
    shape: str | None = None
    """The solids' new shape, one of ``SHAPES``."""
    material: str | None = None
    """The solids' new material, one of ``MATERIALS``."""
    removed: bool = False
    """The solids are taken away."""
    look: str | None = None
    """A key of ``LOOK_TEMPLATES``."""

    @property
    def moves_surfaces(self) -> bool:
        """Whether rays meet something else afterwards."""
        return self.removed or self.shape is not None

    def apply(self, world: World) -> World:
        """The world after the instruction; a look of the picture is left to ``finish``."""
        if self.look == "snow":
            return replace(world, floor=Floor("plain", (SNOW, SNOW), world.floor.period))
        if self.removed:
            return replace(
                world, solids=tuple(solid for index, solid in enumerate(world.solids) if index not in self.solids)
            )
        return replace(
            world,
            solids=tuple(
                self._apply_to(solid) if index in self.solids else solid for index, solid in enumerate(world.solids)
            ),
        )

    def finish(self, picture: np.ndarray) -> np.ndarray:
        """The picture with the look that the instruction asks for."""
        return LOOKS[self.look](picture) if self.look in LOOKS else picture

    def _apply_to(self, solid: Solid) -> Solid:
        """One solid after the instruction."""
        new = {"colour": self.colour, "shape": self.shape, "material": self.material}
        return replace(solid, **{name: value for name, value in new.items() if value is not None})


def random_recolouring(world: World, rng: np.random.Generator, num_solids: int = 1) -> Instruction:
    """Some solids and a colour that none of them has."""
    solids = tuple(int(index) for index in rng.permutation(len(world.solids))[:num_solids])
    return Instruction(solids, colour=_other_colour(world, solids, rng))


def recolouring_prompt(world: World, seed: int) -> str:
    """A recolouring of one solid, drawn from a seed and worded so that the built-in editor cannot mistake the solid."""
    recolouring = random_recolouring(world, np.random.default_rng((seed, 4)))
    solid = world.solids[recolouring.solids[0]]
    return f"make the {solid.colour} {solid.shape} {recolouring.colour}"


def random_kind(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """A kind of instruction, as often as ``KIND_SHARES`` or ``TAUGHT_SHARES`` say."""
    return _choice(rng, list(shares), list(shares.values()))


def random_instruction(world: World, rng: np.random.Generator, kind: str) -> tuple[Instruction, str]:
    """An instruction of a kind in ``KIND_SHARES``, and words for it."""
    if kind == "look":
        look = _choice(rng, list(LOOK_TEMPLATES))
        return Instruction(look=look), _choice(rng, LOOK_TEMPLATES[look])
    if kind == "group":
        solids, what = _random_group(world, rng)
        instruction = Instruction(solids, colour=_other_colour(world, solids, rng))
        return instruction, _choice(rng, COLOUR_TEMPLATES).format(what=what, colour=instruction.colour)
    index = int(rng.integers(len(world.solids)))
    solid, what = world.solids[index], _name(world.solids[index], rng)
    colour = _other_colour(world, (index,), rng)
    shape = _choice(rng, [name for name in SHAPES if name != solid.shape])
    material = _choice(rng, [name for name in MATERIALS if name != solid.material])
    fields, templates = _KINDS[kind]
    chosen = {"colour": colour, "shape": shape, "material": material}
    instruction = Instruction((index,), removed=kind == "removal", **{name: chosen[name] for name in fields})
    return instruction, _choice(rng, templates).format(what=what, **chosen)


def word(instruction: Instruction, world: World, rng: np.random.Generator) -> str:
    """Words for an instruction about one solid."""
    new = {"colour": instruction.colour, "shape": instruction.shape, "material": instruction.material}
    names = tuple(name for name, value in new.items() if value is not None)
    templates = next(templates for fields, templates in _KINDS.values() if fields == names)
    return _choice(rng, templates).format(what=_name(world.solids[instruction.solids[0]], rng), **new)


def idle_wording(world: World, rng: np.random.Generator) -> str:
    """An instruction about a solid that is not in the world: it leaves the world as it is."""
    shape = _choice(rng, [shape for shape in SHAPES if shape not in {solid.shape for solid in world.solids}])
    colour = _choice(rng, [name for name in COLOURS if name not in {solid.colour for solid in world.solids}])
    what = _choice(rng, [f"the {shape}", f"the {colour} {shape}", f"the {colour} thing"], [0.6, 0.2, 0.2])
    _, templates = _KINDS[_choice(rng, ["colour", "colour", "shape", "material", "removal"])]
    new = {"shape": _choice(rng, SHAPES), "material": _choice(rng, MATERIALS)}
    new["colour"] = _choice(rng, [name for name in COLOURS if name != colour])
    return _choice(rng, templates).format(what=what, **new)


def parse(prompt: str, world: World) -> Instruction:
    """The instruction that a prompt gives about a world.

    Raises:
        ValueError: The prompt names no solid of this world, or does not say clearly what becomes of it.
    """
    text = " ".join(re.findall(r"[a-z]+", prompt.lower()))
    for look, templates in LOOK_TEMPLATES.items():
        if text in templates:
            return Instruction(look=look)
    words = [_singular(word) for word in text.split()]
    solids, rest = _named_solids(words, world)
    found = {
        "colour": [word for word in rest if word in COLOURS],
        "shape": [word for word in rest if word in SHAPES],
        "material": [word for word in rest if word in MATERIALS],
    }
    removed = bool(_REMOVING & set(rest))
    clear = all(len(set(values)) <= 1 for values in found.values()) and removed != any(found.values())
    if not solids or not clear:
        raise ValueError(_unclear(prompt, world))
    new = {name: values[0] for name, values in found.items() if values}
    return Instruction(solids, removed=removed, **new)


def _named_solids(words: list[str], world: World) -> tuple[tuple[int, ...], list[str]]:
    """The solids that a prompt speaks about, and the words that say what becomes of them.

    What follows "a" is new ("a blue cube", "a shiny finish"); what stands before a solid or "thing" tells which one.
    """
    named: set[int] = set()
    rest: list[str] = []
    traits: list[str] = []
    new = False
    for word, after in zip(words, [*words, ""][1:], strict=True):
        if word in ("a", "an"):
            new = True
        is_trait = word in COLOURS or word in MATERIALS
        if is_trait and not new and (after in SHAPES or after == "thing" or after in MATERIALS or after in COLOURS):
            traits.append(word)
        elif word == "thing" or (word in SHAPES and not new):
            named |= {index for index, solid in enumerate(world.solids) if _matches(solid, word, traits)}
            traits = []
        else:
            rest += [*traits, word]
            traits = []
    return tuple(sorted(named)), rest


def _matches(solid: Solid, noun: str, traits: list[str]) -> bool:
    """Whether a noun with words before it may mean a solid."""
    return noun in ("thing", solid.shape) and set(traits) <= {solid.colour, solid.material}


def _unclear(prompt: str, world: World) -> str:
    """What to say instead of a prompt that cannot be read."""
    solids = ", ".join(f"the {solid.colour} {solid.shape}" for solid in world.solids)
    return (
        f"Cannot tell what {prompt!r} does to this world: name one or more of its solids ({solids}) and one new "
        f"colour ({', '.join(COLOURS)}), shape ({', '.join(SHAPES)}) or material ({', '.join(MATERIALS)}), as in "
        f"'make the {world.solids[0].shape} blue', 'turn the {world.solids[0].shape} into a cube' or 'remove the "
        f"{world.solids[0].shape}'; or change the whole picture, as in 'make it look like night'."
    )


def _singular(word: str) -> str:
    """A solid's or a thing's name without the plural's s; a torus ends like a plural."""
    return word[:-1] if word[:-1] in (*SHAPES, "thing") else word


def _random_group(world: World, rng: np.random.Generator) -> tuple[tuple[int, ...], str]:
    """Two solids by their names, all of one material, or all there are; and words for them."""
    kind = rng.integers(3)
    if kind == 0:
        solids = tuple(int(index) for index in rng.permutation(len(world.solids))[:2])
        return solids, " and ".join(_name(world.solids[index], rng) for index in solids)
    if kind == 1:
        material = world.solids[rng.integers(len(world.solids))].material
        solids = tuple(index for index, solid in enumerate(world.solids) if solid.material == material)
        return solids, f"all the {material} things"
    return tuple(range(len(world.solids))), "all the things"


def _other_colour(world: World, solids: tuple[int, ...], rng: np.random.Generator) -> str:
    """A colour that none of the solids has."""
    taken = {world.solids[index].colour for index in solids}
    return _choice(rng, [colour for colour in COLOURS if colour not in taken])


def _name(solid: Solid, rng: np.random.Generator) -> str:
    """The solid's name, at times with its present colour, or by its colour alone."""
    draw = rng.uniform()
    if draw < 0.55:
        return f"the {solid.shape}"
    return f"the {solid.colour} {solid.shape}" if draw < 0.85 else f"the {solid.colour} thing"


def _choice(rng: np.random.Generator, values: "list[T] | tuple[T, ...]", shares: list[float] | None = None) -> T:
    """One of some values."""
    return values[int(rng.choice(len(values), p=shares))]


_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "colour": (("colour",), COLOUR_TEMPLATES),
    "shape": (("shape",), SHAPE_TEMPLATES),
    "material": (("material",), MATERIAL_TEMPLATES),
    "colour and shape": (("colour", "shape"), COLOUR_AND_SHAPE_TEMPLATES),
    "colour and material": (("colour", "material"), COLOUR_AND_MATERIAL_TEMPLATES),
    "removal": ((), REMOVAL_TEMPLATES),
}
KIND_SHARES = {
    "colour": 0.52,
    "group": 0.12,
    "shape": 0.08,
    "material": 0.08,
    "colour and shape": 0.04,
    "colour and material": 0.04,
    "removal": 0.06,
    "look": 0.06,
}
"""How often an evaluation asks for each kind."""
TAUGHT_SHARES = {
    "colour": 0.37,
    "group": 0.15,
    "shape": 0.14,
    "material": 0.13,
    "colour and shape": 0.05,
    "colour and material": 0.05,
    "removal": 0.07,
    "look": 0.04,
}
"""How often an editor meets each kind while it learns: what is hard to learn more often than it is asked for."""
