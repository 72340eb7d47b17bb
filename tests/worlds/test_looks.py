from itertools import permutations

import numpy as np
import pytest

from latenteditor.worlds.looks import LOOKS, from_oklab, hue_share, night, pencil, recolour_hue, sepia, to_oklab
from latenteditor.worlds.world import COLOURS

SHADES = (0.55, 0.8, 1.0)


def patch(colour: str) -> np.ndarray:
    """A colour by name, in shadow and in light."""
    return np.array([[np.array(COLOURS[colour]) * shade for shade in SHADES]])


def greys() -> np.ndarray:
    """From black to white."""
    return np.repeat(np.linspace(0, 1, 9)[None, :, None], 3, axis=-1)


def scene(side: int = 24) -> np.ndarray:
    """Noise, with black and white corners."""
    picture = np.random.default_rng(0).uniform(size=(side, side + 4, 3))
    picture[:6, :6], picture[-6:, -6:] = 0, 1
    return picture


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((1, 0, 0), (0.628, 0.225, 0.126)),
        ((0, 1, 0), (0.866, -0.234, 0.180)),
        ((0, 0, 1), (0.452, -0.032, -0.312)),
        ((1, 1, 1), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_colours_have_the_published_coordinates(colour, lab):
    np.testing.assert_allclose(to_oklab(np.array([[colour]], dtype=float))[0, 0], lab, atol=6e-4)


def test_every_colour_comes_back():
    levels = np.linspace(0, 1, 12)
    picture = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(36, 48, 3)
    np.testing.assert_allclose(from_oklab(to_oklab(picture)), picture, atol=1e-6)


def test_what_a_screen_cannot_show_is_clipped():
    shown = from_oklab(np.array([[[0.5, 0.4, 0.0], [1.2, 0.0, 0.0], [-0.1, 0.0, -0.3]]]))
    assert np.isfinite(shown).all()
    assert shown.min() >= 0
    assert shown.max() <= 1 + 1e-9


def test_the_shares_of_all_hues_are_at_most_one_and_all_of_a_vivid_pixel():
    picture = scene()
    shares = np.stack([hue_share(picture, colour) for colour in COLOURS])
    assert shares.min() >= 0
    assert shares.sum(axis=0).max() <= 1 + 1e-9
    chroma = np.hypot(*np.moveaxis(to_oklab(picture)[..., 1:], -1, 0))
    assert (chroma > 0.08).mean() > 0.5
    np.testing.assert_allclose(shares.sum(axis=0)[chroma > 0.08], 1)
    assert np.allclose(shares.sum(axis=0)[chroma < 0.035], 0)
    between = (chroma > 0.04) & (chroma < 0.075)
    assert ((shares.sum(axis=0) > 0.01) & (shares.sum(axis=0) < 0.99))[between].all()
    assert between.any()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_by_name_has_that_hue_and_no_other(colour):
    for name in COLOURS:
        share = hue_share(patch(colour), name)
        assert (share > 0.95).all() if name == colour else (share < 0.05).all()
    assert not hue_share(greys(), colour).any()


@pytest.mark.parametrize(("old", "new"), permutations(COLOURS, 2))
def test_a_hue_becomes_the_named_one_and_all_else_stays(old, new):
    assert (hue_share(recolour_hue(patch(old), old, new), new) > 0.9).all()
    others = np.concatenate([patch(name) for name in COLOURS if name not in (old, new)])
    np.testing.assert_allclose(to_oklab(recolour_hue(others, old, new)), to_oklab(others), atol=0.015)
    np.testing.assert_allclose(recolour_hue(greys(), old, new), greys(), atol=1e-6)


def test_a_hue_may_stay_what_it_is():
    picture = scene()
    np.testing.assert_allclose(recolour_hue(picture, "red", "red"), picture, atol=1e-6)


def test_half_the_difference_in_lightness_is_taken_over():
    lightness = {name: to_oklab(np.array([[COLOURS[name]]]))[0, 0, 0] for name in ("blue", "yellow")}
    turned = to_oklab(recolour_hue(patch("yellow")[:, -1:], "yellow", "blue"))[0, 0, 0]
    assert turned == pytest.approx((lightness["blue"] + lightness["yellow"]) / 2, abs=0.02)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("picture", [scene(), np.concatenate([patch(name) for name in COLOURS])], ids=["noise", "hues"])
def test_a_look_keeps_size_and_range_and_changes_the_picture(look, picture):
    after = LOOKS[look](picture)
    assert after.shape == picture.shape
    assert np.isfinite(after).all()
    assert after.min() >= 0
    assert after.max() <= 1 + 1e-9
    assert np.abs(after - picture).max() > 0.1


def test_night_is_darker_and_bluer():
    before, after = to_oklab(scene()), to_oklab(night(scene()))
    assert (after[..., 0] <= np.maximum(before[..., 0], 0.05)).all()
    assert after[..., 0].mean() < 0.6 * before[..., 0].mean()
    assert after[..., 2].mean() < before[..., 2].mean() - 0.02


def test_black_and_white_keeps_lightness_alone():
    lab = to_oklab(LOOKS["black and white"](scene()))
    np.testing.assert_allclose(lab[..., 0], to_oklab(scene())[..., 0], atol=1e-6)
    np.testing.assert_allclose(lab[..., 1:], 0, atol=1e-6)


def test_sepia_is_brown_in_every_tone():
    red, green, blue = np.moveaxis(sepia(greys())[0, 1:-1], -1, 0)
    assert (red > green).all()
    assert (green > blue).all()
    assert (np.diff(to_oklab(sepia(greys()))[0, :, 0]) > 0).all()


def test_pencil_strokes_lie_at_edges_on_bright_paper_and_have_no_colour():
    picture = np.full((12, 12, 3), 0.1)
    picture[:, 6:] = (0.9, 0.2, 0.2)
    drawn = pencil(picture)
    np.testing.assert_allclose(drawn, drawn[..., :1] * np.ones(3), atol=1e-6)
    assert drawn[:, 5:7].max() < 0.5
    assert np.delete(drawn, [5, 6], axis=1).min() > 0.75
