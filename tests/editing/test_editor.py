import dataclasses

import pytest
import torch

from latenteditor.editing.delta_mask import DeltaMaskConfig
from latenteditor.editing.editor import EditConfig, Editor, LatentEditor, edit_from_noise
from latenteditor.editing.guidance import Guidance, denoise
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
    edit = make_editor(plain_config(blending=blending, max_batch=max_batch)).edit(rendered, originals, [3, 5], PROMPT)
    assert torch.equal(edit.mask, region().expand(2, 1, ROWS, COLUMNS))
    assert torch.equal(edit.edited.where(~edit.mask, 0.0), originals.where(~edit.mask, 0.0))
    expected = (originals + change()).where(edit.mask, 0.0)
    torch.testing.assert_close(edit.edited.where(edit.mask, 0.0), expected, atol=1e-4, rtol=1e-4)


def test_text_guidance_multiplies_the_change():
    originals = draw()
    config = EditConfig(prompt=PROMPT, guidance=Guidance(text=7.5, image=1.0))
    edit = make_editor(config).edit(originals, originals, [0, 1], PROMPT)
    torch.testing.assert_close(edit.edited, originals + 7.5 * change(), atol=1e-3, rtol=1e-3)


def test_without_a_mask_the_whole_view_is_edited():
    originals = draw()
    denoiser = KnownEdit(torch.ones(4, ROWS, COLUMNS))
    edit = make_editor(plain_config(mask="none"), denoiser).edit(draw(seed=1), originals, [0, 1], PROMPT)
    assert edit.score is None
    assert edit.mask.all()
    torch.testing.assert_close(edit.edited, originals + 1.0, atol=1e-4, rtol=1e-4)


def test_a_prompt_that_applies_nowhere_leaves_the_view_bit_for_bit():
    originals = draw()
    denoiser = KnownEdit(change(), prompt="another prompt")
    edit = make_editor(plain_config(), denoiser).edit(draw(seed=1), originals, [0, 1], PROMPT)
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
    edit = make_editor(plain_config(), SecondOnly(change())).edit(originals, originals, [0, 1], PROMPT)
    assert torch.equal(edit.edited[0], originals[0])
    torch.testing.assert_close(edit.edited[1], originals[1] + change(), atol=1e-4, rtol=1e-4)


def test_arguments_are_not_changed():
    originals, rendered = draw(), draw(seed=1)
    make_editor(plain_config()).edit(rendered, originals, [0, 1], PROMPT)
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
    make_editor(config, Watching(change())).edit(rendered, originals, [0], PROMPT)
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
        editor.edit(draw(1), draw(1), [0], PROMPT)
    schedule = noise_schedule()
    assert schedule.timestep_at(0.3) <= min(starts) < max(starts) <= schedule.timestep_at(0.4)
    assert len(set(starts)) > 10


