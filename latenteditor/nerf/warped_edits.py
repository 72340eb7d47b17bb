"""What finished views show of an edit, carried into another view by the depth of the unedited scene."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latenteditor.nerf.change_agreement import Sight
from latenteditor.nerf.projection import locate

SAME_SURFACE = 0.03
"""Share of a distance by which two views' depths of one place may differ. Our choice."""


class Finished(NamedTuple):
    """A view that was edited."""

    sight: Sight
    picture: Float[Tensor, "3 height width"]
    """In [0, 1], over its photograph."""
    relevance: Float[Tensor, "1 height width"]
    """By how much each pixel changed, in [0, 1]."""


@torch.no_grad()
def warp_edits(
    photograph: Float[Tensor, "3 height width"], sight: Sight, finished: Sequence[Finished]
) -> Float[Tensor, "3 height width"]:
    """A photograph in which what others changed is changed already, as far as they see it.

    Args:
        photograph: In [0, 1].
        sight: What it meets.
        finished: The others, nearest first: what one shows is not taken from those after it.
    """
    points = sight.camera.camera_to_world[:, 3] + sight.distance[..., None] * sight.directions
    warped, open_share = photograph, torch.ones_like(photograph[:1])
    for other in finished:
        depths = other.sight.distance
        found = locate(points, other.sight.camera, (depths.shape[0], depths.shape[1]))
        grid, within, distance = (each.to(photograph.device) for each in found)
        shown = torch.cat([other.picture, other.relevance, depths[None].to(photograph.device)])[None]
        colours, relevance, depth = F.grid_sample(shown, grid[None], align_corners=False)[0].split([3, 1, 1])
        sees = within & ((depth[0] - distance).abs() <= SAME_SURFACE * distance)
        share = open_share * relevance * sees
        warped = warped + share * (colours - warped)
        open_share = open_share * ~sees
    return warped
