import numpy as np
import pytest

from latenteditor.worlds.world import MATERIALS, SHAPES, Solid, random_world

SEEDS = range(40)


def test_a_seed_is_one_world_and_another_seed_another():
    worlds = [random_world(seed) for seed in SEEDS]
    assert worlds == [random_world(seed) for seed in SEEDS]
    assert len(set(worlds)) == len(worlds)


def test_worlds_hold_two_to_four_solids_unless_told():
    assert {len(random_world(seed).solids) for seed in SEEDS} == {2, 3, 4}
    for count in (1, 2, 3, 4):
        assert len(random_world(0, num_solids=count).solids) == count


@pytest.mark.parametrize("num_solids", [0, 6, 9])
def test_more_solids_than_shapes_are_refused(num_solids):
    with pytest.raises(ValueError, match=f"1 to 5 solids of different shapes, not {num_solids}"):
        random_world(0, num_solids)


def test_no_two_solids_share_a_shape_or_a_colour():
    for seed in SEEDS:
        solids = random_world(seed, num_solids=4).solids
        assert len({solid.shape for solid in solids}) == len(solids)
        assert len({solid.colour for solid in solids}) == len(solids)


def test_no_two_solids_touch():
    for seed in SEEDS:
        corners = [solid.mesh().vertices for solid in random_world(seed, num_solids=4).solids]
        boxes = [(vertices.min(axis=0)[:2], vertices.max(axis=0)[:2]) for vertices in corners]
        centres = [(low + high) / 2 for low, high in boxes]
        radii = [
            np.linalg.norm(vertices[:, :2] - centre, axis=1).max()
            for vertices, centre in zip(corners, centres, strict=True)
        ]
        for one in range(len(centres)):
            for other in range(one):
                assert np.linalg.norm(centres[one] - centres[other]) > 0.99 * (radii[one] + radii[other])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_solid_stands_on_the_floor_around_its_position_and_about_as_wide_as_it_says(shape):
    low, high = Solid(shape, "red", (0.4, -0.2), size=0.3, heading=0.7).mesh().bounds
    assert low[2] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose((low + high)[:2] / 2, (0.4, -0.2), atol=0.01)
    assert (high - low)[:2] == pytest.approx(0.6, rel=0.3)
    assert high[2] == pytest.approx(Solid(shape, "blue", (0.0, 0.0), size=0.3, heading=0.0).height)


def test_the_light_is_a_unit_vector_from_above():
    for seed in SEEDS:
        light = random_world(seed).light
        assert np.linalg.norm(light) == pytest.approx(1)
        assert light[2] > 0.6


def test_solids_are_of_every_material_and_most_are_matte():
    materials = [solid.material for seed in SEEDS for solid in random_world(seed).solids]
    assert set(materials) == set(MATERIALS)
    assert 0.4 < materials.count("matte") / len(materials) < 0.8
    assert Solid("cone", "red", (0.0, 0.0), size=0.3, heading=0.0).material == "matte"
