import numpy as np
import pytest

from latenteditor.miniature.instructions import Recolouring
from latenteditor.miniature.pairs import to_bytes
from latenteditor.miniature.render import (
    FLOOR,
    SKY,
    SUPERSAMPLING,
    Camera,
    Tracer,
    dome_camera,
    floor_colours,
    look_at,
)
from latenteditor.miniature.world import Floor, Solid, World, random_world

RADIUS = 0.35
FLOOR_LOOK = Floor("checked", ((0.7, 0.7, 0.7), (0.3, 0.3, 0.3)), 0.5)


def world_of(*solids: Solid) -> World:
    return World(solids, FLOOR_LOOK, (0.8, 0.85, 0.9), (0.3, 0.5, 0.8), (0.0, 0.6, 0.8))


def touched(hits, solids) -> np.ndarray:
    """The pixels of which at least one ray meets one of the solids."""
    side = hits.camera.size
    met = np.isin(hits.met, solids).reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    return met.any(axis=(1, 3))


@pytest.fixture(scope="module")
def hits():
    return Tracer(random_world(3, num_solids=3)).trace(dome_camera(np.random.default_rng(0), 48))


@pytest.fixture(scope="module")
def sphere_hits():
    """A sphere on the floor, seen from the side with its centre in the middle."""
    centre = np.array([0.1, -0.2, RADIUS])
    eye = centre + np.array([2.0, 0.5, 0.8])
    sphere = Solid("sphere", "red", (0.1, -0.2), RADIUS, heading=0.3)
    return Tracer(world_of(sphere)).trace(Camera(look_at(eye, centre), np.radians(30), 64)), eye, centre


