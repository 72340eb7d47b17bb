from dataclasses import replace

import numpy as np
import pytest

from latenteditor.pictures import to_bytes
from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import (
    AMBIENT,
    FLOOR,
    SKY,
    SUPERSAMPLING,
    Camera,
    Tracer,
    dome_camera,
    floor_colours,
    look_at,
)
from latenteditor.worlds.world import COLOURS, NUM_STRIPES, STRIPE_COLOUR, Floor, Solid, World, random_world

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
    after = to_bytes(hits.shade(Instruction(solids, colour="cyan").apply(hits.world)))
    assert all(hits.world.solids[index].colour != "cyan" for index in solids)
    assert np.array_equal((before != after).any(axis=-1), touched(hits, solids))


def in_material(hits, index: int, material: str) -> np.ndarray:
    """The picture with one solid in a material."""
    solids = list(hits.world.solids)
    solids[index] = replace(solids[index], material=material)
    return hits.shade(replace(hits.world, solids=tuple(solids)))


@pytest.mark.parametrize("material", ["shiny", "striped"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_material_shows_on_its_solid_and_changes_no_other_bit(hits, index, material):
    matte, other = in_material(hits, index, "matte"), in_material(hits, index, material)
    changed = (matte != other).any(axis=-1)
    assert not changed[~touched(hits, index)].any()
    assert changed[hits.ids == index + 1].mean() > (0.95 if material == "shiny" else 0.2)
    assert changed[hits.ids == index + 1].all() == (material == "shiny")


def test_stripes_lie_at_even_heights_and_take_the_same_light(sphere_hits):
    hits, eye, _ = sphere_hits
    origins, directions = hits.camera.rays(SUPERSAMPLING)
    heights = (origins + directions * hits.distance[:, None])[:, 2] / (2 * RADIUS)
    picture = in_material(hits, 0, "striped")
    side = hits.camera.size

    def pixels(values):
        return values.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).swapaxes(1, 2).reshape(side, side, -1)

    light, low, high = pixels(hits.light).mean(-1), pixels(heights).min(-1), pixels(heights).max(-1)
    inside = (pixels(hits.met) == 0).all(axis=-1)
    seen = set()
    for band in range(NUM_STRIPES):
        whole = inside & (low > band / NUM_STRIPES) & (high < (band + 1) / NUM_STRIPES)
        colour = STRIPE_COLOUR if band % 2 else COLOURS["red"]
        np.testing.assert_allclose(picture[whole], light[whole, None] * colour, atol=1e-9)
        seen |= {band} if whole.any() else set()
    assert seen >= {1, 2, 3, 4}


def test_a_shiny_sphere_is_brightest_where_it_mirrors_the_light(sphere_hits):
    hits, eye, centre = sphere_hits
    towards_eye = (eye - centre) / np.linalg.norm(eye - centre)
    halfway = towards_eye + np.array(hits.world.light)
    spot = centre + RADIUS * halfway / np.linalg.norm(halfway)
    pose = hits.camera.camera_to_world
    x, y, z = pose[:3, :3].T @ (spot - eye)
    middle, focal_length = hits.camera.size / 2, hits.camera.focal_length
    expected = (middle + focal_length * y / z, middle - focal_length * x / z)
    shine = (in_material(hits, 0, "shiny") - in_material(hits, 0, "matte")).sum(axis=-1)
    brightest = np.unravel_index(shine.argmax(), shine.shape)
    np.testing.assert_allclose(np.add(brightest, 0.5), expected, atol=3)
    assert shine.max() > 0.5
    shadowed = ((hits.met == 0) & (hits.light == AMBIENT)).reshape(64, SUPERSAMPLING, 64, SUPERSAMPLING)
    assert shine[shadowed.all(axis=(1, 3))].max() < 0.5


def test_a_pixel_is_floor_where_the_floor_fills_at_least_half_of_it(hits):
    side = hits.camera.size
    share = (hits.met == FLOOR).reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).mean(axis=(1, 3))
    assert np.array_equal(hits.floor, share >= 0.5)
    assert 0 < hits.floor.sum() < hits.floor.size


def test_an_empty_world_is_floor_and_sky(hits):
    world = replace(hits.world, solids=())
    empty = Tracer(world).trace(hits.camera)
    assert set(np.unique(empty.met)) == {FLOOR, SKY}
    assert not empty.ids.any()
    assert np.array_equal(empty.met[hits.met < 0], hits.met[hits.met < 0])
    lit = AMBIENT + (1 - AMBIENT) * world.light[2]
    np.testing.assert_allclose(empty.light[empty.met == FLOOR], lit)
    assert np.isfinite(empty.shade(world)).all()


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
