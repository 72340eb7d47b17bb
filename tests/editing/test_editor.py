import dataclasses

import pytest
import torch

from latenteditor.editing.delta_mask import DeltaMaskConfig
from latenteditor.editing.editor import EditConfig, Editor, LatentEditor, denoise
from latenteditor.editing.guidance import Guidance
from tests.editing.denoisers import KnownEdit, noise_schedule

ROWS, COLUMNS = 12, 16
PROMPT = "paint it"


def region() -> torch.Tensor:
    region = torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool)
    region[:, 3:7, 5:11] = True
    return region


def change() -> torch.Tensor:
    """What the prompt does to a view: a colour in the region."""
    return torch.tensor([1.0, -2.0, 0.5, 2.0])[:, None, None] * region()


def draw(views: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(views, 4, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


def plain_config(**options) -> EditConfig:
    """Without guidance beyond the prediction, an edit is what the denoiser knows."""
    return EditConfig(prompt=PROMPT, guidance=Guidance(text=1.0, image=1.0), **options)


def make_editor(config: EditConfig, denoiser: KnownEdit | None = None) -> LatentEditor:
    return LatentEditor(denoiser or KnownEdit(change()), config)


@pytest.mark.parametrize("blending", ["final", "per-step"])
@pytest.mark.parametrize("max_batch", [None, 1])
def test_edit_changes_the_instructed_region_and_nothing_else(blending, max_batch):
    originals, rendered = draw(), draw(seed=1)
    edit = make_editor(plain_config(blending=blending, max_batch=max_batch)).edit(rendered, originals, [3, 5])
    assert torch.equal(edit.mask, region().expand(2, 1, ROWS, COLUMNS))
    assert torch.equal(edit.edited.where(~edit.mask, 0.0), originals.where(~edit.mask, 0.0))
    expected = (originals + change()).where(edit.mask, 0.0)
    torch.testing.assert_close(edit.edited.where(edit.mask, 0.0), expected, atol=1e-4, rtol=1e-4)


def test_text_guidance_multiplies_the_change():
    originals = draw()
    config = EditConfig(prompt=PROMPT, guidance=Guidance(text=7.5, image=1.0))
    edit = make_editor(config).edit(originals, originals, [0, 1])
    torch.testing.assert_close(edit.edited, originals + 7.5 * change(), atol=1e-3, rtol=1e-3)


def test_without_a_mask_the_whole_view_is_edited():
    originals = draw()
    denoiser = KnownEdit(torch.ones(4, ROWS, COLUMNS))
    edit = make_editor(plain_config(mask="none"), denoiser).edit(draw(seed=1), originals, [0, 1])
    assert edit.score is None
    assert edit.mask.all()
    torch.testing.assert_close(edit.edited, originals + 1.0, atol=1e-4, rtol=1e-4)


def test_a_prompt_that_applies_nowhere_leaves_the_view_bit_for_bit():
    originals = draw()
    denoiser = KnownEdit(change(), prompt="another prompt")
    edit = make_editor(plain_config(), denoiser).edit(draw(seed=1), originals, [0, 1])
    assert torch.equal(edit.edited, originals)
    assert not edit.mask.any()
    assert denoiser.batch_sizes == [4] * 4, "only the score is measured"


def test_a_view_without_a_mask_is_untouched_beside_one_that_has_one():
    class SecondOnly(KnownEdit):
        """Edits the views whose first channel is positive on average."""

        def predict_noise(self, noisy, image_condition, timestep, prompts):
            chosen = image_condition[:, 0].flatten(1).mean(dim=1) > 0
            prompts = [prompt if fits else "" for prompt, fits in zip(prompts, chosen, strict=True)]
            return super().predict_noise(noisy, image_condition, timestep, prompts)

    originals = torch.cat([draw(1) - 1.0, draw(1) + 1.0])
    edit = make_editor(plain_config(), SecondOnly(change())).edit(originals, originals, [0, 1])
    assert torch.equal(edit.edited[0], originals[0])
    torch.testing.assert_close(edit.edited[1], originals[1] + change(), atol=1e-4, rtol=1e-4)


def test_arguments_are_not_changed():
    originals, rendered = draw(), draw(seed=1)
    make_editor(plain_config()).edit(rendered, originals, [0, 1])
    assert torch.equal(originals, draw())
    assert torch.equal(rendered, draw(seed=1))


def test_per_step_blending_shows_the_inside_its_surroundings_at_the_next_timestep():
    """After a step that reaches timestep s the outside is the original, noised to s by the edit's noise."""
    seen = []

    class Watching(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            seen.append((timestep, noisy[:1].clone()))
            return super().predict_noise(noisy, image_condition, timestep, prompts)

    config = plain_config(blending="per-step", denoising_steps=5, delta_mask=DeltaMaskConfig(draws=1))
    originals, rendered = draw(1), draw(1, seed=1)
    make_editor(config, Watching(change())).edit(rendered, originals, [0])
    schedule, outside = noise_schedule(), ~region().expand_as(originals)
    (start, first), *later = seen[1:]
    noise = (first - schedule.add_noise(rendered, torch.zeros_like(rendered), start)) / (
        1 - schedule.alphas_cumprod[start]
    ).sqrt()
    assert len(later) == 4
    for timestep, noisy in later:
        expected = schedule.add_noise(originals, noise, timestep)
        torch.testing.assert_close(noisy[outside], expected[outside], atol=1e-4, rtol=1e-4)


def test_edits_start_between_the_least_and_the_most_noise():
    starts = []

    class Watching(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            starts.append(timestep)
            return super().predict_noise(noisy, image_condition, timestep, prompts)

    config = plain_config(mask="none", min_noise=0.3, max_noise=0.4, denoising_steps=1)
    editor = make_editor(config, Watching(change()))
    for _ in range(50):
        editor.edit(draw(1), draw(1), [0])
    schedule = noise_schedule()
    assert schedule.timestep_at(0.3) <= min(starts) < max(starts) <= schedule.timestep_at(0.4)
    assert len(set(starts)) > 10


def test_scores_are_measured_once_until_what_they_depend_on_changes():
    denoiser, config = KnownEdit(change()), plain_config()
    editor = make_editor(config, denoiser)

    def calls_for(views) -> int:
        before = len(denoiser.batch_sizes)
        editor.score(draw(len(views)), views)
        return len(denoiser.batch_sizes) - before

    assert calls_for([0, 1]) == config.delta_mask.draws
    assert calls_for([1, 0]) == 0
    assert calls_for([1, 2]) == config.delta_mask.draws
    config.delta_mask.threshold = 0.7
    assert calls_for([0, 1, 2]) == 0
    for owner, name, value in [
        (config, "prompt", "another prompt"),
        (config, "seed", 1),
        (config.delta_mask, "noise_level", 0.6),
        (config.delta_mask, "draws", 2),
    ]:
        setattr(owner, name, value)
        assert calls_for([0]) == config.delta_mask.draws
        assert calls_for([0]) == 0


def test_a_kept_score_belongs_to_its_view():
    denoiser = KnownEdit(change())
    editor = make_editor(plain_config(), denoiser)
    first, second = editor.score(draw(1), [0]), editor.score(draw(1, seed=1) * 0, [1])
    assert torch.equal(editor.score(draw(2), [1, 0]), torch.cat([second, first]))


def test_a_restored_editor_goes_on_as_the_one_that_was_saved():
    originals = draw()
    saved, restored = make_editor(EditConfig(PROMPT)), make_editor(EditConfig(PROMPT, seed=0))
    saved.edit(originals, originals, [0, 1])
    restored.load_state_dict(saved.state_dict())
    edits = [editor.edit(draw(seed=1), originals, [0, 1]).edited for editor in (saved, restored)]
    assert torch.equal(*edits)
    assert len(restored.denoiser.batch_sizes) == 20, "the score is not measured again"


def test_denoising_ends_at_what_the_denoiser_knows_from_pure_noise():
    denoiser = KnownEdit(change())
    edited = denoise(denoiser, draw(seed=1), draw(), [980, 700, 300, 1], PROMPT, Guidance(1.0, 1.0))
    torch.testing.assert_close(edited, draw() + change(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mask", ["per-view", "none"])
@pytest.mark.parametrize("prompt", ["", "  "])
def test_a_missing_prompt_is_refused(mask, prompt):
    with pytest.raises(ValueError, match="nothing to edit by: give a prompt"):
        make_editor(EditConfig(prompt, mask=mask)).edit(draw(), draw(), [0, 1])


def test_more_steps_than_the_least_noise_has_room_for_are_refused_at_once():
    with pytest.raises(ValueError, match="Cannot fit 50 denoising steps between timestep 20 and 0"):
        make_editor(plain_config(denoising_steps=50))


def test_noise_levels_in_the_wrong_order_are_refused_at_once():
    with pytest.raises(ValueError, match=r"least noise of an edit, 0\.9, exceeds the most, 0\.5"):
        make_editor(plain_config(min_noise=0.9, max_noise=0.5))


def test_results_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite: try full precision or less guidance"):
        make_editor(plain_config(mask="none"), KnownEdit(torch.full((4, 1, 1), torch.inf))).edit(draw(), draw(), [0, 1])


def test_renderings_that_are_not_finite_are_refused_before_they_are_denoised():
    denoiser = KnownEdit(change())
    with pytest.raises(ValueError, match="scene renders numbers that are not finite"):
        make_editor(plain_config(mask="none"), denoiser).edit(draw() / 0.0, draw(), [0, 1])
    assert not denoiser.batch_sizes


def test_the_defaults_fit_the_schedule_of_stable_diffusion():
    schedule = noise_schedule(first_timestep=1)
    make_editor(EditConfig(PROMPT), KnownEdit(change(), schedule=schedule))


def test_the_latent_editor_is_an_editor():
    assert isinstance(make_editor(plain_config()), Editor)


def test_every_setting_has_a_flag_and_a_help_text(capsys):
    import tyro

    config = tyro.cli(
        EditConfig,
        args=[
            "--prompt",
            PROMPT,
            "--guidance.text",
            "3",
            "--delta-mask.threshold",
            "None",
            "--max-batch",
            "1",
        ],
    )
    assert (config.prompt, config.guidance.text, config.delta_mask.threshold) == (PROMPT, 3.0, None)
    with pytest.raises(SystemExit):
        tyro.cli(EditConfig, args=["--help"])
    shown = capsys.readouterr().out
    for setting in dataclasses.fields(EditConfig):
        assert setting.name.replace("_", "-") in shown
