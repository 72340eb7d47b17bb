"""What finished views show of an edit, carried into another view by the depth of the unedited scene."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from latenteditor.nerf.change_agreement import Sight
from latenteditor.nerf.projection import project

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
        size = torch.tensor([other.sight.distance.shape[1], other.sight.distance.shape[0]], device=points.device)
        pixels, ahead = project(points, other.sight.camera)
        within = ((pixels >= 0.5) & (pixels <= size - 0.5)).all(dim=-1) & (ahead > 0)
        grid = (2 * pixels / size - 1).where(within[..., None], 0.0)[None].to(photograph.device)
        shown = torch.cat([other.picture, other.relevance, other.sight.distance[None].to(photograph.device)])[None]
        colours, relevance, depth = F.grid_sample(shown, grid, align_corners=False)[0].split([3, 1, 1])
        distance = (points - other.sight.camera.camera_to_world[:, 3]).norm(dim=-1).to(photograph.device)
        sees = within.to(photograph.device) & ((depth[0] - distance).abs() <= SAME_SURFACE * distance)
        share = open_share * relevance * sees
        warped = warped + share * (colours - warped)
        open_share = open_share * ~sees
    return warped
