"""The guard: what an editor moved and lit anew is put back, and what cannot be put back is told."""

import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor.benchmark.black_boxes import painted_over
from latenteditor.black_box.change import change, match_colours
from latenteditor.black_box.registration import _agreed, _guesses, _structure, move, register
from latenteditor.networks.black_boxes import from_pil
from latenteditor.pictures import to_bytes
from latenteditor.worlds.dataset import dome_cameras
from latenteditor.worlds.render import Tracer
from latenteditor.worlds.world import random_world

SIZE = 96


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    """Blocks of random colours, each in another place."""
    rng = np.random.default_rng(0)
    picture = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    for _ in range(60):
        row, column = rng.integers(0, SIZE - 10, 2)
        height, width = rng.integers(5, 16, 2)
        picture[row : row + height, column : column + width] = rng.uniform(0.1, 0.9, 3)
    return torch.from_numpy(picture).permute(2, 0, 1)


def edited_in_a_square(picture: torch.Tensor) -> torch.Tensor:
    painted = picture.clone()
    painted[:, 40:60, 30:50] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    return painted


def motion(zoom: float, across: float, down: float) -> np.ndarray:
    return np.array([[zoom, 0, across], [0, zoom, down]], np.float32)


def furthest(found: np.ndarray, true: np.ndarray) -> float:
    """Pixels by which two motions differ at most, in the picture's corners."""
    corners = np.array([[x, y, 1] for x in (0, SIZE) for y in (0, SIZE)], float)
    return float(np.linalg.norm(corners @ (found - true).astype(float).T, axis=1).max())


@pytest.mark.parametrize("true", [motion(1, 0, 0), motion(1, 4.3, -2.6), motion(1.05, -2, -3), motion(0.95, 2, 3)])
def test_a_known_motion_and_light_are_undone_to_within_a_pixel_while_something_changed(photograph, true):
    made = (move(edited_in_a_square(photograph), true) ** 1.2 * 0.85).clamp(0, 1)
    found = register(photograph, made)
    assert found.fault is None
    assert furthest(found.matrix, true) < 1
    matched = match_colours(found.picture, photograph, found.seen)
    outside = found.seen.clone()
    outside[:, 38:62, 28:52] = False
    difference = change(matched, photograph, found.seen)
    assert difference[outside].mean() < 0.02
    assert difference[:, 44:56, 34:46].mean() > 0.2


@pytest.mark.parametrize("true", [motion(1, 0, 0), motion(1, 4.3, -2.6), motion(1.05, -2, -3)])
def test_a_background_that_is_painted_over_speaks_against_no_motion(photograph, true):
    pixels = (edited_in_a_square(photograph).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    painted = painted_over(pixels, np.random.default_rng(1))
    assert (painted != pixels).any(axis=2).mean() > 0.1
    made = move(torch.from_numpy(painted).permute(2, 0, 1).float() / 255, true)
    found = register(photograph, made)
    assert found.fault is None and furthest(found.matrix, true) < 1
    assert register(photograph, made.flip(2)).fault


def test_points_in_one_place_do_not_tell_where_all_of_a_picture_lies(photograph):
    made = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    made[:, :24, :24] = photograph[:, :24, :24]
    assert register(photograph, made).fault


def test_looking_for_a_shift_leaves_the_structure_as_it_is(photograph):
    structure, nowhere = _structure(photograph), np.zeros((0, 2), np.float32)
    before = structure.copy()
    _guesses(structure, structure, (nowhere, nowhere), turns=False)
    assert np.array_equal(structure, before)


@pytest.mark.parametrize("turns", [False, True])
def test_the_motion_that_most_agree_on_is_found_among_others(turns):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, SIZE, (40, 2)).astype(np.float32)
    true = np.array([[0.98, -0.05, 3], [0.05, 0.98, -2]]) if turns else motion(1.04, 3, -2)
    places = (points @ true[:, :2].T + true[:, 2]).astype(np.float32)
    places[:15] += rng.uniform(-20, 20, (15, 2))
    found = _agreed(points, places, 0.5, turns)
    assert found is not None and furthest(found, true) < 0.1
    assert _agreed(points[:1], places[:1], 0.5, turns) is None


def test_another_size_is_the_same_picture(photograph):
    larger = torch.nn.functional.interpolate(photograph[None], (150, 150), mode="bilinear")[0]
    found = register(photograph, larger)
    assert found.fault is None and found.picture.shape == photograph.shape and found.moved < 1


def test_what_cannot_be_put_right_is_told(photograph):
    noise = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    for made in (photograph.flip(2), photograph.transpose(1, 2), noise, torch.full_like(photograph, 0.3)):
        assert register(photograph, made).fault
    assert register(torch.zeros_like(photograph), torch.zeros_like(photograph)).fault


def test_what_is_gone_is_not_seen(photograph):
    found = register(photograph, move(photograph, motion(1, 5, 0)))
    assert not found.seen[0, :, -4:].any() and found.seen[0, 10:-10, 10:-10].all()


def test_colours_are_matched_without_taking_the_edit_back(photograph):
    edited = edited_in_a_square(photograph)
    seen = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    matched = match_colours((0.8 * edited + 0.05), photograph, seen)
    assert torch.allclose(matched, edited, atol=0.02)


def test_colours_are_matched_where_much_of_a_picture_was_painted_over():
    camera = dome_cameras(4, SIZE, seed=1)[0]
    pixels = to_bytes(Tracer(random_world(1)).trace(camera).shade(random_world(1)))
    view, seen = from_pil(Image.fromarray(pixels)), torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    for seed in (1, 2, 3):
        painted = from_pil(Image.fromarray(painted_over(pixels, np.random.default_rng(seed))))
        kept = (painted == view).all(dim=0)
        assert kept.float().mean() < 0.9
        for gain in (1.0, 0.8):
            matched = match_colours(gain * painted, view, seen)
            assert (matched - view).abs()[:, kept].mean() < 0.01
