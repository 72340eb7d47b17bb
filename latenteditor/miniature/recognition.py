"""Whether an edit is recognised: nearer to the truth than to everything else that might have been made of the view.

"Nearer to the truth than to the original" would hold of any dark scrap that covers the original. So the edited region
is compared with what every other colour, shape and material of the named solid would look like there, with the solid
taken away and with the view as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.worlds.instructions import LOOK_TEMPLATES, Instruction
from latenteditor.worlds.looks import LOOKS, Picture, recolour_hue
from latenteditor.worlds.render import SUPERSAMPLING, Camera, Hits, Tracer
from latenteditor.worlds.truth import follow
from latenteditor.worlds.world import COLOURS, MATERIALS, SHAPES

TRUTH, UNEDITED = "truth", "unedited"
INDISTINCT = 1 / 255
"""Root mean square difference up to which an alternative looks like the truth and is none."""
DEVIATIONS = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""


class Candidates(NamedTuple):
    """What a region may show after an edit."""

    names: tuple[str, ...]
    """``TRUTH`` first."""
    pixels: Float[Tensor, "candidates pixels 3"]
    """The region's pixels as each would have them."""


def nearest_candidate(
    image: Float[Tensor, "1 3 height width"], region: Bool[Tensor, "1 1 height width"], candidates: Candidates
) -> str:
    """Which of the candidates a region looks like most, by its mean squared error."""
    seen = image[0].movedim(0, -1)[region[0, 0]]
    return candidates.names[int((candidates.pixels - seen).square().mean(dim=(1, 2)).argmin())]


def world_candidates(
    instruction: Instruction, hits: Hits, region: Bool[np.ndarray, "height width"], after: Picture
) -> Candidates:
    """The truth about a view of a world, and its alternatives."""
    if instruction.look:
        pictures = {name: picture[region] for name, picture in _look_alternatives(instruction, hits)}
    else:
        there = Tracer(hits.world).trace(region_camera(hits.camera, region))
        count = int(region.sum())
        pictures = {name: picture.reshape(-1, 3)[:count] for name, picture in _solid_alternatives(instruction, there)}
    return _candidates(after[region], {UNEDITED: hits.shade(hits.world)[region], **pictures})


def hue_candidates(picture: Picture, old: str, after: Picture, region: Bool[np.ndarray, "height width"]) -> Candidates:
    """The truth about one hue of a photograph, and the hue turned to every other colour."""
    pictures = {colour: recolour_hue(picture, old, colour) for colour in COLOURS if colour != old}
    pictures = {name: other[region] for name, other in pictures.items()}
    return _candidates(after[region], {UNEDITED: picture[region], **pictures})


def look_candidates(picture: Picture, after: Picture) -> Candidates:
    """The truth about a photograph's new look, and every other look."""
    pictures = {look: change(picture).reshape(-1, 3) for look, change in LOOKS.items()}
    return _candidates(after.reshape(-1, 3), {UNEDITED: picture.reshape(-1, 3), **pictures})


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a rate of which so many trials tell; of no trials, everything from 0 to 1."""
    if trials == 0:
        return 0.0, 1.0
    share, spread = successes / trials, DEVIATIONS**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return middle - half, middle + half


@dataclass(frozen=True)
class RegionCamera(Camera):
    """A camera that sees nothing but some pixels of another; its picture shows them one after another, in rows."""

    pixel_rays: tuple[np.ndarray, np.ndarray]
    """Origins and directions, in the order of a camera's rays."""

    def rays(self, samples: int) -> tuple[Float[np.ndarray, "rays 3"], Float[np.ndarray, "rays 3"]]:
        """The other camera's rays through those pixels."""
        assert samples == SUPERSAMPLING
        return self.pixel_rays


def region_camera(camera: Camera, region: Bool[np.ndarray, "height width"]) -> RegionCamera:
    """Sees a region alone, which costs as much less as it is smaller; the last pixel fills up the last row."""
    chosen = np.flatnonzero(region)
    side, samples = ceil(sqrt(len(chosen))), SUPERSAMPLING
    chosen = np.pad(chosen, (0, side * side - len(chosen)), mode="edge")

    def rearranged(values: np.ndarray) -> np.ndarray:
        pixels = values.reshape(camera.size, samples, camera.size, samples, 3).swapaxes(1, 2)
        picked = pixels.reshape(-1, samples, samples, 3)[chosen].reshape(side, side, samples, samples, 3)
        return np.ascontiguousarray(picked.swapaxes(1, 2).reshape(-1, 3))

    origins, directions = (rearranged(values) for values in camera.rays(samples))
    return RegionCamera(camera.camera_to_world, camera.field_of_view, side, (origins, directions))


def _candidates(truth: Float[np.ndarray, "pixels 3"], others: dict[str, Float[np.ndarray, "pixels 3"]]) -> Candidates:
    """The truth, and of the others those that do not look like it."""
    shown = {name: seen for name, seen in others.items() if np.sqrt(np.square(seen - truth).mean()) > INDISTINCT}
    return Candidates((TRUTH, *shown), torch.from_numpy(np.stack([truth, *shown.values()])).float())


def _look_alternatives(instruction: Instruction, hits: Hits) -> Iterator[tuple[str, Picture]]:
    """Every other look."""
    for look in LOOK_TEMPLATES:
        if look != instruction.look:
            yield look, follow(Instruction(look=look), hits)[0]


def _solid_alternatives(instruction: Instruction, hits: Hits) -> Iterator[tuple[str, Picture]]:
    """One thing about the named solids other than asked for, fewer of them edited, or all of them taken away.

    What is varied is the truth, or, where that is a solid taken away, the solid as it was.
    """
    kept = replace(instruction, removed=False)
    # Surfaces that the colours and materials are shaded on: those of the new shape.
    surfaces = Tracer(kept.apply(hits.world)).trace(hits.camera) if kept.moves_surfaces else hits
    for colour in COLOURS:
        yield colour, surfaces.shade(replace(kept, colour=colour).apply(hits.world))
    for material in MATERIALS:
        yield material, surfaces.shade(replace(kept, material=material).apply(hits.world))
    for shape in SHAPES:
        yield shape, follow(replace(kept, shape=shape), hits)[0]
    if len(instruction.solids) > 1:
        for index in instruction.solids:
            fewer = tuple(solid for solid in instruction.solids if solid != index)
            yield f"without solid {index}", follow(replace(instruction, solids=fewer), hits)[0]
    without = Instruction(instruction.solids, removed=True).apply(hits.world)
    bare = Tracer(without).trace(hits.camera)
    yield "removed", bare.shade(without)
    yield "removed, its shadow left", Tracer(hits.world).lit_as_here(bare).shade(without)
