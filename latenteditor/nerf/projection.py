"""Where points appear in perspective cameras.

Cameras follow nerfstudio's and OpenGL's convention: a camera looks along its own -z, y is up; pixel centres lie at
half-integer coordinates.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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


class Located(NamedTuple):
    """Where points appear in an image."""

    grid: Float[Tensor, "*shape 2"]
    """As `grid_sample` takes it, without aligned corners; the middle where they do not appear."""
    within: Bool[Tensor, "*shape"]
    """Which appear in it."""
    distance: Float[Tensor, "*shape"]
    """From the camera."""


def locate(
    points: Float[Tensor, "*shape 3"], camera: PerspectiveCamera, size: tuple[int, int], margin: float = 0.5
) -> Located:
    """Looks for points in a camera's image of (height, width), whose outermost `margin` pixels do not count."""
    pixels, ahead = project(points, camera)
    width_height = torch.tensor([size[1], size[0]], device=pixels.device, dtype=pixels.dtype)
    within = ((pixels >= margin) & (pixels <= width_height - margin)).all(dim=-1) & (ahead > 0)
    grid = (2 * pixels / width_height - 1).where(within[..., None], 0.0)
    return Located(grid, within, (points - camera.camera_to_world[:, 3]).norm(dim=-1))


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
