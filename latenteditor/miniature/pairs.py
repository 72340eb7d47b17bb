"""Training pairs for the built-in editor: a view before and after an instruction, the words, and the region."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from latenteditor.miniature.instructions import idle_wording, random_recolouring, wording
from latenteditor.miniature.render import Tracer, dome_camera
from latenteditor.miniature.world import random_world

VIEWS_PER_WORLD = 4
"""Views that share one world, each with an instruction of its own."""


class Pair(NamedTuple):
    """One view and one instruction."""

    before: UInt8[np.ndarray, "height width 3"]
    after: UInt8[np.ndarray, "height width 3"]
    region: Bool[np.ndarray, "height width"]
    """Where the instruction changes the picture."""
    solids: Bool[np.ndarray, "height width"]
    """Where there is any solid: what an instruction could have changed."""
    instruction: str


def world_pairs(seed: int, size: int, idle_fraction: float = 0.06) -> list[Pair]:
    """A few pairs of one world; near and far views, so that an editor meets solids of every size.

    Args:
        seed: Of the world, the views and the words.
        size: Pixels of either side.
        idle_fraction: How often the instruction names a solid that is not there.
    """
    world, rng = random_world(seed), np.random.default_rng((seed, 1))
    tracer = Tracer(world)
    pairs = []
    for _ in range(VIEWS_PER_WORLD):
        field_of_view = np.radians(rng.choice([50, 50, rng.uniform(25, 50)]))
        aim = 0.15 if field_of_view > np.radians(45) else 0.5
        hits = tracer.trace(dome_camera(rng, size, field_of_view=field_of_view, aim=aim))
        recolouring = random_recolouring(world, rng)
        before = to_bytes(hits.shade(world))
        if rng.uniform() < idle_fraction:
            region = np.zeros((size, size), dtype=bool)
            pairs.append(Pair(before, before, region, hits.ids > 0, idle_wording(world, rng)))
            continue
        region = np.isin(hits.ids, [index + 1 for index in recolouring.solids])
        after = to_bytes(hits.shade(recolouring.apply(world)))
        pairs.append(Pair(before, after, region, hits.ids > 0, wording(world, recolouring, rng)))
    return pairs


def write_pairs(path: Path, seeds: range, size: int) -> None:
    """Renders the pairs of many worlds into one file."""
    pairs = [pair for seed in seeds for pair in world_pairs(seed, size)]
    np.savez_compressed(
        path,
        before=np.stack([pair.before for pair in pairs]),
        after=np.stack([pair.after for pair in pairs]),
        solids=np.stack([pair.solids for pair in pairs]),
        instruction=np.array([pair.instruction for pair in pairs]),
    )


def to_bytes(image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """A picture in [0, 1] as bytes."""
    return (image * 255).round().astype(np.uint8)