@pytest.mark.parametrize("eye", [(2.0, 0.0, 1.0), (-1.0, 2.5, 0.4), (0.3, -0.2, 3.0)])
def test_poses_are_right_handed_and_orthonormal(eye):
    pose = look_at(np.array(eye), np.array((0.1, 0.0, 0.2)))
    rotation = pose[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert pose[3].tolist() == [0, 0, 0, 1]
    assert np.array_equal(pose[:3, 3], eye)
    assert rotation[2, 1] > 0  # What is up in the picture is up in the world.
    assert rotation[2, 0] == pytest.approx(0)


def test_a_camera_sees_its_target_in_the_middle():
    eye, target = np.array((2.0, -1.0, 1.5)), np.array((0.2, 0.1, 0.3))
    _, directions = Camera(look_at(eye, target), 0.8, 9).rays(1)
    distance = np.linalg.norm(target - eye)
    np.testing.assert_allclose(eye + distance * directions[81 // 2], target, atol=1e-12)


def test_the_outermost_rays_span_the_field_of_view():
    side = 50
    camera = Camera(np.eye(4), np.radians(40), side)
    _, directions = camera.rays(1)
    x = directions[:side, 0] / -directions[:side, 2]
    # Rays pass through the middles of pixels, half a pixel inside the picture's edges.
    np.testing.assert_allclose(x[[0, -1]] * side / (side - 1), (-np.tan(np.radians(20)), np.tan(np.radians(20))))


def test_a_camera_that_looks_straight_down_measures_its_height_everywhere():
    pose = np.eye(4)
    pose[:3, 3] = (5.0, 5.0, 1.7)
    hits = Tracer(world_of(Solid("cube", "red", (0.0, 0.0), 0.3, 0.0))).trace(Camera(pose, 0.6, 16))
    assert (hits.met == FLOOR).all()
    assert not hits.ids.any()
    np.testing.assert_allclose(hits.depth, 1.7, rtol=1e-12)


def test_rays_above_the_horizon_meet_the_sky_infinitely_far(hits):
    _, directions = hits.camera.rays(SUPERSAMPLING)
    rising = directions[:, 2] >= 0
    assert (hits.met[~rising] != SKY).all()
    assert np.isinf(hits.distance[hits.met == SKY]).all()
    assert (hits.distance[hits.met == FLOOR] < np.inf).all()


def test_a_sphere_is_seen_where_rays_pass_its_centre_closer_than_its_radius(sphere_hits):
    hits, eye, centre = sphere_hits
    _, directions = hits.camera.rays(SUPERSAMPLING)
    along = directions @ (centre - eye)
    passing = np.sqrt(((centre - eye) ** 2).sum() - along**2)
    sure = np.abs(passing / RADIUS - 1) > 0.005  # A sphere of flat faces is a little smaller.
    assert sure.mean() > 0.98
    assert np.array_equal(hits.met[sure] == 0, passing[sure] < RADIUS)
    assert 0.1 < (hits.met == 0).mean() < 0.5


def test_a_spheres_distance_is_that_of_its_closed_form(sphere_hits):
    hits, eye, centre = sphere_hits
    _, directions = hits.camera.rays(SUPERSAMPLING)
    along = directions @ (centre - eye)
    passing_squared = ((centre - eye) ** 2).sum() - along**2
    steep = passing_squared < (0.9 * RADIUS) ** 2  # Where a ray grazes, small dents are long.
    expected = along[steep] - np.sqrt(RADIUS**2 - passing_squared[steep])
    np.testing.assert_allclose(hits.distance[steep], expected, atol=0.01 * RADIUS)
    middle = hits.camera.size // 2
    assert hits.depth[middle, middle] == pytest.approx(np.linalg.norm(centre - eye) - RADIUS, abs=0.01 * RADIUS)


def test_a_pixel_belongs_to_the_solid_that_fills_at_least_half_of_it(hits):
    side = hits.camera.size
    met = hits.met.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    assert set(np.unique(hits.ids)) == {0, 1, 2, 3}
    for index in range(3):
        share = (met == index).mean(axis=(1, 3))
        assert (share[hits.ids == index + 1] >= 0.5).all()
        assert (hits.ids[share > 0.5] == index + 1).all()
    assert (hits.ids[~touched(hits, (0, 1, 2))] == 0).all()


@pytest.mark.parametrize("solids", [(0,), (1,), (2,), (0, 2)])
def test_recolouring_changes_every_pixel_that_meets_the_solids_and_no_other_bit(hits, solids):
    before = to_bytes(hits.shade(hits.world))
    after = to_bytes(hits.shade(Recolouring(solids, "cyan").apply(hits.world)))
    assert all(hits.world.solids[index].colour != "cyan" for index in solids)
    assert np.array_equal((before != after).any(axis=-1), touched(hits, solids))


def test_light_lies_between_the_ambient_share_and_one(hits):
    assert hits.light.min() == pytest.approx(0.45)
    assert hits.light.max() <= 1
    shadowed_floor = (hits.met == FLOOR) & (hits.light == 0.45)
    assert 0 < shadowed_floor.sum() < (hits.met == FLOOR).sum()


def test_the_floor_has_its_pattern():
    points = np.array([(0.1, 0.1, 0), (0.6, 0.1, 0), (0.6, 0.6, 0), (-0.1, 0.1, 0)])
    first, second = FLOOR_LOOK.colours

    def pattern(name):
        colours = floor_colours(Floor(name, FLOOR_LOOK.colours, FLOOR_LOOK.period), points)
        return ["first" if colour == pytest.approx(first) else "second" for colour in colours]

    assert pattern("plain") == ["first"] * 4
    assert pattern("striped") == ["first", "second", "second", "second"]
    assert pattern("checked") == ["first", "second", "first", "second"]
    assert second != first


def test_cameras_stand_on_the_dome_and_look_near_the_middle():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = dome_camera(rng, 8).camera_to_world
        eye, forward = pose[:3, 3], -pose[:3, 2]
        assert 2.4 <= np.linalg.norm(eye) <= 3.4
        assert 0.25 <= np.arcsin(eye[2] / np.linalg.norm(eye)) <= 0.9
        closest = eye - (eye @ forward) * forward
        assert np.linalg.norm(closest) < 0.45
