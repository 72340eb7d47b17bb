"""An editor that knows the world: what it draws, how near it keeps to what a scene shows, and where it edits."""

import numpy as np
import pytest
import torch

from latenteditor.editing.denoiser import Conditions
from latenteditor.editing.editor import EditConfig, Editor, Surveyor
from latenteditor.editing.noise_schedule import DiffusionSchedule
from latenteditor.editing.pixel_editor import PixelEditor
from latenteditor.worlds.dataset import dome_cameras
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.oracle import OracleConfig, OracleEditor, Pixels, search
from latenteditor.worlds.render import Tracer
from latenteditor.worlds.truth import follow
from latenteditor.worlds.variants import HUE, POSITION, SIZE, SOLID_TRAITS, TRAITS, hue_rotation, vary, vary_world
from latenteditor.worlds.world import COLOURS, Solid, random_world

SEED, SIZE_OF_VIEW, FACTOR = 3_000_600, 48, 8
WORLD = random_world(SEED)
CAMERAS = dome_cameras(3, SIZE_OF_VIEW, SEED)
RECOLOURING, RESHAPING, REMOVAL = "make the cyan torus red", "turn the cyan torus into a cube", "remove the cyan torus"
PROMPTS = (RECOLOURING, "make the cyan torus striped", RESHAPING, REMOVAL)


class SilentDenoiser:
    """Has a noise schedule, and predicts nothing."""

    conditions = Conditions()
    noise_schedule = DiffusionSchedule(torch.linspace(0.999, 0.001, 101))

    def predict_noise(self, *_: object) -> None:
        raise AssertionError("the oracle asks no network")


def oracle(disagreement: float, mask: str = "per-view", whole_picture: bool = False) -> OracleEditor:
    """One that edits images of the world."""
    config = EditConfig(mask=mask, denoising_steps=2, min_noise=0.5)  # type: ignore[arg-type]
    how = OracleConfig(disagreement, whole_picture)
    return OracleEditor(SilentDenoiser(), config, WORLD, CAMERAS, Pixels(), FACTOR, how)  # type: ignore[arg-type]


