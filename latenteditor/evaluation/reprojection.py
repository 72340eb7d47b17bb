"""Multi-view consistency: one frame, carried into its neighbour by depth and cameras, should look like it.

Cameras follow the convention of `latenteditor.nerf.projection`. Depth is the distance from the camera along the ray, as
nerfacto renders it, not along the optical axis, in the unit of the cameras' positions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.metrics import mean_over, psnr
from latenteditor.nerf.projection import PerspectiveCamera, locate


class Frame(NamedTuple):
    """What one camera sees of a scene."""

    image: Float[Tensor, "3 height width"]
    """RGB in [0, 1]."""
    depth: Float[Tensor, "height width"]
    """Distance along the ray through each pixel's centre."""
    points: Float[Tensor, "height width 3"]
    """Where each of those rays ends: its origin plus depth times its direction."""
    camera: PerspectiveCamera


class Warped(NamedTuple):
    """A frame as a neighbour's camera would see it."""

    image: Float[Tensor, "3 height width"]
    """Black where nothing is visible."""
    visible: Bool[Tensor, "height width"]
    """Where the warped frame sees the same surface as the neighbour."""


class ReprojectionError(NamedTuple):
    """How much two neighbouring frames differ where both see the same surface."""

    psnr: float
    """In decibels; NaN where no pixel is shared."""
    l1: float
    """Mean absolute difference; NaN where no pixel is shared."""
    visible: float
    """Share of the second frame's pixels that the first one sees too."""


def warp(frame: Frame, neighbour: Frame, depth_tolerance: float) -> Warped:
    """Carries a frame into its neighbour's camera.

    Args:
        frame: Where the colours come from.
        neighbour: Whose camera, and whose depth, says which point each pixel shows.
        depth_tolerance: A point counts as visible in `frame` if its distance and the depth seen there differ by at
            most this share of the distance.
    """
    height, width = frame.depth.shape
    found = locate(neighbour.points, frame.camera, (height, width))
    seen = torch.cat([frame.image, frame.depth[None]])[None]
    colours, depth = F.grid_sample(seen, found.grid[None], padding_mode="border", align_corners=False)[0].split([3, 1])
    visible = found.within & ((depth[0] - found.distance).abs() <= depth_tolerance * found.distance)
    return Warped(colours.where(visible, 0.0), visible)


def reprojection_error(frame: Frame, neighbour: Frame, depth_tolerance: float) -> ReprojectionError:
    """Compares a frame, warped into its neighbour's camera, to the neighbour where both see the same surface."""
    warped = warp(frame, neighbour, depth_tolerance)
    region = warped.visible[None, None]
    difference = (warped.image - neighbour.image).abs().mean(dim=0)[None, None]
    return ReprojectionError(
        psnr=psnr(warped.image[None], neighbour.image[None], region).item(),
        l1=mean_over(difference, region).item(),
        visible=region.float().mean().item(),
    )
