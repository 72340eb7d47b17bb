"""Multi-view consistency: one frame, carried into its neighbour by depth and cameras, should look like it.

Cameras follow nerfstudio's and OpenGL's convention: a camera looks along its own -z, y is up; pixel centres lie at
half-integer coordinates. Depth is the distance from the camera along the ray, as nerfacto renders it, not along the
optical axis, in the unit of the cameras' positions.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.metrics import mean_over, psnr


class PerspectiveCamera(NamedTuple):
    """A camera with the distortion of OpenCV's model."""

    focal: Float[Tensor, "2"]
    """Focal lengths in pixels, across and down."""
    centre: Float[Tensor, "2"]
    """The principal point in pixels, from the left and from the top."""
    camera_to_world: Float[Tensor, "3 4"]
    """Rotation and position."""
    distortion: Float[Tensor, "6"]
    """k1, k2, k3, k4 of the radius and p1, p2 of the tangent, in nerfstudio's order; zeros for a pinhole."""


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


def project(
    points: Float[Tensor, "*shape 3"], camera: PerspectiveCamera
) -> tuple[Float[Tensor, "*shape 2"], Float[Tensor, "*shape"]]:
    """Returns the pixel coordinates of points and how far in front of the camera they lie, along its axis."""
    rotation, position = camera.camera_to_world[:, :3], camera.camera_to_world[:, 3]
    local = (points - position) @ rotation
    ahead = -local[..., 2]
    x, y = local[..., 0] / ahead, -local[..., 1] / ahead
    k1, k2, k3, k4, p1, p2 = camera.distortion
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
    distorted = torch.stack(
        [
            radial * x + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            radial * y + 2 * p2 * x * y + p1 * (square + 2 * y * y),
        ],
        dim=-1,
    )
    return distorted * camera.focal + camera.centre, ahead


def warp(frame: Frame, neighbour: Frame, depth_tolerance: float) -> Warped:
    """Carries a frame into its neighbour's camera.

    Args:
        frame: Where the colours come from.
        neighbour: Whose camera, and whose depth, says which point each pixel shows.
        depth_tolerance: A point counts as visible in `frame` if its distance and the depth seen there differ by at
            most this share of the distance.
    """
    height, width = frame.depth.shape
    pixels, ahead = project(neighbour.points, frame.camera)
    size = torch.tensor([width, height], device=pixels.device, dtype=pixels.dtype)
    within = ((pixels >= 0.5) & (pixels <= size - 0.5)).all(dim=-1) & (ahead > 0)
    grid = (2 * pixels / size - 1).where(within[..., None], 0.0)[None]
    seen = torch.cat([frame.image, frame.depth[None]])[None]
    colours, depth = F.grid_sample(seen, grid, padding_mode="border", align_corners=False)[0].split([3, 1])
    distance = (neighbour.points - frame.camera.camera_to_world[:, 3]).norm(dim=-1)
    visible = within & ((depth[0] - distance).abs() <= depth_tolerance * distance)
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
