"""Several edits of one built-in world, and what became of each solid, seen from the held-out cameras."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from latenteditor.editing.metrics import psnr
from latenteditor.worlds.dataset import read_cameras, read_world, view_names
from latenteditor.worlds.held_out import HeldOut, held_out_names
from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import Tracer
from latenteditor.worlds.world import COLOURS, MATERIALS, SHAPES, World, random_world

Kind = Literal["recolour", "material", "shape", "removal"]
"""What prompts ask for."""
KINDS: tuple[Kind, ...] = get_args(Kind)
SMALLEST_SOLID = 0.004
"""Of a view: a solid that is hardly seen says nothing about an edit of it."""


def draw_recolourings(world: World, seed: int, count: int) -> list[tuple[Instruction, str]]:
    """Recolourings of that many solids of a world, each in a colour that no solid has, and words for each.

    Raises:
        ValueError: The world has fewer solids.
    """
    if len(world.solids) < count:
        raise ValueError(f"The world of seed {seed} has {len(world.solids)} solids, not {count}: take another seed.")
    rng = np.random.default_rng((seed, 7))
    taken = {solid.colour for solid in world.solids}
    chosen = rng.permutation(len(world.solids))[:count]
    colours = rng.permutation([colour for colour in COLOURS if colour not in taken])[:count]
    return [
        (
            Instruction((int(index),), colour=str(colour)),
            f"make the {world.solids[index].colour} {world.solids[index].shape} {colour}",
        )
        for index, colour in zip(chosen, colours, strict=True)
    ]


def draw_prompts(world: World, seed: int, kind: Kind, count: int) -> list[tuple[Instruction, str]]:
    """Instructions of one kind about that many solids of a world, the same solids for every kind, and words for each.

    Raises:
        ValueError: The world has fewer solids.
    """
    recolourings = draw_recolourings(world, seed, count)
    if kind == "recolour":
        return recolourings
    rng = np.random.default_rng((seed, 8, KINDS.index(kind)))
    solids = [index for instruction, _ in recolourings for index in instruction.solids]
    return [_draw_prompt(world, index, kind, rng) for index in solids]


def _draw_prompt(world: World, index: int, kind: Kind, rng: np.random.Generator) -> tuple[Instruction, str]:
    """What becomes of one solid besides another colour, in a shape or material that it does not have."""
    solid = world.solids[index]
    what = f"the {solid.colour} {solid.shape}"
    if kind == "removal":
        return Instruction((index,), removed=True), f"remove {what}"
    if kind == "material":
        material = MATERIALS[_draw_other(MATERIALS.index(solid.material), len(MATERIALS), rng)]
        return Instruction((index,), material=material), f"make {what} {material}"
    shape = SHAPES[_draw_other(SHAPES.index(solid.shape), len(SHAPES), rng)]
    return Instruction((index,), shape=shape), f"turn {what} into a {shape}"


def _draw_other(index: int, count: int, rng: np.random.Generator) -> int:
    """Any other of some indices."""
    return (index + int(rng.integers(1, count))) % count


def draw_seeds(first_seed: int, count: int, num_solids: int) -> list[int]:
    """The first worlds with at least that many solids.

    Raises:
        ValueError: No world has so many.
    """
    seeds: list[int] = []
    for seed in range(first_seed, first_seed + 1000 * count):
        if len(seeds) < count and len(random_world(seed).solids) >= num_solids:
            seeds.append(seed)
    if len(seeds) < count:
        raise ValueError(f"No worlds from seed {first_seed} on have {num_solids} solids: ask for fewer.")
    return seeds


@dataclass(frozen=True)
class SolidViews(HeldOut):
    """The held-out views of one world as rendering gives them, not in eight bits, and which solid is where."""

    ids: UInt8[Tensor, "views 1 height width"]
    """Per pixel 0, or a solid counted from 1."""

    def seen(self, solid: int) -> Bool[Tensor, "views 1 height width"]:
        """Where a solid, counted from 0, is."""
        return self.ids == solid + 1


def render_solid_views(dataset: Path, instructions: Sequence[Instruction]) -> SolidViews:
    """Renders the world of a dataset before and after recolourings, from its held-out cameras."""
    world = edited = read_world(dataset)
    for instruction in instructions:
        edited = instruction.apply(edited)
    held_out = held_out_names(dataset)
    cameras = dict(zip(view_names(dataset), read_cameras(dataset), strict=True))
    tracer = Tracer(world)
    hits = [tracer.trace(cameras[name]) for name in held_out]
    ids = torch.from_numpy(np.stack([view.ids for view in hits]))[:, None]
    before, after = (
        torch.from_numpy(np.stack([view.shade(shown) for view in hits])).float().movedim(-1, 1)
        for shown in (world, edited)
    )
    solids = [solid + 1 for instruction in instructions for solid in instruction.solids]
    return SolidViews(held_out, before, after, torch.isin(ids, torch.tensor(solids, dtype=ids.dtype)), ids)


def solid_figures(
    rendered: Float[Tensor, "views 3 height width"],
    unedited: Float[Tensor, "views 3 height width"],
    views: SolidViews,
    solid: int,
    edited: bool,
) -> dict[str, float]:
    """What became of one solid, over the held-out views that see it; empty where none does.

    Args:
        rendered: The scene.
        unedited: The scene before any edit.
        views: The world as it was and after all edits.
        solid: Its index in the world.
        edited: Whether the scene should show it as it is after the edits, or as it was before.

    Returns:
        PSNR in dB over the solid's pixels: of the scene against what it should show (`psnr_wanted`) and against the
        other (`psnr_other`), and of the unedited scene against the world as it was (`psnr_unedited`); and whether it is
        `right`, 1 or 0: nearer to what it should show.
    """
    seen = views.seen(solid)
    enough = seen.flatten(1).float().mean(dim=1) >= SMALLEST_SOLID
    if not enough.any():
        return {}
    before, after = views.photographs[enough], views.truth[enough]
    wanted, other = (after, before) if edited else (before, after)

    def mean(images: Tensor, reference: Tensor) -> float:
        return psnr(images[enough], reference, seen[enough]).mean().item()

    figures = {
        "psnr_wanted": mean(rendered, wanted),
        "psnr_other": mean(rendered, other),
        "psnr_unedited": mean(unedited, before),
    }
    return {**figures, "right": float(figures["psnr_wanted"] > figures["psnr_other"])}