def test_scores_are_measured_once_until_what_they_depend_on_changes():
    denoiser, config = KnownEdit(change()), plain_config()
    editor = make_editor(config, denoiser)

    def calls_for(views, prompt=PROMPT) -> int:
        before = len(denoiser.batch_sizes)
        editor.score(draw(len(views)), views, prompt)
        return len(denoiser.batch_sizes) - before

    assert calls_for([0, 1]) == config.delta_mask.draws
    assert calls_for([1, 0]) == 0
    assert calls_for([1, 2]) == config.delta_mask.draws
    config.delta_mask.threshold = 0.7
    assert calls_for([0, 1, 2]) == 0
    assert calls_for([0], "another prompt") == config.delta_mask.draws
    assert calls_for([0]) == 0, "the scores of each instruction are kept"
    for owner, name, value in [
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
    first, second = editor.score(draw(1), [0], PROMPT), editor.score(draw(1, seed=1) * 0, [1], PROMPT)
    assert torch.equal(editor.score(draw(2), [1, 0], PROMPT), torch.cat([second, first]))


def test_a_restored_editor_goes_on_as_the_one_that_was_saved():
    originals = draw()
    saved, restored = make_editor(EditConfig(PROMPT)), make_editor(EditConfig(PROMPT, seed=0))
    saved.edit(originals, originals, [0, 1], PROMPT)
    restored.load_state_dict(saved.state_dict())
    edits = [editor.edit(draw(seed=1), originals, [0, 1], PROMPT).edited for editor in (saved, restored)]
    assert torch.equal(*edits)
    assert len(restored.denoiser.batch_sizes) == 20, "the score is not measured again"


def agree_on_the_mean(prompt: str, relevance: list[torch.Tensor]) -> list[torch.Tensor]:
    """What views of one camera agree on."""
    return [torch.stack(relevance).mean(dim=0)] * len(relevance)


def test_a_survey_scores_every_view_once_and_returns_its_mask():
    denoiser = KnownEdit(change())
    editor = make_editor(plain_config(), denoiser)
    assert not editor.surveyed(PROMPT)
    masks = editor.survey(list(draw(11)), PROMPT)
    assert editor.surveyed(PROMPT)
    assert not editor.surveyed("another prompt")
    assert len(masks) == 11
    assert all(torch.equal(mask, region()) for mask in masks)
    measured = len(denoiser.batch_sizes)
    assert all(torch.equal(*pair) for pair in zip(editor.survey([], PROMPT), masks, strict=True))
    editor.score(draw(1), [7], PROMPT)
    assert len(denoiser.batch_sizes) == measured


def test_views_of_different_sizes_are_surveyed_in_their_order():
    """One view in which only the third row changes, and a smaller one in which nothing does."""

    class ThirdRow(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            self.change = torch.zeros(4, *noisy.shape[-2:])
            if noisy.shape[-1] == COLUMNS:
                self.change[:, 2] = 2.0
            return super().predict_noise(noisy, image_condition, timestep, prompts)

    small = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(2))
    masks = make_editor(plain_config(), ThirdRow(change())).survey([small, draw(1)[0], small], PROMPT)
    assert [tuple(mask.shape) for mask in masks] == [(1, 6, 8), (1, ROWS, COLUMNS), (1, 6, 8)]
    assert [int(mask.sum()) for mask in masks] == [0, COLUMNS, 0]


def test_the_mask_of_the_field_is_what_all_views_agree_on():
    """A cell that three of four views find is masked in all; one that a single view finds is not."""

    class Flickering(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            marks = image_condition[:, :1, :1, :1].sign() * (image_condition[:, :1, :1, :1].abs() > 50)
            asked = torch.tensor([bool(prompt) for prompt in prompts])[:, None, None, None]
            once = torch.zeros(1, 4, ROWS, COLUMNS)
            often = once.clone()
            often[..., 4, 4], once[..., 8, 8] = 2.0, 2.0
            return noisy + asked * ((marks >= 0) * often + (marks < 0) * once)

    views = draw(4)
    views[0, 0, 0, 0] = -100.0
    editor = LatentEditor(Flickering(change()), plain_config(mask="field"), agree_on_the_mean)
    masks = editor.survey(list(views), PROMPT)
    _, again = editor.find_mask(views, [0, 1, 2, 3], PROMPT)
    assert torch.equal(again, torch.stack(masks))
    assert all(bool(mask[0, 4, 4]) for mask in masks)
    assert not any(bool(mask[0, 8, 8]) for mask in masks)
    editor.config.mask = "per-view"
    single = editor.survey([], PROMPT)
    assert bool(single[0][0, 8, 8])
    assert not bool(single[0][0, 4, 4])


@pytest.mark.parametrize("mask", ["per-view", "field"])
def test_a_few_views_that_find_something_do_not_speak_for_all(mask):
    """One view in twelve reaches the gate: nothing is masked, unless a view may decide for itself."""

    class OneView(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            marks = (image_condition[:, :1, :1, :1].abs() > 50).to(noisy)
            asked = torch.tensor([bool(prompt) for prompt in prompts])[:, None, None, None]
            return noisy + asked * marks * self.change

    views = draw(12)
    views[5, 0, 0, 0] = -100.0
    editor = LatentEditor(OneView(change()), plain_config(mask=mask), agree_on_the_mean)
    assert not any(bool(found.any()) for found in editor.survey(list(views), PROMPT))
    editor.config.delta_mask.least_views = 0.0
    editor.config.delta_mask.threshold = 0.05
    assert bool(editor.survey([], PROMPT)[5].any())


def test_the_gate_holds_for_the_field_too_and_nothing_is_fitted_to_nothing():
    asked = []
    config = plain_config(mask="field")
    editor = LatentEditor(KnownEdit(change(), prompt="another prompt"), config, lambda *call: asked.append(call))
    assert not any(bool(mask.any()) for mask in editor.survey(list(draw(3)), PROMPT))
    assert not asked


def test_a_survey_is_repeated_after_forgetting_and_after_its_settings_changed():
    editor = LatentEditor(KnownEdit(change()), plain_config(mask="field"), agree_on_the_mean)
    editor.survey(list(draw(2)), PROMPT)
    editor.config.delta_mask.threshold = 0.8
    assert editor.surveyed(PROMPT), "a threshold only cuts what was measured"
    editor.forget()
    assert not editor.surveyed(PROMPT)
    editor.survey(list(draw(2)), PROMPT)
    editor.config.delta_mask.noise_level = 0.5
    assert not editor.surveyed(PROMPT)


def test_views_that_were_not_surveyed_together_have_no_mask_of_the_field():
    editor = LatentEditor(KnownEdit(change()), plain_config(mask="field"), agree_on_the_mean)
    with pytest.raises(ValueError, match="must be surveyed together"):
        editor.edit(draw(), draw(), [0, 1], PROMPT)


def test_a_scene_without_a_relevance_head_is_refused_at_once():
    with pytest.raises(ValueError, match='no relevance head: take the mask "per-view" or "none"'):
        make_editor(plain_config(mask="field"))


def test_denoising_ends_at_what_the_denoiser_knows_from_pure_noise():
    denoiser = KnownEdit(change())
    edited = denoise(denoiser, draw(seed=1), draw(), [980, 700, 300, 1], PROMPT, Guidance(1.0, 1.0))
    torch.testing.assert_close(edited, draw() + change(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mask", ["per-view", "none"])
@pytest.mark.parametrize("prompt", ["", "  "])
def test_a_missing_prompt_is_refused(mask, prompt):
    with pytest.raises(ValueError, match="nothing to edit by: give a prompt"):
        make_editor(EditConfig(mask=mask)).edit(draw(), draw(), [0, 1], prompt)


def test_more_steps_than_the_least_noise_has_room_for_are_refused_at_once():
    with pytest.raises(ValueError, match="Cannot fit 50 denoising steps between timestep 20 and 0"):
        make_editor(plain_config(denoising_steps=50))


def test_noise_levels_in_the_wrong_order_are_refused_at_once():
    with pytest.raises(ValueError, match=r"least noise of an edit, 0\.9, exceeds the most, 0\.5"):
        make_editor(plain_config(min_noise=0.9, max_noise=0.5))


def test_results_that_are_not_finite_are_refused_where_nobody_tries_again():
    denoiser = KnownEdit(torch.full((4, 1, 1), torch.inf))
    with pytest.raises(ValueError, match="not finite: try full precision or less guidance"):
        edit_from_noise(denoiser, draw(), draw(), plain_config())


def test_renderings_that_are_not_finite_are_refused_before_they_are_denoised():
    denoiser = KnownEdit(change())
    with pytest.raises(ValueError, match="scene renders numbers that are not finite"):
        make_editor(plain_config(mask="none"), denoiser).edit(draw() / 0.0, draw(), [0, 1], PROMPT)
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
