import math

import pytest
import torch

from latenteditor.evaluation.reprojection import Frame, reprojection_error, warp
from latenteditor.nerf.projection import PerspectiveCamera, project

SIZE = 48
FOCAL = 60.0
TOLERANCE = 0.01


def camera(x: float, turn: float = 0.0, distortion: tuple[float, ...] = (0.0,) * 6) -> PerspectiveCamera:
    """A camera two units above the plane z = 0, looking down at it, turned about its up axis by some degrees."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    pose = torch.tensor([[cosine, 0.0, sine, x], [0.0, 1.0, 0.0, 0.0], [-sine, 0.0, cosine, 2.0]])
    return PerspectiveCamera(torch.full((2,), FOCAL), torch.full((2,), SIZE / 2), pose, torch.tensor(distortion))


def directions(seen_by: PerspectiveCamera) -> torch.Tensor:
    """Unit vectors through the pixels' centres of a pinhole camera, in the world."""
    across = (torch.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    y, x = torch.meshgrid(-across, across, indexing="ij")
    local = torch.stack([x, y, -torch.ones_like(x)], dim=-1)
    return torch.nn.functional.normalize(local @ seen_by.camera_to_world[:, :3].T, dim=-1)


def paint(points: torch.Tensor) -> torch.Tensor:
    """A smooth pattern of the plane, which looks the same from everywhere."""
    x, y = points[..., 0], points[..., 1]
    return torch.stack([0.5 + 0.4 * torch.sin(3 * x), 0.5 + 0.4 * torch.cos(4 * y), 0.5 + 0.3 * torch.sin(2 * x + y)])


def see(seen_by: PerspectiveCamera, box: bool = False) -> Frame:
    """The plane z = 0; with a box, also a slab at z = 1 over |x| < 0.3, painted white."""
    rays, position = directions(seen_by), seen_by.camera_to_world[:, 3]
    depth = -position[2] / rays[..., 2]
    if box:
        to_slab = (1 - position[2]) / rays[..., 2]
        hits = (position[0] + to_slab * rays[..., 0]).abs() < 0.3
        depth = torch.where(hits, to_slab, depth)
    points = position + depth[..., None] * rays
    image = paint(points)
    return Frame(image.where(points[..., 2] < 0.5, 1.0), depth, points, seen_by)


def test_projecting_the_points_of_a_frame_gives_its_pixels():
    frame = see(camera(0.3, turn=10))
    pixels, ahead = project(frame.points, frame.camera)
    centres = torch.arange(SIZE) + 0.5
    expected = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)
    assert (ahead < frame.depth + 1e-5).all()


def test_projection_follows_opencvs_distortion():
    # x = 0.5, y = 0.25 in the camera's plane: r2 = 0.3125, radial = 1 + 0.1 r2, tangent (2 p1 xy, p1 (r2 + 2 y2)).
    point = torch.tensor([1.0, -0.5, 0.0])
    pixels, ahead = project(point, camera(0.0, distortion=(0.1, 0.0, 0.0, 0.0, 0.02, 0.0)))
    radial = 1 + 0.1 * 0.3125
    expected = torch.tensor([radial * 0.5 + 0.04 * 0.125, radial * 0.25 + 0.02 * (0.3125 + 2 * 0.0625)])
    torch.testing.assert_close(pixels, expected * FOCAL + SIZE / 2)
    assert ahead == pytest.approx(2.0)


@pytest.mark.parametrize("turn", [0.0, 12.0])
def test_a_plane_warped_into_a_neighbour_looks_as_the_neighbour_sees_it(turn):
    frame, neighbour = see(camera(0.0)), see(camera(0.4, turn))
    warped = warp(frame, neighbour, TOLERANCE)
    # The first camera sees 1.6 units of the plane, of which the second, straight down, shares all but 0.4.
    if turn == 0:
        assert warped.visible.float().mean() == pytest.approx(0.75, abs=2 / SIZE)
    difference = (warped.image - neighbour.image).abs() * warped.visible
    assert warped.visible.float().mean() > 0.4
    assert difference.max() < 2e-3
    assert reprojection_error(frame, neighbour, TOLERANCE).psnr > 50


def test_a_frame_warped_into_itself_is_itself():
    frame = see(camera(0.2, turn=5))
    error = reprojection_error(frame, frame, TOLERANCE)
    assert error.l1 < 1e-4
    assert error.visible > 0.9


def test_an_inconsistent_frame_is_off_by_what_was_added_to_it():
    frame, neighbour = see(camera(0.0)), see(camera(0.4))
    brighter = neighbour._replace(image=neighbour.image + 0.1)
    error = reprojection_error(frame, brighter, TOLERANCE)
    assert error.l1 == pytest.approx(0.1, abs=1e-3)
    assert error.psnr == pytest.approx(20.0, abs=0.1)


def test_what_a_nearer_surface_hides_is_not_compared():
    frame, neighbour = see(camera(0.0), box=True), see(camera(0.5), box=True)
    honest = warp(frame, neighbour, TOLERANCE)
    difference = (honest.image - neighbour.image).abs().amax(dim=0)
    assert difference[honest.visible].max() < 0.02
    # Without the test of depth, the slab's white lands on the plane beside it.
    everything = warp(frame, neighbour, depth_tolerance=0.99)
    wrong = (everything.image - neighbour.image).abs().amax(dim=0)[everything.visible & ~honest.visible]
    assert wrong.max() > 0.3


def test_wrong_depth_leaves_nothing_visible_and_no_figure():
    frame, neighbour = see(camera(0.0)), see(camera(0.4))
    error = reprojection_error(frame._replace(depth=1.5 * frame.depth), neighbour, TOLERANCE)
    assert error.visible == 0
    assert math.isnan(error.psnr)
    assert math.isnan(error.l1)


def test_what_lies_behind_the_camera_is_not_visible():
    frame = see(camera(0.0))
    behind = frame._replace(points=frame.points + torch.tensor([0.0, 0.0, 4.0]))
    assert not warp(frame, behind, TOLERANCE).visible.any()
