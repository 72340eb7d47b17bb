from dataclasses import replace

import pytest
import torch

from latenteditor.editing.delta_mask import DeltaMaskConfig
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.editing.guidance import Guidance
from latenteditor.editing.preview import preview
from tests.editing.denoisers import KnownEdit

ROWS, COLUMNS, STEPS = 10, 14, 4
THRESHOLDS = (0.2, 0.6, None)
GUIDANCES = (Guidance(1.0, 1.0), Guidance(2.0, 1.0))


def strength() -> torch.Tensor:
    """How much the prompt changes: all in the middle, half around it, nothing elsewhere."""
    strength = torch.zeros(1, ROWS, COLUMNS)
    strength[:, 2:8, 3:11], strength[:, 4:6, 5:8] = 0.5, 1.0
    return strength


def change() -> torch.Tensor:
    return torch.tensor([1.0, -2.0, 0.5, 2.0])[:, None, None] * strength()


def view(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 4, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def config(**options) -> EditConfig:
    return EditConfig(prompt="paint it", guidance=Guidance(1.0, 1.0), denoising_steps=STEPS, **options)


@pytest.mark.parametrize("blending", ["final", "per-step"])
def test_every_edit_is_the_original_and_the_guided_change_inside_its_mask(blending):
    original = view()
    found = preview(KnownEdit(change()), view(1), original, config(blending=blending), THRESHOLDS, GUIDANCES)
    assert torch.equal(found.masks, torch.stack([strength() > 0, strength() > 0.5, strength() > -1]))
    for column, guidance in enumerate(GUIDANCES):
        for row, mask in enumerate(found.masks):
            edit = found.edits[column, row]
            assert torch.equal(edit.where(~mask, 0.0), original[0].where(~mask, 0.0))
            expected = original[0] + guidance.text * change()
            torch.testing.assert_close(edit.where(mask, 0.0), expected.where(mask, 0.0), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("blending", "edits"), [("final", 2), ("per-step", 6)])
def test_a_threshold_costs_an_edit_of_its_own_only_where_each_step_is_blended(blending, edits):
    denoiser, told = KnownEdit(change()), []
    preview(
        denoiser,
        view(),
        view(),
        config(blending=blending, delta_mask=DeltaMaskConfig(draws=2)),
        THRESHOLDS,
        GUIDANCES,
        lambda done, total: told.append((done, total)),
    )
    # An image guidance of 1 needs no third prediction, and a text guidance of 1 beside it no second one.
    sizes = [1 if guidance.text == 1 else 2 for guidance in GUIDANCES for _ in range(edits // len(GUIDANCES) * STEPS)]
    assert denoiser.batch_sizes == [2] * 2 + sizes
    assert told == [(done + 1, edits * STEPS) for done in range(edits * STEPS)]


def test_blending_per_step_is_an_edit_with_that_mask():
    class Surroundings(KnownEdit):
        """Takes the mean of what it sees along, so that what lies outside the mask matters inside."""

        def predict_noise(self, noisy, image_condition, timestep, prompts):
            return (
                super().predict_noise(noisy, image_condition, timestep, prompts)
                + noisy.mean(dim=(2, 3))[..., None, None]
            )

    asked = config(blending="per-step")
    found = preview(Surroundings(change()), view(1), view(), asked, (0.2, 0.6))
    for mask, edit in zip(found.masks, found.edits[0], strict=True):
        alone = edit_from_noise(Surroundings(change()), view(1), view(), asked, mask[None])
        assert torch.equal(edit, alone[0])
    final = preview(Surroundings(change()), view(1), view(), replace(asked, blending="final"), (0.2, 0.6))
    assert not torch.allclose(final.edits, found.edits)


def test_a_prompt_that_applies_nowhere_costs_no_edit():
    denoiser = KnownEdit(change(), prompt="another prompt")
    found = preview(denoiser, view(1), view(), config(), (0.2, 0.6), GUIDANCES)
    assert not found.masks.any()
    assert torch.equal(found.edits, view().expand(2, 2, 4, ROWS, COLUMNS))
    assert denoiser.batch_sizes == [2] * 4, "only the score is measured"


@pytest.mark.parametrize(("mask", "covered"), [("per-view", strength() > 0.5), ("none", strength() > -1)])
def test_the_edits_own_mask_and_guidance_are_the_default(mask, covered):
    asked = config(mask=mask, delta_mask=DeltaMaskConfig(threshold=0.6))
    found = preview(KnownEdit(change()), view(1), view(), asked)
    assert torch.equal(found.masks, covered[None])
    torch.testing.assert_close(found.edits[0], (view() + change() * covered), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("asked", "thresholds", "expected"),
    [
        (config(min_noise=0.9, max_noise=0.5), None, "least noise of an edit, 0.9, exceeds the most"),
        (config(), (0.5, 1.5), "threshold lies between 0 and 1, not at 1.5"),
        (replace(config(), prompt=" "), None, "nothing to edit by: give a prompt"),
    ],
)
def test_settings_that_training_would_refuse_are_refused_before_anything_is_measured(asked, thresholds, expected):
    denoiser = KnownEdit(change())
    with pytest.raises(ValueError, match=expected):
        preview(denoiser, view(), view(), asked, thresholds)
    assert denoiser.batch_sizes == []
