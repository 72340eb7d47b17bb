"""Training pairs for the built-in editor: a view before and after an instruction, the words, and the region.

Views are of built-in worlds, or cut out of photographs, whose edits are given by a rule.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from latenteditor.pictures import to_bytes
from latenteditor.worlds.instructions import (
    COLOUR_TEMPLATES,
    LOOK_TEMPLATES,
    TAUGHT_SHARES,
    idle_wording,
    random_instruction,
    random_kind,
)
from latenteditor.worlds.looks import LOOKS, hue_share, recolour_hue
from latenteditor.worlds.render import Tracer, dome_camera
from latenteditor.worlds.truth import follow
from latenteditor.worlds.world import COLOURS, SHAPES, random_world

VIEWS_PER_WORLD = 4
INSTRUCTIONS_PER_VIEW = 3
IDLE_SHARE = 0.15
"""How often an instruction names a solid that is not there."""
SMALLEST_HUE_SHARE = 0.02
"""Of a photograph's area: less of a hue is not worth an instruction."""


class View(NamedTuple):
    """One picture and what is in it."""

    picture: UInt8[np.ndarray, "height width 3"]
    shapes: UInt8[np.ndarray, "height width"]
    """Per pixel 0, or the solid's shape counted from 1 in ``SHAPES``."""
    colours: UInt8[np.ndarray, "height width"]
    """Per pixel 0, or the solid's colour counted from 1 in ``COLOURS``."""


class Edit(NamedTuple):
    """What one instruction makes of a view."""

    view: int
    """Which view, counted within a file."""
    picture: UInt8[np.ndarray, "height width 3"]
    region: Bool[np.ndarray, "height width"]
    """Where the instruction changes the picture."""
    instruction: str


def world_pairs(seed: int, size: int, shares: dict[str, float] = TAUGHT_SHARES) -> tuple[list[View], list[Edit]]:
    """A few views of one world, near and far, so that an editor meets solids of every size, and edits of each.

    Args:
        seed: Of the world, the views and the words.
        size: Pixels of either side.
        shares: How often each kind of instruction is given.
    """
    world, rng = random_world(seed), np.random.default_rng((seed, 1))
    tracer = Tracer(world)
    shape_of = np.array([0, *(SHAPES.index(solid.shape) + 1 for solid in world.solids)], dtype=np.uint8)
    colour_of = np.array([0, *(list(COLOURS).index(solid.colour) + 1 for solid in world.solids)], dtype=np.uint8)
    views, edits = [], []
    for view in range(VIEWS_PER_WORLD):
        field_of_view = np.radians(rng.choice([50, 50, rng.uniform(25, 50)]))
        aim = 0.15 if field_of_view > np.radians(45) else 0.5
        hits = tracer.trace(dome_camera(rng, size, field_of_view=field_of_view, aim=aim))
        before = hits.shade(world)
        views.append(View(to_bytes(before), shape_of[hits.ids], colour_of[hits.ids]))
        for _ in range(INSTRUCTIONS_PER_VIEW):
            if rng.uniform() < IDLE_SHARE:
                nowhere = np.zeros((size, size), dtype=bool)
                edits.append(Edit(view, to_bytes(before), nowhere, idle_wording(world, rng)))
            else:
                instruction, words = random_instruction(world, rng, random_kind(rng, shares))
                after, region = follow(instruction, hits)
                edits.append(Edit(view, to_bytes(after), region, words))
    return views, edits


def photograph_pairs(
    photographs: list[UInt8[np.ndarray, "_ _ 3"]], seed: int, size: int
) -> tuple[list[View], list[Edit]]:
    """Views cut out of photographs, one or two to an instruction about their hues or their whole look."""
    rng = np.random.default_rng((seed, 5))
    views, edits = [], []
    for view in range(VIEWS_PER_WORLD):
        crop = random_crop(photographs[rng.integers(len(photographs))], rng, size)
        picture = crop / 255
        nothing = np.zeros((size, size), dtype=np.uint8)
        views.append(View(crop, nothing, nothing))
        shares = {colour: hue_share(picture, colour) for colour in COLOURS}
        for _ in range(INSTRUCTIONS_PER_VIEW):
            after, region, words = _photograph_edit(picture, shares, rng)
            edits.append(Edit(view, to_bytes(after), region, words))
    return views, edits


def random_crop(photograph: UInt8[np.ndarray, "_ _ 3"], rng: np.random.Generator, size: int) -> np.ndarray:
    """A square part of a photograph, half of them mirrored; a photograph must be at least as large."""
    top, left = (int(rng.integers(side - size + 1)) for side in photograph.shape[:2])
    crop = photograph[top : top + size, left : left + size]
    return crop if rng.uniform() < 0.5 else crop[:, ::-1]


def _photograph_edit(
    picture: np.ndarray, shares: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """A picture after an instruction, the region, and the words."""
    draw = rng.uniform()
    present = [colour for colour, share in shares.items() if share.mean() > SMALLEST_HUE_SHARE]
    absent = [colour for colour, share in shares.items() if share.mean() < SMALLEST_HUE_SHARE / 10]
    if draw < 0.2:
        look = list(LOOKS)[rng.integers(len(LOOKS))]
        words = LOOK_TEMPLATES[look][rng.integers(len(LOOK_TEMPLATES[look]))]
        return LOOKS[look](picture), np.ones(picture.shape[:2], dtype=bool), words
    idle = not present or (absent and draw < 0.35)
    candidates = absent if idle else present
    old = candidates[rng.integers(len(candidates))] if candidates else "purple"
    new = [colour for colour in COLOURS if colour != old][rng.integers(len(COLOURS) - 1)]
    what = (f"the {old} things", f"the {old} parts", f"everything {old}")[rng.integers(3)]
    words = COLOUR_TEMPLATES[rng.integers(len(COLOUR_TEMPLATES))].format(what=what, colour=new)
    if idle:
        return picture, np.zeros(picture.shape[:2], dtype=bool), words
    return recolour_hue(picture, old, new), shares[old] > 0.5, words


def write_pairs(path: Path, batches: "list[tuple[list[View], list[Edit]]]") -> None:
    """Writes the views and edits of several worlds or photographs into one file."""
    views, edits = [], []
    for some_views, some_edits in batches:
        edits += [edit._replace(view=edit.view + len(views)) for edit in some_edits]
        views += some_views
    np.savez(
        path,
        before=np.stack([view.picture for view in views]),
        shapes=np.stack([view.shapes for view in views]),
        colours=np.stack([view.colours for view in views]),
        view=np.array([edit.view for edit in edits]),
        after=np.stack([edit.picture for edit in edits]),
        region=np.stack([edit.region for edit in edits]),
        instruction=np.array([edit.instruction for edit in edits]),
    )
