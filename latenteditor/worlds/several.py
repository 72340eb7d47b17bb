"""Several edits of one built-in world, and what became of each solid, seen from the held-out cameras."""

import json
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.metrics import psnr
from latenteditor.worlds.dataset import read_cameras, read_world
from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import Tracer
from latenteditor.worlds.world import COLOURS, World

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


@dataclass(frozen=True)
class Views:
    """A world from its held-out cameras, as it was and as it should become."""

    names: list[str]
    """The pictures' file names."""
    before: Float[Tensor, "views 3 height width"]
    after: Float[Tensor, "views 3 height width"]
    ids: Tensor
    """Per pixel 0, or a solid counted from 1; of shape (views, 1, height, width)."""

    def seen(self, solid: int) -> Bool[Tensor, "views 1 height width"]:
        """Where a solid, counted from 0, is."""
        return self.ids == solid + 1


def held_out_views(dataset: Path, instructions: list[Instruction]) -> Views:
    """Renders the world of a dataset before and after recolourings, from its held-out cameras."""
    content = json.loads((dataset / "transforms.json").read_text())
    names, held_out = [frame["file_path"] for frame in content["frames"]], content["test_filenames"]
    world = edited = read_world(dataset)
    for instruction in instructions:
        edited = instruction.apply(edited)
    cameras = [camera for name, camera in zip(names, read_cameras(dataset), strict=True) if name in held_out]
    tracer = Tracer(world)
    hits = [tracer.trace(camera) for camera in cameras]
    ids = torch.from_numpy(np.stack([view.ids for view in hits]))[:, None]
    before, after = (
        torch.from_numpy(np.stack([view.shade(shown) for view in hits])).float().movedim(-1, 1)
        for shown in (world, edited)
    )
    return Views([Path(name).name for name in names if name in held_out], before, after, ids)


def read_renders(folder: Path, names: list[str]) -> Float[Tensor, "views 3 height width"]:
    """The renders of some held-out views, in [0, 1]."""
    pictures = [torch.from_numpy(iio.imread(folder / name)[..., :3]).movedim(-1, 0) for name in names]
    return torch.stack(pictures).float() / 255


def solid_figures(
    rendered: Float[Tensor, "views 3 height width"],
    unedited: Float[Tensor, "views 3 height width"],
    views: Views,
    solid: int,
    edited: bool,
) -> dict[str, float]:
    """What became of one solid, over the held-out views that see it; empty where none does.

    Args:
        rendered: The scene.
        unedited: The scene before any edit.
        views: The world before and after all edits.
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
    before, after = views.before[enough], views.after[enough]
    wanted, other = (after, before) if edited else (before, after)

    def mean(images: Tensor, reference: Tensor) -> float:
        return psnr(images[enough], reference, seen[enough]).mean().item()

    figures = {
        "psnr_wanted": mean(rendered, wanted),
        "psnr_other": mean(rendered, other),
        "psnr_unedited": mean(unedited, before),
    }
    return {**figures, "right": float(figures["psnr_wanted"] > figures["psnr_other"])}