def truth(view: int, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture and region of a view after a prompt."""
    after, region = follow(parse(prompt, WORLD), Tracer(WORLD).trace(CAMERAS[view]))
    return torch.from_numpy(after).float().movedim(-1, 0), torch.from_numpy(region)


def photograph(view: int) -> torch.Tensor:
    """A view of the world as it was."""
    return torch.from_numpy(Tracer(WORLD).trace(CAMERAS[view]).shade(WORLD)).float().movedim(-1, 0)


def noise(seed: int) -> torch.Tensor:
    """What decides which variant is drawn."""
    return torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_without_disagreement_every_view_is_drawn_as_the_truth(prompt):
    for view in range(len(CAMERAS)):
        drawn = oracle(0.0).draw(view, prompt, photograph(view), 1.0, noise(view))
        torch.testing.assert_close(drawn, truth(view, prompt)[0])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_drawings_differ_from_noise_to_noise_the_more_the_larger_the_disagreement(prompt):
    known = truth(0, prompt)[0]

    def distance(disagreement: float) -> float:
        editor = oracle(disagreement)
        drawn = [editor.draw(0, prompt, known, 1.0, noise(seed)) for seed in range(6)]
        assert torch.equal(drawn[0], editor.draw(0, prompt, known, 1.0, noise(0)))
        return sum(float((picture - known).square().mean()) for picture in drawn)

    assert 0 < distance(0.2) < distance(1.0)


def test_the_less_noise_the_nearer_to_what_the_scene_shows():
    editor = oracle(1.0)
    shown = editor.draw(1, RECOLOURING, photograph(1), 1.0, noise(0))
    other = editor.draw(1, RECOLOURING, photograph(1), 1.0, noise(1))
    distances = [
        float((editor.draw(1, RECOLOURING, shown, share, noise(1)) - shown).norm()) for share in (0.0, 0.3, 0.6, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[0] == 0.0
    assert distances[-1] == pytest.approx(float((other - shown).norm()))


def test_what_a_scene_shows_is_recognised():
    editor = oracle(0.6)
    for seed in range(3):
        drawn = editor._draw_numbers(noise(seed))
        found = editor.recognise(2, RESHAPING, editor.draw(2, RESHAPING, photograph(2), 1.0, noise(seed)))
        hue = SOLID_TRAITS.index("hue")
        assert abs(found[hue] - drawn[hue]) < 0.6 / 3
        assert np.abs(found).max() <= 0.6


def test_a_search_finds_the_least_error_to_a_third_of_its_reach():
    wanted = np.zeros(len(TRAITS))
    wanted[: len(SOLID_TRAITS)] = 0.5, -0.5, 0.25, 0.0, -0.16, 0.33
    found = search(lambda numbers: float(((numbers - wanted) ** 2).sum()), 0.5)
    assert np.abs(found - wanted).max() <= 0.5 / 6 + 1e-9


def test_a_mask_holds_the_true_region_and_little_more():
    editor, bases = oracle(0.0), torch.stack([photograph(0), photograph(1)])
    score, mask = editor.find_mask(bases, [0, 1], REMOVAL)
    assert score is None
    for view in (0, 1):
        region = truth(view, REMOVAL)[1]
        assert mask[view, 0][region].all()
        far = torch.nn.functional.max_pool2d(region[None].float(), 6 * FACTOR + 1, 1, 3 * FACTOR)[0] == 0
        assert far.any() and not mask[view, 0][far].any()
    whole = oracle(0.0, "none")
    assert whole.find_mask(bases, [0, 1], REMOVAL)[1].all()
    cells = editor.survey([], REMOVAL)
    assert [tuple(view.shape) for view in cells] == [(1, SIZE_OF_VIEW // FACTOR, SIZE_OF_VIEW // FACTOR)] * 3
    assert torch.equal(mask[1, 0, ::FACTOR, ::FACTOR], cells[1][0])


def test_images_outside_the_mask_stay_as_they_are():
    editor = PixelEditor(oracle(1.0), Pixels())
    assert isinstance(editor, Editor) and isinstance(editor, Surveyor) and editor.surveyed(RECOLOURING)
    bases = torch.stack([photograph(0), photograph(1)])
    edit = editor.edit(bases, bases, [0, 1], RECOLOURING)
    outside = ~edit.mask.expand_as(bases)
    assert torch.equal(edit.edited[outside], bases[outside])
    assert not torch.equal(edit.edited, bases)


def test_only_whole_pictures_that_disagree_move_what_is_not_edited():
    rest = ~truth(0, RECOLOURING)[1]
    known = truth(0, RECOLOURING)[0]
    still, moved = (
        oracle(0.3, whole_picture=whole).draw(0, RECOLOURING, known, 1.0, noise(0)) for whole in (False, True)
    )
    assert float((moved - known).abs().mean(dim=0)[rest].mean()) > 0.02
    assert float((still - known).abs().mean(dim=0)[rest].median()) < 1e-6


def test_a_third_of_the_circle_takes_red_to_green_and_greys_stay():
    red, green = np.eye(3)[0], np.eye(3)[1]
    np.testing.assert_allclose(hue_rotation(120.0) @ red, green, atol=1e-12)
    np.testing.assert_allclose(hue_rotation(77.0) @ np.ones(3), np.ones(3))
    np.testing.assert_allclose(hue_rotation(40.0) @ hue_rotation(-40.0), np.eye(3), atol=1e-12)


def test_numbers_say_how_far_a_solid_is_off():
    numbers = np.zeros(len(TRAITS))
    numbers[: len(SOLID_TRAITS)] = 0.5, 0.0, -0.5, 1.0, 0.0, 0.0
    solid = WORLD.solids[1]
    varied = vary(solid, numbers)
    assert varied.hue == HUE / 2
    assert varied.size == pytest.approx(solid.size * (1 - SIZE / 2))
    assert varied.position[0] - solid.position[0] == pytest.approx(POSITION * solid.size)
    points = np.zeros((2, 3))
    same = vary(Solid("cone", "red", (0.0, 0.0), 0.3, 0.0), np.zeros(len(TRAITS)))
    np.testing.assert_allclose(same.paint(points), [COLOURS["red"]] * 2)


def test_a_removed_solid_leaves_a_remnant_only_where_views_disagree():
    removal, numbers = parse(REMOVAL, WORLD), np.zeros(len(TRAITS))
    assert vary_world(WORLD, removal, numbers) == removal.apply(WORLD)
    numbers[SOLID_TRAITS.index("size")] = -0.5
    left = vary_world(WORLD, removal, numbers).solids
    assert [solid.shape for solid in left] == ["cone", "torus"]
    assert left[-1].size == pytest.approx(WORLD.solids[1].size / 2)


def test_a_disagreement_is_a_share():
    with pytest.raises(ValueError, match=r"0 \(not at all\) to 1, not by 1.5"):
        oracle(1.5)
